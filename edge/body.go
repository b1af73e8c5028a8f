package edge

import (
	"context"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// takeBody takes the request's body, if it is within the route's limit: whole if it fits one message, or as a stream. A
// node that is full doesn't read it. It stands behind the cache, so it has no part in a hit.
func (s *Server) takeBody() exchange.Policy {
	return exchange.Policy{Name: "body", Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			if err := s.acceptBody(x); err != nil {
				return nil, err
			}
			return next(ctx, x)
		}
	}}
}

func (s *Server) acceptBody(x *exchange.Exchange) error {
	if s.admission.full() || (x.Penalized && s.admission.sheds()) {
		return s.overloaded(x)
	}
	limit := x.MaxBody()
	if len(x.Body) > int(limit) || (x.Length > int64(limit) && x.Outcome.Refusal == nil) {
		return exchange.TooLarge(limit)
	}
	if x.Incoming != nil && x.Outcome.Refusal == nil {
		return take(x)
	}
	return nil
}

// take decides how the body goes on. A socket's bytes and a long body stream, and so does one whose end hasn't come
// yet, if the target can take streams.
func take(x *exchange.Exchange) error {
	r := x.Route
	whole := r.BuffersBody()
	x.Upgrade.Socket = x.Upgrade.Socket && !whole
	switch {
	case x.Upgrade.Socket:
		return takeSocket(x)
	case whole || (x.Length >= 0 && x.Length <= int64(node.MaxMessageBody)) || x.Incoming.Arrived():
		return x.ReadBody()
	}
	x.Forward.Stream, x.Forward.Length = x.Upload(x.Incoming.Stream(int64(x.MaxBody()))), x.Length
	x.Forward.Expect = !x.HTTP10 && x.Header.Has("Expect") // the only one that the guard lets pass
	return nil
}

// takeSocket makes the stream of what the client will send: as it is for an upstream, as messages for a service. The
// body of a request that isn't for a WebSocket comes first, and goes with the head.
func takeSocket(x *exchange.Exchange) (err error) {
	x.Forward.Upgrade, x.Forward.Length = mesh.UpgradeBytes, -1
	if x.Upgrade.Protocol != "" {
		x.Forward.Upgrade = mesh.Upgrade(x.Upgrade.Protocol)
		if x.Body, err = x.Incoming.ReadBody(int64(min(x.MaxBody(), node.MaxMessageBody))); err != nil {
			return err //nolint:wrapcheck // a *node.Error already
		}
	}
	if x.Route.To.Kind == node.KindUpstream {
		x.Forward.Stream = x.Upload(x.Incoming.Raw())
		return nil
	}
	x.Forward.Upgrade = mesh.UpgradeMessages
	x.Forward.Stream = x.Upload(x.Incoming.Messages())
	x.Incoming.Watch()
	return nil
}
