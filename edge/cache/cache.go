package cache

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node"
)

// Config is what a Cache is made with.
type Config struct {
	Store         *kvcache.Cache
	Memory        int64 // bytes of the store's memory; responses being collected may use a quarter of it
	Node          string
	Mesh          *mesh.Conn
	Peers         Peers // nodes that fetch for one another; nil if this node is alone
	OfflineServes bool  // serve stored responses even while this node can't receive purges
	PurgeClients  []node.Prefix
	Settings      func() *exchange.Settings // returns the settings in force now
	Log           *slog.Logger
}

// Cache is the HTTP cache of a node: the state that the policies of all its routes share. It is safe for concurrent
// use.
type Cache struct {
	cfg          Config
	store        *kvcache.Cache
	stats        statsByRoute
	flights      kvcache.Flights[result]
	budget       budget
	clocks       clocks
	varyMu       sync.Mutex // held while the record of a URL's variants is read, changed and written
	unresponsive unresponsive
	origins      origins
}

// New returns the cache of a node. It starts nothing.
func New(cfg Config) *Cache {
	s := &Cache{cfg: cfg, store: cfg.Store}
	s.budget.max, s.budget.endsWithin = cfg.Memory/4, endsWithin
	return s
}

// Origins returns the scheme and host of requests that the cache didn't answer from the store, the newest first.
func (s *Cache) Origins() []string { return s.origins.newest() }

// scratch is the memory that the cache keeps with one exchange. It is large, so exchanges of routes that don't cache
// have none.
type scratch struct {
	lookup     lookup        // what the store has for the request
	fields     [4]mesh.Field // memory for the fields that are added to a stored response
	response   mesh.Response // memory for a stored response
	stored     stored
	waited     int       // how many times it waited again for another request's fetch
	home       bool      // another node asks, so this node doesn't ask a third one
	refreshing time.Time // for a refresh: when the response to be replaced was received
}

// reset makes the scratch ready for another exchange. Whoever uses the other fields sets all of them first.
func (s *scratch) reset() { s.waited, s.home, s.refreshing = 0, false, time.Time{} }

var local = exchange.NewLocal((*scratch).reset)

// scratchOf returns the exchange's scratch, which it makes if there is none.
func scratchOf(x *exchange.Exchange) *scratch { return local.Make(x) }

// isHome reports whether another node asks. Then this node is the key's home and asks no third one.
func isHome(x *exchange.Exchange) bool {
	s := local.Of(x)
	return s != nil && s.home
}

// refreshes returns when the response that the exchange is to replace was received; zero if any response will do.
func refreshes(x *exchange.Exchange) time.Time {
	if s := local.Of(x); s != nil {
		return s.refreshing
	}
	return time.Time{}
}

// detach returns a copy of the exchange for a fetch. It doesn't end when the client goes away.
func detach(x *exchange.Exchange) *exchange.Exchange {
	d := x.Detach()
	if isHome(x) {
		scratchOf(d).home = true
	}
	return d
}

// Invalidates returns the policy of a route that doesn't cache: its unsafe requests invalidate what another route has
// stored for their URL.
func (s *Cache) Invalidates() exchange.Policy {
	return exchange.Policy{Name: "invalidate", Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			resp, err := next(ctx, x)
			if err == nil && x.Settings.Caches {
				s.invalidate(ctx, x, resp)
			}
			return resp, err
		}
	}}
}
