package mesh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// call is one request that a Service runs.
type call struct {
	s     *Service
	reply string
	req   *Request
	ctx   context.Context //nolint:containedctx // of this request
	end   context.CancelCauseFunc
	timer atomic.Pointer[time.Timer] // for due; nil if there is no deadline
	here  chan<- *nats.Msg           // takes the answer, if the caller waits in this process for it
	link  *link                      // set when a body is a stream

	over  atomic.Bool // the timer counts no more
	place sync.Once   // for release
	leave func()      // gives the place under the limit back
}

func (s *Service) newCall(reply string, req *Request, leave func()) *call {
	c := &call{s: s, reply: reply, req: req, leave: leave}
	c.ctx, c.end = context.WithCancelCause(s.base)
	return c
}

// cancel ends the context.
func (c *call) cancel() { c.end(nil) }

// runningAfter is how long a request runs before its caller is told where: if that node is lost, the caller needn't
// wait.
const runningAfter = time.Second

// expire ends the context at the deadline, unless a stream begins before.
func (c *call) expire(at time.Time) {
	c.ctx = lease{c.ctx, at}
	c.timer.Store(time.AfterFunc(min(time.Until(at), runningAfter), func() { c.due(at) }))
}

// due is called when the request has run for a while, and at the deadline.
func (c *call) due(at time.Time) {
	left := time.Until(at)
	switch {
	case c.over.Load():
	case left <= 0:
		c.end(context.DeadlineExceeded)
	default:
		c.s.conn.tellRunning(c.reply)
		if t := c.timer.Load(); t != nil {
			t.Reset(left)
		}
	}
}

// timeless lets the deadline count no more.
func (c *call) timeless() {
	c.over.Store(true)
	if t := c.timer.Load(); t != nil {
		t.Stop() // one that runs at this moment comes once more, for nothing
	}
}

// lease is a context with a deadline that may be waived.
type lease struct {
	context.Context //nolint:containedctx // it is one

	at time.Time
}

// Deadline is when the context ends, unless a stream begins before.
func (l lease) Deadline() (time.Time, bool) { return l.at, true }

