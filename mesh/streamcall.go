package mesh

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// Bodyless reports whether a response has no body by HTTP (RFC 9112 §6.3).
func Bodyless(method string, status int) bool {
	return method == "HEAD" || status == 204 || status == 304
}

// replyBody is the streamed body of a reply. Closing it ends the stream.
type replyBody struct {
	stream   *bodyStream
	uploaded <-chan struct{} // closed when the request's body is no longer in use; nil if it isn't a stream
	stop     func() bool
	once     sync.Once
}

func (b *replyBody) Next() (Piece, error) { return b.stream.next() }
func (b *replyBody) Trailer() Header      { return b.stream.trailer() }

func (b *replyBody) Close() error {
	b.once.Do(func() {
		b.stop()
		b.stream.end(errEnded, true)
	})
	awaitUpload(b.uploaded)
	return nil
}

// awaitUpload waits until the request's body is no longer in use. A nil channel means that it isn't a stream.
func awaitUpload(uploaded <-chan struct{}) {
	if uploaded != nil {
		<-uploaded
	}
}

// attachReplyBody makes the stream the body of the reply, until ctx ends.
func (c *Conn) attachReplyBody(ctx context.Context, s *bodyStream, resp *Response, uploaded <-chan struct{}) {
	if resp.Status == 101 && s.messages {
		s.expectMessages()
	} else {
		s.expectBody(resp.Length, resp.Body)
	}
	resp.Body = nil
	stop := context.AfterFunc(ctx, func() { s.end(contextError(ctx), true) })
	resp.Stream = &replyBody{stream: s, uploaded: uploaded, stop: stop}
}

// openReplyBody opens the stream that a member announces in its reply to a request without one.
func (c *Conn) openReplyBody(ctx context.Context, req *Request, msg *nats.Msg, resp *Response) (*Response, error) {
	if !c.streams.validPeer(msg.Reply) {
		return nil, node.Errorf(node.CodeBadReply, errors.New("a streamed reply names no subject for its credit"),
			"the service answered what can't be passed on")
	}
	s := c.streams.open(func(s *bodyStream) { s.peer, s.out.ended = msg.Reply, true })
	if s == nil {
		c.streams.abort(msg.Reply, errEnded)
		return nil, errManyStreams
	}
	if Bodyless(req.Method, resp.Status) {
		s.end(errEnded, true)
		return resp.withoutBody(), nil
	}
	c.attachReplyBody(ctx, s, resp, nil)
	return resp, nil
}

// withoutBody removes the body and keeps the length that it would have had, where HTTP allows that (RFC 9110 §8.6).
func (r *Response) withoutBody() *Response {
	if r.Length >= 0 && r.Status != 204 {
		r.Header.Set("Content-Length", strconv.FormatInt(r.Length, 10))
	}
	r.Body = nil
	return r
}

var errManyStreams = node.Errorf(node.CodeBusy, nil, "the node carries as many streams as it may")

// doStream is Do for a request whose body is a stream. It is sent once, unless a member said that it didn't start. The
// time until the deadline starts when the body has been sent. Until then only the stream's idle timeout applies.
func (c *Conn) doStream(ctx context.Context, to Destination, req *Request) (*Response, error) {
	s := c.streams.open(func(s *bodyStream) {
		s.replies, s.messages = make(chan *nats.Msg, 4+node.MaxInterim), req.Upgrade == UpgradeMessages
	})
	if s == nil {
		_ = req.Stream.Close() // it wasn't read
		return nil, errManyStreams
	}
	call := streamCall{conn: c, to: to, req: req, stream: s, timeout: time.Until(req.Deadline)}
	resp, err := call.run(ctx)
	if err != nil || resp.Stream == nil {
		s.end(errEnded, true)
		_ = req.Stream.Close() // its reader may wait for the client
		awaitUpload(call.uploaded)
	}
	return resp, err
}

