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

// serviceCall is one request that a Service runs.
type serviceCall struct {
	s             *Service
	reply         string
	req           *Request
	ctx           context.Context //nolint:containedctx // of this request
	cancelCause   context.CancelCauseFunc
	deadlineTimer atomic.Pointer[time.Timer] // see deadlineTimerFired; nil if there is no deadline
	localReply    chan<- *nats.Msg           // receives the reply if the caller waits in this process, else nil
	stream        *bodyStream                // set when a body is a stream

	deadlineWaived atomic.Bool // the deadline no longer applies
	releaseOnce    sync.Once   // for releasePermit
	giveBack       func()      // returns the permit of the service's limit
}

func (s *Service) newCall(reply string, req *Request, giveBack func()) *serviceCall {
	c := &serviceCall{s: s, reply: reply, req: req, giveBack: giveBack}
	c.ctx, c.cancelCause = context.WithCancelCause(s.base)
	return c
}

// cancel cancels the call's context.
func (c *serviceCall) cancel() { c.cancelCause(nil) }

// runningAfter is how long a request runs before its caller is told which node runs it. If that node is lost, the
// caller needn't wait for the deadline.
const runningAfter = time.Second

// setDeadline makes the context end at the deadline, unless a stream begins before.
func (c *serviceCall) setDeadline(at time.Time) {
	c.ctx = waivableContext{c.ctx, at}
	c.deadlineTimer.Store(time.AfterFunc(min(time.Until(at), runningAfter), func() { c.deadlineTimerFired(at) }))
}

// deadlineTimerFired runs after runningAfter and again at the deadline.
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

// waiveDeadline removes the deadline.
func (c *serviceCall) waiveDeadline() {
	c.deadlineWaived.Store(true)
	if t := c.deadlineTimer.Load(); t != nil {
		t.Stop() // a timer that is firing runs once more and does nothing
	}
}

// waivableContext is a context whose deadline may be waived.
type waivableContext struct {
	context.Context //nolint:containedctx // it is a context itself

	at time.Time
}

// Deadline returns when the context ends, unless a stream begins before.
func (c waivableContext) Deadline() (time.Time, bool) { return c.at, true }

// Err distinguishes an expired deadline from a cancellation.
func (c waivableContext) Err() error {
	err := c.Context.Err()
	if err != nil && errors.Is(context.Cause(c.Context), context.DeadlineExceeded) {
		return context.DeadlineExceeded
	}
	return err
}

// releasePermit returns the permit of the service's limit, once. It is called when the call ends or its response begins
// to stream.
func (c *serviceCall) releasePermit() { c.releaseOnce.Do(c.giveBack) }

// run calls the handler and sends the reply.
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

// respondError replies with an error instead of a response.
func (c *serviceCall) respondError(e *node.Error) {
	if err := c.send(errorReply(c.reply, e)); err != nil {
		c.s.logUnsent(err)
	}
}

// interimSender returns the function that sends interim responses to the caller.
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

// send sends a reply. A call with a stream sends it through the stream, so that it stays in order with the chunks.
func (c *serviceCall) send(msg *nats.Msg) error {
	if c.localReply != nil && msg.Subject == c.reply {
		own := *msg
		own.Data = slices.Clone(msg.Data)
		c.localReply <- &own // never blocks: the channel has capacity for the one reply
		return nil
	}
	if c.stream != nil {
		return c.stream.set.send(msg)
	}
	return c.s.conn.publishReply(msg)
}

// respond sends the response, in one message or as a stream. An error means that nothing was sent.
func (c *serviceCall) respond(resp *Response) error {
	if resp.Stream != nil {
		defer closeBody(c.s.log, resp.Stream) // the peer already knows how the stream ended
	}
	if resp.Stream != nil && !Bodyless(c.req.Method, resp.Status) {
		return c.respondStream(resp)
	}
	buf := payloads.Get().(*[]byte)
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

// unsendableError is the error for a handler's response that can't be sent in a message.
func unsendableError(cause error) error {
	e := node.Errorf(node.CodeUpstream, cause, "the response can't be sent: %s", cause)
	e.Failure = replyFailure(cause)
	return e
}

// publishResponse sends the reply that holds the response or its head. Any failure other than its size is only logged.
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

// respondStream sends the head, and then the body as fast as the requester grants credit.
func (c *serviceCall) respondStream(resp *Response) error {
	payload, err := appendHead(nil, resp)
	if err == nil && resp.Status == 101 && c.req.Upgrade == "" {
		err = errStatusLine
	}
	if err != nil {
		return unsendableError(err)
	}
	if c.stream == nil {
		c.stream = c.s.conn.streams.open(func(s *bodyStream) { s.in.ended, s.cancel = true, c.cancel })
		if c.stream == nil {
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
	_ = c.stream.sendBody(resp.Stream) // the requester sees the missing end mark, and nobody else needs the error
	return nil
}

// handleStream runs one request whose body is a stream.
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
	case req.Upgrade != "": // chunks follow Body, which came with the head
		stream.expectBody(-1, nil)
	default:
		stream.expectBody(req.Length, req.Body)
		req.Body = nil
	}
	req.Stream = &requestBody{stream}
	if !req.Expect { // otherwise the first read sends the credit that asks for the body
		stream.grantFirst()
	}
	c.run()
}

func (s *Service) releaseStreamPermit() { s.streaming.Add(-1) }

var errNoReply = errors.New("the request names no subject for its stream")

// requestBody is the streamed body of a request, for the handler.
type requestBody struct{ stream *bodyStream }

func (b *requestBody) Next() (Piece, error) { return b.stream.next() }
func (b *requestBody) Trailer() Header      { return b.stream.trailer() }

// Close discards what is still to come. The response isn't affected.
func (b *requestBody) Close() error {
	b.stream.discard()
	return nil
}