// Err tells a deadline from a cancellation.
func (l lease) Err() error {
	err := l.Context.Err()
	if err != nil && errors.Is(context.Cause(l.Context), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// release gives the place under the limit back: when the call ends, or when its response has begun to stream.
func (c *call) release() { c.place.Do(c.leave) }

// run calls the handler and answers.
func (c *call) run() {
	defer c.release()
	defer c.cancel()
	defer c.timeless()
	c.req.Interim = c.interim()
	resp, err := c.s.call(c.ctx, c.req)
	if err == nil {
		err = c.answer(resp)
	}
	if err != nil {
		c.report(c.s.failure(c.ctx, err))
	}
}

// report answers with an error instead of a response.
func (c *call) report(e *node.Error) {
	if err := c.send(errorReply(c.reply, e)); err != nil {
		c.s.lost(err)
	}
}

// interim makes the function that sends interim responses.
func (c *call) interim() func(int, Header) {
	var sent interims
	return func(status int, h Header) {
		payload, err := appendHead(nil, &Response{Status: status, Header: h})
		if err != nil || !mayBeInterim(status) || !sent.take(len(payload)) {
			return
		}
		msg := &nats.Msg{Subject: c.reply, Data: payload, Header: nats.Header{headerInterim: {"1"}}}
		if err := c.send(msg); err != nil {
			c.s.lost(err)
		}
	}
}

// send sends a reply: with the link, if there is one, so that it stays in order with what that sends.
func (c *call) send(msg *nats.Msg) error {
	if c.here != nil && msg.Subject == c.reply {
		own := *msg
		own.Data = slices.Clone(msg.Data)
		c.here <- &own // it has room for the one answer
		return nil
	}
	if c.link != nil {
		return c.link.t.send(msg)
	}
	return c.s.conn.reply(msg)
}

// answer sends the response, in one message or as a stream. An error means that nothing was sent.
func (c *call) answer(resp *Response) error {
	if resp.Stream != nil {
		defer closeBody(c.s.log, resp.Stream) // its end has been told already
	}
	if resp.Stream != nil && !Bodyless(c.req.Method, resp.Status) {
		return c.stream(resp)
	}
	buf := payloads.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer releasePayload(buf)
	payload, err := appendResponse((*buf)[:0], resp, c.req.Method)
	*buf = payload
	if err != nil {
		return unsendable(err)
	}
	msg := &nats.Msg{Subject: c.reply, Data: payload}
	if resp.Member != "" {
		msg.Header = nats.Header{headerMember: {resp.Member}}
	}
	return c.publish(msg)
}

// unsendable is the error for a response that a handler gave and no message can hold.
func unsendable(cause error) error {
	e := node.Errorf(node.CodeUpstream, cause, "the response can't be sent: %s", cause)
	e.Failure = unfit(cause)
	return e
}

// publish sends a reply.
func (c *call) publish(msg *nats.Msg) error {
	if err := c.send(msg); errors.Is(err, nats.ErrMaxPayload) {
		e := node.Errorf(node.CodeUpstream, err, "the response's head is larger than one message carries")
		e.Failure = node.FailureHeadSize
		return e
	} else if err != nil {
		c.s.lost(err)
	}
	return nil
}

// stream sends the head and then the body as the requester takes it.
func (c *call) stream(resp *Response) error {
	payload, err := appendHead(nil, resp)
	if err == nil && resp.Status == 101 && c.req.Upgrade == "" {
		err = errStatusLine
	}
	if err != nil {
		return unsendable(err)
	}
	if c.link == nil {
		if c.link = c.s.conn.links.open(func(l *link) { l.in.ended, l.cancel = true, c.cancel }); c.link == nil {
			return errManyStreams
		}
		defer c.link.end(errEnded, true)
	}
	msg := &nats.Msg{Subject: c.reply, Reply: c.link.local, Data: payload, Header: nats.Header{headerStream: {"1"}}}
	if resp.Member != "" {
		msg.Header[headerMember] = []string{resp.Member}
	}
	if err := c.publish(msg); err != nil {
		return err
	}
	c.timeless()
	c.release()
	stop := context.AfterFunc(c.ctx, func() { c.link.end(contextError(c.ctx), true) })
	defer stop()
	first := time.AfterFunc(creditWait, func() { c.link.unclaimed() })
	defer first.Stop()
	_ = c.link.send(resp.Stream) // the requester learns from the missing end, and nobody else asks
	return nil
}

// takeStream handles one request whose body is a stream.
func (s *Service) takeStream(msg *nats.Msg) {
	defer s.work.Done()
	req, err := decodeRequestHead(msg.Data, time.Now())
	if err == nil && !s.conn.links.mayBePeer(msg.Reply) {
		err = errNoReply
	}
	if err != nil {
		defer s.releaseStream()
		s.malformed(msg, err)
		return
	}
	c := s.newCall(msg.Reply, req, s.releaseStream)
	l := s.conn.links.open(func(l *link) {
		l.peer, l.messages, l.cancel = msg.Reply, req.Upgrade == UpgradeMessages, c.cancel
	})
	if l == nil {
		c.cancel()
		defer s.releaseStream()
		s.refuse(msg)
		return
	}
	defer l.end(errEnded, true)
	c.link = l
	switch {
	case l.messages:
		l.expectMessages()
		req.Body = nil
	case req.Upgrade != "": // its stream follows the body
		l.expect(-1, nil)
	default:
		l.expect(req.Length, req.Body)
		req.Body = nil
	}
	req.Stream = &taken{l}
	if !req.Expect { // else the first read tells that the body is wanted
		l.accept()
	}
	c.run()
}

func (s *Service) releaseStream() { s.slow.Add(-1) }

var errNoReply = errors.New("the request names no subject for its stream")

// taken is the body of a request that a member took.
type taken struct{ l *link }

func (b *taken) Next() (Piece, error) { return b.l.next() }
func (b *taken) Trailer() Header      { return b.l.trailer() }

// Close drops what is still to come; the response goes on.
func (b *taken) Close() error {
	b.l.drop()
	return nil
}
