package edge

import (
	"context"
	"fmt"
	"runtime/debug"

	"millrace/edge/cache"
	"millrace/edge/exchange"
	"millrace/edge/ratelimit"
	"millrace/mesh"
	"millrace/node"
)

// policies returns the policies of a route. The first is the outermost: it gets a request first and its response last.
// The short way of a hit is derived from the same list (exchange.Short), up to the sites or the cache. DESIGN.md gives
// the reasons for the order.
func (s *Server) policies(r *exchange.Route) []exchange.Policy {
	list := []exchange.Policy{
		identify(),   // request id and trace; every response carries the id
		s.observe(r), // log, metrics, event
		problems(),   // errors become RFC 9457 responses
		s.contain(),  // panics become errors
		clientAddr(), // address of the client, behind trusted proxies
	}
	// Authentication goes here, in a package of its own, with an Enter that checks hits too. Members' gathers
	// (Server.Gather) and fetches for other nodes (cache.Cache.Fetch) don't pass this chain.
	if len(r.Limit) > 0 && s.cfg.Limits != nil {
		list = append(list, ratelimit.New(s.limits, r)) // refuses requests beyond the limits
	}
	stored := s.storing(r)
	if s.sites != nil && len(r.Sites()) > 0 {
		list = append(list, s.sites.Policy(r, stored.Short)) // answers with the files of sites
		if r.Origin().Kind == "" {
			return list
		}
	}
	if stored.Wrap != nil {
		list = append(list, stored) // answers from the cache
	}
	return append(list, s.takeBody(), s.admit(), deadline())
}

// storing returns the route's cache, or the policy by which a route without one discards what others store. It is the
// zero Policy on a node without a cache.
func (s *Server) storing(r *exchange.Route) exchange.Policy {
	switch {
	case s.cache == nil:
		return exchange.Policy{}
	case r.Cache != nil && r.Cache.On:
		return s.cache.Policy(r)
	}
	return s.cache.Invalidates()
}

// partPolicies returns the policies of a gather's call. The request that makes the call has passed the chain of its
// route already; that of a member has none, and Server.Gather does what must be done for it.
func (s *Server) partPolicies(r *exchange.Route, part cache.Part) (list []exchange.Policy) {
	if len(r.Limit) > 0 && s.cfg.Limits != nil {
		list = append(list, ratelimit.New(s.limits, r))
	}
	if r.Cache != nil && r.Cache.On && s.cache != nil {
		list = append(list, s.cache.PartPolicy(r, part), deadline()) // a fetch may outlive its request
	}
	return list
}

// nothingForHits is the Short of a policy that a hit may pass by: one that only acts on errors and panics. A policy
// that decides about requests must not have it (TestPoliciesThatHitsPassBy lists those that do).
func nothingForHits() *exchange.Short { return &exchange.Short{} }

// problems turns errors into responses. A hit is no error.
func problems() exchange.Policy {
	return exchange.Policy{Name: "problems", Wrap: exchange.Problems, Short: nothingForHits()}
}

// contain turns a panic into an error. Otherwise it would end the process, since fasthttp doesn't recover. On the short
// way the front recovers, and starts the request again on the full way.
func (s *Server) contain() exchange.Policy {
	return exchange.Policy{Name: "contain", Wrap: s.contained, Short: nothingForHits()}
}

// contained wraps next so that it returns an error in place of a panic.
func (s *Server) contained(next exchange.Handler) exchange.Handler {
	return func(ctx context.Context, x *exchange.Exchange) (resp *mesh.Response, err error) {
		defer func() {
			if p := recover(); p != nil {
				s.log.ErrorContext(ctx, "request handler panicked", "request_id", x.ID, "panic", fmt.Sprint(p),
					"stack", string(debug.Stack()))
				resp, err = nil, node.Errorf(node.CodeInternal, nil, "the request failed inside the gateway")
			}
		}()
		return next(ctx, x)
	}
}
