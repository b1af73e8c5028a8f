package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"slices"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// policies lists what every request passes, in order: the first is the outermost, so it sees a request first and its
// response last. DESIGN.md says what belongs where.
func (s *Server) policies(r *route) []Policy {
	list := []Policy{
		identify,   // request id and trace; every response carries the id
		s.observe,  // log, metrics, event
		problems,   // errors become RFC 9457 responses
		s.contain,  // panics become errors
		clientAddr, // who asks, behind trusted proxies
	}
	if len(r.Limit) > 0 && s.cfg.Limits != nil {
		list = append(list, func(next Handler) Handler { // refuses what is beyond the limits
			r.limited = s.newLimited(r, next)
			return r.limited.handle
		})
	}
	switch {
	case s.cfg.Cache == nil:
	case r.Cache != nil && r.Cache.On:
		list = append(list, func(next Handler) Handler { // answers from the cache
			r.cached = s.newCached(r, next)
			return r.cached.handle
		})
	default:
		list = append(list, s.invalidates)
	}
	return append(list, s.takeBody, s.admit, deadline)
}

func chain(policies []Policy, h Handler) Handler {
	for _, policy := range slices.Backward(policies) {
		h = policy(h)
	}
	return h
}

// problems turns an error into the response that tells it.
func problems(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		resp, err := next(ctx, x)
		if err == nil {
			return resp, nil
		}
		resp = problemResponse(err, x.ID)
		if x.allow != "" {
			resp.Header.Add("Allow", x.allow)
		}
		if x.cacheStatus.Fwd != "" {
			resp.Header.Add("Cache-Status", string(x.cacheStatus.Append(nil)))
		}
		x.editOwn(&resp.Header)
		x.limitFields(&resp.Header)
		return resp, err
	}
}

// contain keeps a panic from ending the process, which it otherwise would: fasthttp doesn't recover.
func (s *Server) contain(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (resp *mesh.Response, err error) {
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

// takeBody takes the request's body, if it is within the route's limit: whole if it fits one message, or as a stream. A
// node that is full doesn't read it.
func (s *Server) takeBody(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		if s.admission.full() || (x.Hasty && s.admission.sheds()) {
			return nil, s.overloaded(x)
		}
		limit := x.maxBody()
		if len(x.Body) > int(limit) || (x.Length > int64(limit) && x.refusal == nil) {
			return nil, tooLarge(limit)
		}
		if x.Incoming != nil && x.refusal == nil {
			if err := x.take(); err != nil {
				return nil, err
			}
		}
		return next(ctx, x)
	}
}

// take decides how the body goes on. A socket's bytes and a long body stream, and so does one whose end hasn't come
// yet, if the target can take streams.
func (x *Exchange) take() error {
	r := x.route
	whole := r.BuffersBody()
	x.Socket = x.Socket && !whole
	switch {
	case x.Socket:
		return x.takeSocket()
	case whole || (x.Length >= 0 && x.Length <= int64(node.MaxMessageBody)) || x.Incoming.Arrived():
		return x.readBody()
	}
	x.forward.Stream, x.forward.Length = &upload{x.Incoming.Stream(int64(x.maxBody())), x}, x.Length
	x.forward.Expect = !x.HTTP10 && x.Header.Has("Expect") // the only one that the guard lets pass
	return nil
}

// takeSocket makes the stream of what the client will send: as it is for an upstream, as messages for a service. The
// body of a request that isn't for a WebSocket comes first, and goes with the head.
func (x *Exchange) takeSocket() (err error) {
	x.forward.Upgrade, x.forward.Length = mesh.UpgradeBytes, -1
	if x.protocol != "" {
		x.forward.Upgrade = mesh.Upgrade(x.protocol)
		if x.Body, err = x.Incoming.ReadBody(int64(min(x.maxBody(), node.MaxMessageBody))); err != nil {
			return err //nolint:wrapcheck // a *node.Error already
		}
	}
	body := x.Incoming.Raw()
	if x.route.To.Kind != node.KindUpstream {
		x.messages = newMessages(body)
		x.forward.Upgrade = mesh.UpgradeMessages
		body = x.messages
		x.Incoming.Watch()
	}
	x.forward.Stream = &upload{body, x}
	return nil
}

// watch begins to look for the client's end, once all of the request has been read and nobody else would notice.
func (x *Exchange) watch() {
	if x.route.OnDisconnect != node.OnDisconnectFinish {
		x.Incoming.Watch()
	}
}

// upload is a request's stream whose bytes are counted, and whose client is watched when it has ended.
type upload struct {
	mesh.Body

	x *Exchange
}

// Trailer gives the trailer fields that may go on.
func (u *upload) Trailer() mesh.Header {
	h := u.Body.Trailer()
	h.Delete(func(f mesh.Field) bool { return !u.x.mayTrail(f.Name) })
	return h
}

func (u *upload) Next() (mesh.Piece, error) {
	p, err := u.Body.Next()
	u.x.streamed.Add(int64(len(p.Data)))
	if errors.Is(err, io.EOF) && !u.x.Socket {
		u.x.watch()
	}
	return p, err //nolint:wrapcheck // io.EOF must stay itself
}

// readBody reads a body that must fit one message.
func (x *Exchange) readBody() (err error) {
	limit := min(x.maxBody(), node.MaxMessageBody)
	if x.Body, err = x.Incoming.ReadBody(int64(limit)); err == nil {
		x.watch()
		return nil
	}
	if node.CodeOf(err) == node.CodeTooLarge {
		return tooLarge(limit)
	}
	return err //nolint:wrapcheck // a *node.Error already
}

func tooLarge(limit node.Size) error {
	return node.Errorf(node.CodeTooLarge, nil, "the body is larger than the %s that this route takes", limit)
}

var errFull = node.Errorf(node.CodeBusy, nil, "the node has as many requests in flight as it can serve")

// admit bounds the requests in flight. It stands behind takeBody, so that clients that send slowly take no places; for
// the same reason a request whose body streams takes none, once takeBody has let it in.
func (s *Server) admit(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		if x.server = s; x.forward.Stream != nil {
			return next(ctx, x)
		}
		if err := x.admit(); err != nil {
			return nil, err
		}
		defer s.admission.leave()
		return next(ctx, x)
	}
}

// admit takes a place among the requests in flight, which admission.leave gives back.
func (x *Exchange) admit() error {
	if !x.server.admission.enter() {
		return x.server.overloaded(x)
	}
	return nil
}

// overloaded refuses the exchange for want of places. A client that asks again at once, instead of after the time that
// it is told, is held back for a while, so that it doesn't spend the node's time on refusals; its request after that
// has an even chance again. Behind a trusted proxy others share the connection, so there nobody waits.
func (s *Server) overloaded(x *Exchange) error {
	s.admission.refused.Add(1)
	x.pause = !x.trusted && !x.Hasty
	return errFull
}

func (x *Exchange) maxBody() node.Size {
	if x.route.MaxBody != 0 {
		return x.route.MaxBody
	}
	return x.settings.MaxBody
}

// deadline sets by when the request must be answered, counted from when it was there whole, or its pause was over.
func deadline(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		whole := x.Started
		if len(x.Body) > 0 || x.forward.Stream != nil || x.Hasty {
			whole = time.Now()
		}
		x.forward.Deadline = whole.Add(x.timeout())
		return next(ctx, x)
	}
}

func (x *Exchange) timeout() time.Duration {
	if x.route.Timeout != 0 {
		return x.route.Timeout.Std()
	}
	return x.settings.Timeout.Std()
}
