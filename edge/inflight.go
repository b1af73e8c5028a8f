package edge

import (
	"context"
	"time"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

var errFull = node.Errorf(node.CodeBusy, nil, "the node has as many requests in flight as it can serve")

// admit bounds the requests in flight. It stands behind takeBody, so that clients that send slowly take no places; for
// the same reason a request whose body streams takes none, once takeBody has let it in.
func (s *Server) admit() exchange.Policy {
	return exchange.Policy{Name: "admit", Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			if x.Forward.Stream != nil {
				return next(ctx, x)
			}
			if err := s.enterFlight(x); err != nil {
				return nil, err
			}
			defer s.admission.leave()
			return next(ctx, x)
		}
	}}
}

// enterFlight counts the exchange among the requests in flight, until admission.leave.
func (s *Server) enterFlight(x *exchange.Exchange) error {
	if !s.admission.enter() {
		return s.overloaded(x)
	}
	return nil
}

// overloaded refuses the exchange for want of places. A client that asks again at once, instead of after the time that
// it is told, is held back for a while, so that it doesn't spend the node's time on refusals; its request after that
// has an even chance again. Behind a trusted proxy others share the connection, so there nobody waits.
func (s *Server) overloaded(x *exchange.Exchange) error {
	s.admission.refused.Add(1)
	x.Outcome.Penalize = !x.Trusted && !x.Penalized
	return errFull
}

// deadline sets by when the request must be answered, counted from when it was there whole, or its pause was over.
func deadline() exchange.Policy {
	return exchange.Policy{Name: "deadline", Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			whole := x.Started
			if len(x.Body) > 0 || x.Forward.Stream != nil || x.Penalized {
				whole = time.Now()
			}
			x.Forward.Deadline = whole.Add(x.Timeout())
			return next(ctx, x)
		}
	}}
}
