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
type serviceCall struct {
	s             *Service
	reply         string
	req           *Request
	ctx           context.Context //nolint:containedctx // of this request
	cancelCause   context.CancelCauseFunc
	deadlineTimer atomic.Pointer[time.Timer] // for due; nil if there is no deadline
	localReply    chan<- *nats.Msg           // takes the answer, if the caller waits in this process for it
	stream        *bodyStream                // set when a body is a stream

	deadlineWaived atomic.Bool // the timer counts no more
	releaseOnce    sync.Once   // for release
	giveBack       func()      // gives the place under the limit back
}

func (s *Service) newCall(reply string, req *Request, leave func()) *serviceCall {
	c := &serviceCall{s: s, reply: reply, req: req, giveBack: leave}
	c.ctx, c.cancelCause = context.WithCancelCause(s.base)
	return c
}

// cancel ends the context.
func (c *serviceCall) cancel() { c.cancelCause(nil) }

// runningAfter is how long a request runs before its caller is told where: if that node is lost, the caller needn't
// wait.
const runningAfter = time.Second

// expire ends the context at the deadline, unless a stream begins before.
func (c *serviceCall) setDeadline(at time.Time) {
	c.ctx = waivableContext{c.ctx, at}
	c.deadlineTimer.Store(time.AfterFunc(min(time.Until(at), runningAfter), func() { c.deadlineTimerFired(at) }))
}

// due is called when the request has run for a while, and at the deadline.
func (c *serviceCall) deadlineTimerFired(at time.Time) {
	left := time.Until(at)
	switch {
	case c.deadlineWaived.Load():
	case left <= 0:
		c.cancelCause(context.DeadlineExceeded)
	default:
		c.s.conn.publishRunning(c.reply)
		if t := c.deadlineTimer.Load(); t != nil {
			t.Reset(left)
		}
	}
}

// timeless lets the deadline count no more.
func (c *serviceCall) waiveDeadline() {
	c.deadlineWaived.Store(true)
	if t := c.deadlineTimer.Load(); t != nil {
		t.Stop() // one that runs at this moment comes once more, for nothing
	}
}

// lease is a context with a deadline that may be waived.
type waivableContext struct {
	context.Context //nolint:containedctx // it is one

	at time.Time
}

// Deadline is when the context ends, unless a stream begins before.
func (l waivableContext) Deadline() (time.Time, bool) { return l.at, true }

