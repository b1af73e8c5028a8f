package upstream

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"millrace/mesh"
)

// outcome is how one try at a target ended.
type outcome struct {
	resp    *mesh.Response
	err     error
	by      *target
	unsent  bool // nothing of the request can have reached the target
	reached bool // the request was sent to a target before this, or by this
}

// roundTrip asks the target once, and leaves it when the response is there. A repeatable request whose reused
// connection turns out to be closed is sent again, on a new one, if the budget pays for that: the target may have
// closed the connection for want of use, but may have fallen over the request as well. A body that streams can't be
// sent again, so it begins with a new one.
func (t *target) requestAndRelease(ctx context.Context, req *mesh.Request, deadline time.Time) (out outcome) {
	defer func() { // after a panic, too
		if out.resp == nil || out.resp.Stream == nil {
			t.release()
		} else {
			t.streams.Add(1)
			t.up.wakeWaiting(t.canary) // an adaptive limit doesn't count it any more
		}
	}()
	t.requests.Add(1)
	return t.reuseOrConnect(ctx, req, deadline)
}

func (t *target) reuseOrConnect(ctx context.Context, req *mesh.Request, deadline time.Time) outcome {
	rested := t.idleConn(req)
	if c := rested; c != nil {
		resp, err := t.roundTrip(ctx, c, req, deadline)
		if err == nil {
			return outcome{resp: resp, reached: true}
		}
		if !mesh.Repeatable(req.Method) || ctx.Err() != nil || c.w > 0 || !time.Now().Before(deadline) ||
			!t.maySendAgain(req) {
			return outcome{err: err, reached: true}
		}
	}
	dialing, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	c, err := t.pool.connect(dialing)
	if err != nil {
		return outcome{err: err, unsent: true, reached: rested != nil}
	}
	resp, err := t.roundTrip(ctx, c, req, deadline)
	return outcome{resp: resp, err: err, reached: true}
}

// resends takes a second sending out of the budget.
func (t *target) maySendAgain(req *mesh.Request) bool {
	s := t.up.state.Load()
	return !req.Again && s.budget.Spend(s.cfg.Retry.Budget)
}

// rested gives an idle connection, if the request may go over one.
func (t *target) idleConn(req *mesh.Request) *conn {
	if req.Stream != nil {
		return nil
	}
	return t.pool.get()
}

// exchange sends the request on the connection and reads the response, or its head if the body is to stream. The
// connection then goes back to the pool, or is closed if it can't be used again. Canceling ctx ends it at once.
func (t *target) roundTrip(ctx context.Context, c *conn, req *mesh.Request, deadline time.Time) (*mesh.Response, error) {
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

// afterFunc is context.AfterFunc, without the context that it makes where the one that is there can do it.
func afterFunc(ctx context.Context, f func()) (stop func() bool) {
	if own, ok := ctx.(interface {
		AfterFunc(f func()) (stop func() bool)
	}); ok {
		return own.AfterFunc(f)
	}
	return context.AfterFunc(ctx, f)
}

// sendHead sends the request's head, and its body unless that streams. Then nobody waits for the response yet.
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
		c.out = nil // a large body must not stay in memory with the connection
	}
	return err
}

// appendRequest writes the request as the target gets it, with the target's own authority if the client named none
// (HTTP/1.0). Its fields were checked when the mesh message was decoded.
func appendRequest(b []byte, r *mesh.Request, own string) []byte {
	b = append(append(append(append(b, r.Method...), ' '), r.Target...), " HTTP/1.1\r\nHost: "...)
	b = append(append(b, cmp.Or(r.Host, own)...), "\r\n"...)
	for _, f := range r.Header {
		b = mesh.AppendField(b, f.Name, f.Value)
	}
	if r.Expect && r.Stream != nil {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	switch {
	case r.Upgrade != "":
		b = mesh.AppendField(append(b, "Connection: Upgrade\r\n"...), "Upgrade", string(r.Upgrade))
		if len(r.Body) > 0 || expectsBody(r.Method) {
			b = mesh.AppendLength(b, int64(len(r.Body)))
		}
	case r.Stream != nil && r.Length < 0:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case r.Stream != nil:
		b = mesh.AppendLength(b, r.Length)
	case len(r.Body) > 0 || expectsBody(r.Method):
		b = mesh.AppendLength(b, int64(len(r.Body)))
	}
	return append(append(b, "\r\n"...), r.Body...)
}

// expectsBody names the methods whose empty body is announced (RFC 9110 §8.6).
func expectsBody(method string) bool { return method == "POST" || method == "PUT" || method == "PATCH" }

// finalHead reads the head of the final response and passes on interim ones (RFC 9110 §15.2). The mesh drops those that
// are too many; the request's time bounds the others. goOn, if not nil, is told of a 100, which counts for nothing
// where nobody waits for it.
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
