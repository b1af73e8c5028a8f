package edge

import (
	"context"
	"time"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

var errFull = node.Errorf(node.CodeBusy, nil, "the node has as many requests in flight as it can serve")

// admit bounds the requests in flight. It comes after takeBody, so that a request isn't in flight while its client
// sends the body. For the same reason a request whose body streams isn't counted; takeBody has checked that the node
// isn't full.
func (s *Server) admit() exchange.Policy {
	return exchange.Policy{Name: "admit", Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			if x.Forward.Stream != nil {
				return next(ctx, x)
			}
			if err := s.enterInFlight(x); err != nil {
				return nil, err
			}
			defer s.admission.leave()
			return next(ctx, x)
		}
	}}
}

// enterInFlight counts the exchange among the requests in flight, until the caller calls admission.leave, or refuses
// it.
func (s *Server) enterInFlight(x *exchange.Exchange) error {
	if !s.admission.enter() {
		return s.refuseOverload(x)
	}
	return nil
}

// refuseOverload counts the refusal of the exchange and returns its error. It sets Penalize: if the connection's next
// request comes at once, the front delays it, so that such clients don't cost the node's time with refusals. The
// request after that isn't delayed. Requests of a trusted proxy are never delayed, because several clients share its
// connection.
func (s *Server) refuseOverload(x *exchange.Exchange) error {
	s.admission.refused.Add(1)
	x.Outcome.Penalize = !x.Trusted && !x.Penalized
	return errFull
}

// deadline sets the time by which the request must be answered: the route's timeout after the request was complete, or
// after its delay if it was delayed for overload.
func deadline() exchange.Policy {
	return exchange.Policy{Name: "deadline", Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			from := x.Started
			if len(x.Body) > 0 || x.Forward.Stream != nil || x.Penalized {
				from = time.Now()
			}
			x.Forward.Deadline = from.Add(x.Timeout())
			return next(ctx, x)
		}
	}}
}