// Err tells a deadline from a cancellation.
func (l waivableContext) Err() error {
	err := l.Context.Err()
	if err != nil && errors.Is(context.Cause(l.Context), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// release gives the place under the limit back: when the call ends, or when its response has begun to stream.
func (c *serviceCall) releasePermit() { c.releaseOnce.Do(c.giveBack) }

// run calls the handler and answers.
func (c *serviceCall) run() {
	defer c.releasePermit()
	defer c.cancel()
	defer c.waiveDeadline()
	c.req.Interim = c.interimSender()
	resp, err := c.s.callHandler(c.ctx, c.req)
	if err == nil {
		err = c.respond(resp)
	}
	if err != nil {
		c.respondError(c.s.codedError(c.ctx, err))
	}
}

// report answers with an error instead of a response.
func (c *serviceCall) respondError(e *node.Error) {
	if err := c.send(errorReply(c.reply, e)); err != nil {
		c.s.logUnsent(err)
	}
}

// interim makes the function that sends interim responses.
func (c *serviceCall) interimSender() func(int, Header) {
	var sent interimQuota
	return func(status int, h Header) {
		payload, err := appendHead(nil, &Response{Status: status, Header: h})
		if err != nil || !isInterimStatus(status) || !sent.admit(len(payload)) {
			return
		}
		msg := &nats.Msg{Subject: c.reply, Data: payload, Header: nats.Header{headerInterim: {"1"}}}
		if err := c.send(msg); err != nil {
			c.s.logUnsent(err)
		}
	}
}

// send sends a reply: with the link, if there is one, so that it stays in order with what that sends.
func (c *serviceCall) send(msg *nats.Msg) error {
	if c.localReply != nil && msg.Subject == c.reply {
		own := *msg
		own.Data = slices.Clone(msg.Data)
		c.localReply <- &own // it has room for the one answer
		return nil
	}
	if c.stream != nil {
		return c.stream.set.send(msg)
	}
	return c.s.conn.publishReply(msg)
}

// answer sends the response, in one message or as a stream. An error means that nothing was sent.
func (c *serviceCall) respond(resp *Response) error {
	if resp.Stream != nil {
		defer closeBody(c.s.log, resp.Stream) // its end has been told already
	}
	if resp.Stream != nil && !Bodyless(c.req.Method, resp.Status) {
		return c.respondStream(resp)
	}
	buf := payloads.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer releasePayload(buf)
	payload, err := appendResponse((*buf)[:0], resp, c.req.Method)
	*buf = payload
	if err != nil {
		return unsendableError(err)
	}
	msg := &nats.Msg{Subject: c.reply, Data: payload}
	if resp.Member != "" {
		msg.Header = nats.Header{headerMember: {resp.Member}}
	}
	return c.publishResponse(msg)
}

// unsendable is the error for a response that a handler gave and no message can hold.
func unsendableError(cause error) error {
	e := node.Errorf(node.CodeUpstream, cause, "the response can't be sent: %s", cause)
	e.Failure = replyFailure(cause)
	return e
}

// publish sends a reply.
func (c *serviceCall) publishResponse(msg *nats.Msg) error {
	if err := c.send(msg); errors.Is(err, nats.ErrMaxPayload) {
		e := node.Errorf(node.CodeUpstream, err, "the response's head is larger than one message carries")
		e.Failure = node.FailureHeadSize
		return e
	} else if err != nil {
		c.s.logUnsent(err)
	}
	return nil
}

// stream sends the head and then the body as the requester takes it.
func (c *serviceCall) respondStream(resp *Response) error {
	payload, err := appendHead(nil, resp)
	if err == nil && resp.Status == 101 && c.req.Upgrade == "" {
		err = errStatusLine
	}
	if err != nil {
		return unsendableError(err)
	}
	if c.stream == nil {
		if c.stream = c.s.conn.streams.open(func(s *bodyStream) { s.in.ended, s.cancel = true, c.cancel }); c.stream == nil {
			return errManyStreams
		}
		defer c.stream.end(errEnded, true)
	}
	msg := &nats.Msg{Subject: c.reply, Reply: c.stream.subject, Data: payload, Header: nats.Header{headerStream: {"1"}}}
	if resp.Member != "" {
		msg.Header[headerMember] = []string{resp.Member}
	}
	if err := c.publishResponse(msg); err != nil {
		return err
	}
	c.waiveDeadline()
	c.releasePermit()
	stop := context.AfterFunc(c.ctx, func() { c.stream.end(contextError(c.ctx), true) })
	defer stop()
	first := time.AfterFunc(firstCreditWithin, func() { c.stream.endUnlessClaimed() })
	defer first.Stop()
	_ = c.stream.sendBody(resp.Stream) // the requester learns from the missing end, and nobody else asks
	return nil
}

// takeStream handles one request whose body is a stream.
func (s *Service) handleStream(msg *nats.Msg) {
	defer s.work.Done()
	req, err := decodeRequestHead(msg.Data, time.Now())
	if err == nil && !s.conn.streams.validPeer(msg.Reply) {
		err = errNoReply
	}
	if err != nil {
		defer s.releaseStreamPermit()
		s.rejectMalformed(msg, err)
		return
	}
	c := s.newCall(msg.Reply, req, s.releaseStreamPermit)
	stream := s.conn.streams.open(func(stream *bodyStream) {
		stream.peer, stream.messages, stream.cancel = msg.Reply, req.Upgrade == UpgradeMessages, c.cancel
	})
	if stream == nil {
		c.cancel()
		defer s.releaseStreamPermit()
		s.refuse(msg)
		return
	}
	defer stream.end(errEnded, true)
	c.stream = stream
	switch {
	case stream.messages:
		stream.expectMessages()
		req.Body = nil
	case req.Upgrade != "": // its stream follows the body
		stream.expectBody(-1, nil)
	default:
		stream.expectBody(req.Length, req.Body)
		req.Body = nil
	}
	req.Stream = &requestBody{stream}
	if !req.Expect { // else the first read tells that the body is wanted
		stream.grantFirst()
	}
	c.run()
}

func (s *Service) releaseStreamPermit() { s.streaming.Add(-1) }

var errNoReply = errors.New("the request names no subject for its stream")

// taken is the body of a request that a member took.
type requestBody struct{ stream *bodyStream }

func (b *requestBody) Next() (Piece, error) { return b.stream.next() }
func (b *requestBody) Trailer() Header      { return b.stream.trailer() }

// Close drops what is still to come; the response goes on.
func (b *requestBody) Close() error {
	b.stream.discard()
	return nil
}
