package edge

import (
	"context"

	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// takeBody checks the size of the request's body and decides whether it is read whole or streams. A node that is full
// refuses the request before it reads the body. The policy comes after the cache, so it takes no part in a hit.
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

// acceptBody is takeBody for one exchange.
func (s *Server) acceptBody(x *exchange.Exchange) error {
	if s.admission.full() || (x.Penalized && s.admission.overloaded()) {
		return s.refuseOverload(x)
	}
	limit := x.MaxBody()
	if len(x.Body) > int(limit) || (x.Length > int64(limit) && x.Outcome.Refusal == nil) {
		return exchange.TooLarge(limit)
	}
	if x.Incoming != nil && x.Outcome.Refusal == nil {
		return readOrStream(x)
	}
	return nil
}

// readOrStream reads the body whole if it fits one message or has arrived whole, or if the route can't stream.
// Otherwise, and for sockets, it sets the stream of the forwarded request.
func readOrStream(x *exchange.Exchange) error {
	r := x.Route
	whole := r.BuffersBody()
	x.Upgrade.Socket = x.Upgrade.Socket && !whole
	switch {
	case x.Upgrade.Socket:
		return streamSocket(x)
	case whole || (x.Length >= 0 && x.Length <= int64(node.MaxMessageBody)) || x.Incoming.Arrived():
		return x.ReadBody()
	}
	x.Forward.Stream, x.Forward.Length = x.Upload(x.Incoming.Stream(int64(x.MaxBody()))), x.Length
	x.Forward.Expect = !x.HTTP10 && x.Header.Has("Expect") // 100-continue: guard refuses every other
	return nil
}

// streamSocket sets the stream of what the client sends on its socket: bytes for an upstream, messages for a service. A
// request that switches to another protocol than WebSocket may have a body, which is read first and sent with the head.
func streamSocket(x *exchange.Exchange) (err error) {
	x.Forward.Upgrade, x.Forward.Length = mesh.UpgradeBytes, -1
	if x.Upgrade.Protocol != "" {
		x.Forward.Upgrade = mesh.Upgrade(x.Upgrade.Protocol)
		if x.Body, err = x.Incoming.ReadBody(int64(min(x.MaxBody(), node.MaxMessageBody))); err != nil {
			return err
		}
	}
	if x.Route.Origin().Kind == node.KindUpstream {
		x.Forward.Stream = x.Upload(x.Incoming.Raw())
		return nil
	}
	x.Forward.Upgrade = mesh.UpgradeMessages
	x.Forward.Stream = x.Upload(x.Incoming.Messages())
	x.Incoming.Watch()
	return nil
}
