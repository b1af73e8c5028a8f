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

// Config says what a Cache works with.
type Config struct {
	Store         *kvcache.Cache
	Memory        int64 // bytes of the store's memory; a quarter of it may hold responses that are being collected
	Node          string
	Mesh          *mesh.Conn
	Peers         Peers // nodes that fetch for one another; nil alone
	OfflineServes bool  // stored responses are given out though this node can't hear of purges
	PurgeClients  []node.Prefix
	Settings      func() *exchange.Settings // of this moment
	Log           *slog.Logger
}

// Cache is the HTTP cache of a node: what the policies of all its routes share. It is safe for concurrent use.
type Cache struct {
	cfg          Config
	store        *kvcache.Cache
	stats        statsByRoute
	flights      kvcache.Flights[result]
	filling      filling
	clocks       clocks
	varying      sync.Mutex // held while what is known of a URL's variants changes
	unresponsive unresponsive
	origins      origins
}

// New makes the cache.
func New(cfg Config) *Cache {
	s := &Cache{cfg: cfg, store: cfg.Store}
	s.filling.max, s.filling.endsWithin = cfg.Memory/4, endsWithin
	return s
}

// Origins lists scheme and host of requests that the cache was asked for and hadn't, the newest first.
func (s *Cache) Origins() []string { return s.origins.newest() }

// scratch is what the cache keeps with one exchange. It is large, and those of routes that don't cache do without.
type scratch struct {
	lookup     lookup        // what the store has
	fields     [4]mesh.Field // for the few fields that a stored response gets
	response   mesh.Response // for a stored response
	stored     exchange.Stored
	waited     int       // fetches of others that it waited for
	home       bool      // another node asks: no third one is asked
	refreshing time.Time // when the response was received that a newer one is wanted for
}

// Reset makes the scratch ready for another exchange.
func (s *scratch) Reset() { *s = scratch{} }

var slot = exchange.NewLocal[scratch]() //nolint:gochecknoglobals // its number never changes

// scratchOf gives the exchange's scratch.
func scratchOf(x *exchange.Exchange) *scratch { return slot.Make(x) }

// isHome reports whether another node asks, so that no third one is asked.
func isHome(x *exchange.Exchange) bool {
	s := slot.Of(x)
	return s != nil && s.home
}

// refreshes gives when the response was received that a newer one is wanted for; zero if any will do.
func refreshes(x *exchange.Exchange) time.Time {
	if s := slot.Of(x); s != nil {
		return s.refreshing
	}
	return time.Time{}
}

// detach makes an exchange of its own for a fetch, which no client's end concerns.
func detach(x *exchange.Exchange) *exchange.Exchange {
	d := x.Detach()
	if isHome(x) {
		scratchOf(d).home = true
	}
	return d
}

// Invalidates is the policy of a route that doesn't cache: its unsafe requests invalidate what another route has stored
// of their URL.
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
