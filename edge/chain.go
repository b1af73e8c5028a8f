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

// policies lists what every request of a route passes, in order: the first is the outermost, so it sees a request first
// and its response last. It is the only list: the short way of a hit is made from it (exchange.Short), up to the policy
// that answers there. DESIGN.md says what belongs where.
func (s *Server) policies(r *exchange.Route) []exchange.Policy {
	list := []exchange.Policy{
		identify(),   // request id and trace; every response carries the id
		s.observe(r), // log, metrics, event
		problems(),   // errors become RFC 9457 responses
		s.contain(),  // panics become errors
		clientAddr(), // who asks, behind trusted proxies
	}
	if len(r.Limit) > 0 && s.cfg.Limits != nil {
		list = append(list, ratelimit.New(s.limits, r)) // refuses what is beyond the limits
	}
	switch {
	case s.cache == nil:
	case r.Cache != nil && r.Cache.On:
		list = append(list, s.cache.Policy(r)) // answers from the cache
	default:
		list = append(list, s.cache.Invalidates())
	}
	return append(list, s.takeBody(), s.admit(), deadline())
}

// partPolicies lists what the calls of a gather pass.
func (s *Server) partPolicies(r *exchange.Route, part cache.Part) (list []exchange.Policy) {
	if len(r.Limit) > 0 && s.cfg.Limits != nil {
		list = append(list, ratelimit.New(s.limits, r))
	}
	if r.Cache != nil && r.Cache.On && s.cache != nil {
		list = append(list, s.cache.PartPolicy(r, part), deadline()) // a fetch may outlive the request that began it
	}
	return list
}

// none is the short form of a policy that has nothing to do for a hit.
func none() *exchange.Short { return &exchange.Short{} }

// problems answers errors. A hit is none.
func problems() exchange.Policy {
	return exchange.Policy{Name: "problems", Wrap: exchange.Problems, Short: none()}
}

// contain keeps a panic from ending the process, which it otherwise would: fasthttp doesn't recover. On the short way
// the front does, and begins anew.
func (s *Server) contain() exchange.Policy {
	return exchange.Policy{Name: "contain", Wrap: s.contained, Short: none()}
}

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
