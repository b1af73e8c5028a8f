package edge

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// RightmostUntrusted is the rule by which clientAddr finds the client.
var RightmostUntrusted = rightmostUntrusted

// Prepared is what the member gets for an exchange that came from peer, with these trusted proxies.
func Prepared(x *exchange.Exchange, peer string, trusted ...node.Prefix) (*mesh.Request, netip.Addr) {
	x.Peer, x.Route = netip.MustParseAddr(peer), &exchange.Route{ID: "r"}
	set := &exchange.Settings{Edge: node.Edge{TrustedProxies: trusted}, Via: "millrace-test"}
	if x.Accept(set); x.Outcome.Refusal != nil {
		return nil, netip.Addr{}
	}
	var out *mesh.Request
	h := identified(clientAddr().Wrap(func(context.Context, *exchange.Exchange) (*mesh.Response, error) {
		out = x.Prepare()
		return &mesh.Response{Status: 200}, nil
	}))
	_, _ = h(context.Background(), x)
	return out, x.Client
}

// CacheFetches is the number of fetches of the cache that run.
func (s *Server) CacheFetches() int { return s.cache.Fetches() }

// SetEndsWithin and TakeRoom are the cache's.
func (s *Server) SetEndsWithin(d time.Duration) { s.cache.SetEndsWithin(d) }
func (s *Server) TakeRoom() (free func())       { return s.cache.TakeRoom() }

// Insert puts a policy of the test's own behind the one of that name, into the chain of every route.
func (s *Server) Insert(behind string, p exchange.Policy) {
	policies := s.chain
	s.chain = func(r *exchange.Route) []exchange.Policy {
		list := policies(r)
		i := slices.IndexFunc(list, func(p exchange.Policy) bool { return p.Name == behind })
		return slices.Insert(list, i+1, p)
	}
	s.SetRoutes(s.cfg.Edge, s.cfg.Routes)
}

// PassedByHits returns the names of the policies with which a hit has nothing to do, of a route with limits and cache.
func (s *Server) PassedByHits(r node.Route) (names []string) {
	for _, p := range s.newRoute(r, r.ID(), nil).Policies {
		if p.Short != nil && p.Short.Enter == nil && p.Short.Answer == nil && p.Short.Leave == nil &&
			p.Short.Done == nil {
			names = append(names, p.Name)
		}
	}
	return names
}
