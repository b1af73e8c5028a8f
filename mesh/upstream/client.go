package upstream

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"millrace/mesh"
	"millrace/node/http1"
)

// outcome is the result of one try at a target.
type outcome struct {
	resp    *mesh.Response
	err     error
	by      *target
	unsent  bool // no part of the request can have reached the target
	reached bool // this try, or one before, was sent to a target
}

// requestAndRelease asks the target once, and releases it when the response is there.
//
// A reused connection may turn out to be closed. Then a repeatable request is sent again on a new connection, if the
// budget allows it: the target may have closed an idle connection, but it may also have crashed on the request. A
// streamed body can't be sent again, so it always gets a new connection.
func (t *target) requestAndRelease(ctx context.Context, req *mesh.Request, deadline time.Time) (out outcome) {
	defer func() { // even after a panic
		if out.resp == nil || out.resp.Stream == nil {
			t.release()
		} else {
			t.streams.Add(1)
			t.up.wakeWaiting(t.canary) // an adaptive limit no longer counts it
		}
	}()
	t.requests.Add(1)
	return t.reuseOrConnect(ctx, req, deadline)
}

func (t *target) reuseOrConnect(ctx context.Context, req *mesh.Request, deadline time.Time) outcome {
	reused := t.idleConn(req)
	if c := reused; c != nil {
		resp, err := t.roundTrip(ctx, c, req, deadline)
		if err == nil {
			return outcome{resp: resp, reached: true}
		}
		if !mesh.Repeatable(req.Method) || ctx.Err() != nil || c.w > 0 || !time.Now().Before(deadline) ||
			!t.maySendAgain(req) {
			return outcome{err: err, reached: true}
		}
	}
	dialCtx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c, err := t.pool.connect(dialCtx)
	if err != nil {
		return outcome{err: err, unsent: true, reached: reused != nil}
	}
	resp, err := t.roundTrip(ctx, c, req, deadline)
	return outcome{resp: resp, err: err, reached: true}
}

// maySendAgain reports whether the request may be sent again on a new connection, and pays for it.
func (t *target) maySendAgain(req *mesh.Request) bool {
	s := t.up.state.Load()
	return !req.Again && s.budget.Spend(s.cfg.Retry.Budget)
}

// idleConn returns an idle connection, if there is one that the request may use.
func (t *target) idleConn(req *mesh.Request) *conn {
	if req.Stream != nil {
		return nil
	}
	return t.pool.get()
}

// roundTrip sends the request on the connection and reads the response, or only its head if the body is streamed. It
// then returns the connection to the pool, or closes it if it can't be reused. Canceling ctx ends it at once.
func (t *target) roundTrip(ctx context.Context, c *conn, req *mesh.Request, deadline time.Time,
) (*mesh.Response, error) {
	c.r, c.w = 0, 0
	if err := c.SetDeadline(deadline); err != nil {
		t.pool.drop(c)
		return nil, fmt.Errorf("send request: %w", err)
	}
	rt := &roundTrip{t: t, c: c, req: req}
	rt.stop = afterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) }) // fails only on a closed connection
	resp, err := rt.run(time.Until(deadline))
	if err != nil {
		rt.end(false)
		return nil, err
	}
	if resp.Stream == nil {
		rt.end(true)
	}
	return resp, nil
}

// afterFunc is context.AfterFunc, but uses the context's own AfterFunc if it has one, to avoid an allocation.
func afterFunc(ctx context.Context, f func()) (stop func() bool) {
	if native, ok := ctx.(interface {
		AfterFunc(f func()) (stop func() bool)
	}); ok {
		return native.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

// sendHead sends the request's head, and its body unless that is streamed. For a streamed body it doesn't wait for the
// beginning of the response.
func (c *conn) sendHead(req *mesh.Request) (err error) {
	c.out = appendRequest(c.out[:0], req, c.host)
	if req.Stream != nil {
		if _, err = c.Write(c.out); err != nil {
			err = fmt.Errorf("send request: %w", err)
		}
	} else {
		err = c.write()
	}
	if cap(c.out) > maxHead {
		c.out = nil // don't keep a large body in memory with the connection
	}
	return err
}

// appendRequest appends the request as it is sent to the target. authority is the target's, used if the client
// named none (HTTP/1.0). The fields were checked when the mesh message was decoded.
func appendRequest(b []byte, r *mesh.Request, authority string) []byte {
	b = append(append(append(append(b, r.Method...), ' '), r.Target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, cmp.Or(r.Host, authority)...), "\r\n"...)
	for _, f := range r.Header {
		b = http1.AppendField(b, f.Name, f.Value)
	}
	if r.Expect && r.Stream != nil {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	switch {
	case r.Upgrade != "":
		b = http1.AppendField(append(b, "Connection: Upgrade\r\n"...), "Upgrade", string(r.Upgrade))
		if len(r.Body) > 0 || expectsBody(r.Method) {
			b = http1.AppendLength(b, int64(len(r.Body)))
		}
	case r.Stream != nil && r.Length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Stream != nil:
		b = http1.AppendLength(b, r.Length)
	case len(r.Body) > 0 || expectsBody(r.Method):
		b = http1.AppendLength(b, int64(len(r.Body)))
	}
	return append(append(b, "\r\n"...), r.Body...)
}

// expectsBody reports whether an empty body of that method is announced with Content-Length (RFC 9110 §8.6).
func expectsBody(method string) bool { return method == "POST" || method == "PUT" || method == "PATCH" }

// finalHead reads the head of the final response and forwards interim ones (RFC 9110 §15.2). The mesh bounds how many
// are forwarded, and the request's deadline bounds the rest. onContinue, if not nil, is called for a 100. Otherwise a
// 100 is ignored.
func (c *conn) finalHead(req *mesh.Request, onContinue func()) (head, error) {
	for {
		h, err := c.readHead()
		switch {
		case err != nil:
			return head{}, err
		case h.status == 101 && req.Upgrade == "":
			return head{}, errUpgrade
		case h.status == 101 || h.status >= 200:
			return h, nil
		case h.status == 100:
			if onContinue != nil {
				onContinue()
			}
		case req.Interim != nil:
			h.fields.DropHopByHop()
			req.Interim(h.status, h.fields)
		}
	}
}