// streamCall is one call of doStream.
type streamCall struct {
	conn         *Conn
	to           Destination
	req          *Request
	stream       *bodyStream
	timeout      time.Duration
	uploaded     chan struct{} // see replyBody; nil until the body may be read
	sentAt       time.Time     // when the request was published
	busyCount    int
	interimQuota interimQuota // of the forwarded interim responses
}

func (c *streamCall) run(ctx context.Context) (*Response, error) {
	if err := c.publish(); err != nil {
		return nil, err
	}
	c.uploaded = make(chan struct{})
	go func() {
		defer close(c.uploaded)
		_ = c.stream.sendBody(c.req.Stream) // its error is the stream's
	}()
	timer, departureTimer := acquireTimer(c.timeout), acquireTimer(waitingAfter)
	defer releaseTimer(timer)
	defer releaseTimer(departureTimer)
	var w *waitingCall
	defer func() { w.remove() }() // before the timer is reused
	uploaded := c.uploaded
	for {
		select {
		case msg := <-c.stream.replies:
			if resp, err, final := c.handleReply(ctx, msg); final {
				return resp, err
			}
		case <-uploaded:
			uploaded = nil
			timer.Reset(c.timeout)
		case <-timer.C:
			if !c.uploading() {
				return nil, node.Errorf(node.CodeTimeout, nil, "no answer within the deadline")
			}
			timer.Reset(c.timeout)
		case <-departureTimer.C:
			if w == nil {
				w = c.conn.waiting.add(c.to, c.sentAt, departureTimer)
			}
			if err := c.handleDepartures(w.takeDepartures()); err != nil {
				return nil, err
			}
			w.resetTimer(time.Hour)
		case <-c.stream.done:
			return c.endedWithoutReply(ctx)
		case <-ctx.Done():
			return nil, contextError(ctx)
		}
	}
}

// uploading reports whether a member is receiving the request's body, which extends the time for the answer. A socket
// has no such extension.
func (c *streamCall) uploading() bool { return c.req.Upgrade == "" && c.stream.sending() }

// endedWithoutReply returns why the stream ended, unless a queued reply answers the call.
func (c *streamCall) endedWithoutReply(ctx context.Context) (*Response, error) {
	for {
		select {
		case msg := <-c.stream.replies:
			if resp, err, final := c.handleReply(ctx, msg); final {
				return resp, err
			}
		default:
			return nil, c.stream.endError()
		}
	}
}

func (c *streamCall) publish() error {
	buf := payloads.Get().(*[]byte)
	defer releasePayload(buf)
	payload, err := appendRequest((*buf)[:0], c.req, c.timeout, c.stream.token)
	*buf = payload
	if err != nil {
		return requestError(err)
	}
	c.conn.pauses.beginPublish(c.to.subject)
	defer c.conn.pauses.endPublish()
	c.sentAt = time.Now()
	return publishError(c.conn.streams.nc.PublishRequest(c.to.stream, c.stream.subject, payload))
}

// handleReply handles a message that isn't part of a body. final is false if the call goes on.
func (c *streamCall) handleReply(ctx context.Context, msg *nats.Msg) (resp *Response, err error, final bool) { //nolint:revive // final says whether resp and err are set
	if msg.Header[headerInterim] != nil {
		c.req.forwardInterim(&c.interimQuota, msg)
		return nil, nil, false
	}
	c.stream.setPeer(msg.Reply)
	resp, err = c.conn.readReply(c.to.label, c.req, msg)
	if errors.Is(err, errMemberBusy) && c.conn.stats.forLabel(c.to.label).mayAskAgain(c.busyCount) {
		c.busyCount++
		err = c.publish()
		return nil, err, err != nil
	}
	if node.CodeOf(err) == node.CodeNoMember && c.busyCount > 0 {
		err = errAllBusy
	}
	switch {
	case err != nil || msg.Header[headerStream] == nil:
	case Bodyless(c.req.Method, resp.Status):
		resp = resp.withoutBody()
	default:
		c.conn.attachReplyBody(ctx, c.stream, resp, c.uploaded)
	}
	return resp, err, true
}
