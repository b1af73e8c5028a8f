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

// Bodyless reports whether HTTP has no body for such a response (RFC 9112 §6.3).
func Bodyless(method string, status int) bool {
	return method == "HEAD" || status == 204 || status == 304
}

// incoming is the body that a requester receives. Its end ends the exchange.
type incoming struct {
	l    *link
	sent <-chan struct{} // closed when nobody touches the request's body any more; nil if that was no stream
	stop func() bool
	once sync.Once
}

func (b *incoming) Next() (Piece, error) { return b.l.next() }
func (b *incoming) Trailer() Header      { return b.l.trailer() }

func (b *incoming) Close() error {
	b.once.Do(func() {
		b.stop()
		b.l.end(errEnded, true)
	})
	await(b.sent)
	return nil
}

// await waits for a request's body that is on its way, if there is one.
func await(sent <-chan struct{}) {
	if sent != nil {
		<-sent
	}
}

// follow makes the body of a reply that a member streams. ctx ends it.
func (c *Conn) follow(ctx context.Context, l *link, resp *Response, sent <-chan struct{}) {
	if resp.Status == 101 && l.messages {
		l.expectMessages()
	} else {
		l.expect(resp.Length, resp.Body)
	}
	resp.Body = nil
	resp.Stream = &incoming{l: l, sent: sent, stop: context.AfterFunc(ctx, func() { l.end(contextError(ctx), true) })}
}

// followReply opens the stream that a member announces in its reply to a plain request.
func (c *Conn) followReply(ctx context.Context, req *Request, msg *nats.Msg, resp *Response) (*Response, error) {
	if !c.links.mayBePeer(msg.Reply) {
		return nil, node.Errorf(node.CodeBadReply, errors.New("a streamed reply names no subject for its credit"),
			"the service answered what can't be passed on")
	}
	l := c.links.open(func(l *link) { l.peer, l.out.over = msg.Reply, true })
	if l == nil {
		c.links.abort(msg.Reply, errEnded)
		return nil, errManyStreams
	}
	if Bodyless(req.Method, resp.Status) {
		l.end(errEnded, true)
		return resp.withoutBody(), nil
	}
	c.follow(ctx, l, resp, nil)
	return resp, nil
}

// withoutBody leaves the length that a body would have had, where HTTP allows it (RFC 9110 §8.6).
func (r *Response) withoutBody() *Response {
	if r.Length >= 0 && r.Status != 204 {
		r.Header.Set("Content-Length", strconv.FormatInt(r.Length, 10))
	}
	r.Body = nil
	return r
}

var errManyStreams = node.Errorf(node.CodeBusy, nil, "the node carries as many streams as it may")

// doStream is Do for a request whose body is a stream. It is sent once, unless a member said that it didn't start. The
// time until the deadline begins to count when the body has been sent; until then the stream's idle time-out bounds it.
func (c *Conn) doStream(ctx context.Context, to Destination, req *Request) (*Response, error) {
	l := c.links.open(func(l *link) {
		l.replies, l.messages = make(chan *nats.Msg, 4+node.MaxInterim), req.Upgrade == UpgradeMessages
	})
	if l == nil {
		_ = req.Stream.Close() // it wasn't read
		return nil, errManyStreams
	}
	x := offer{c: c, to: to, req: req, l: l, within: time.Until(req.Deadline)}
	resp, err := x.run(ctx)
	if err != nil || resp.Stream == nil {
		l.end(errEnded, true)
		_ = req.Stream.Close() // it may wait for the client
		await(x.sent)
	}
	return resp, err
}

// offer is one call of doStream.
type offer struct {
	c      *Conn
	to     Destination
	req    *Request
	l      *link
	within time.Duration
	sent   chan struct{} // as of incoming; nil until the body may be read
	sentAt time.Time     // when the offer was
	busy   int
	hints  interims // that were passed on
}

func (x *offer) run(ctx context.Context) (*Response, error) {
	if err := x.publish(); err != nil {
		return nil, err
	}
	x.sent = make(chan struct{})
	go func() {
		defer close(x.sent)
		_ = x.l.send(x.req.Stream) // its error is the link's
	}()
	timer, news := acquireTimer(x.within), acquireTimer(watchAfter)
	defer releaseTimer(timer)
	defer releaseTimer(news)
	var w *watch
	defer func() { w.end() }() // before the timer is used for something else
	sent := x.sent
	for {
		select {
		case msg := <-x.l.replies:
			if resp, err, final := x.took(ctx, msg); final {
				return resp, err
			}
		case <-sent:
			sent = nil
			timer.Reset(x.within)
		case <-timer.C:
			if !x.uploads() {
				return nil, node.Errorf(node.CodeTimeout, nil, "no answer within the deadline")
			}
			timer.Reset(x.within)
		case <-news.C:
			if w == nil {
				w = x.c.watched.add(x.to, x.sentAt, news)
			}
			if err := x.heed(w.take()); err != nil {
				return nil, err
			}
			w.rest(time.Hour)
		case <-x.l.done:
			return x.ended(ctx)
		case <-ctx.Done():
			return nil, contextError(ctx)
		}
	}
}

// uploads reports whether a member takes the request's body at this moment. A socket has no such time before its
// answer.
func (x *offer) uploads() bool { return x.req.Upgrade == "" && x.l.sending() }

// ended tells how the exchange ended without an answer, unless one is there.
func (x *offer) ended(ctx context.Context) (*Response, error) {
	for {
		select {
		case msg := <-x.l.replies:
			if resp, err, final := x.took(ctx, msg); final {
				return resp, err
			}
		default:
			return nil, x.l.failure()
		}
	}
}

func (x *offer) publish() error {
	buf := payloads.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	defer releasePayload(buf)
	payload, err := appendRequest((*buf)[:0], x.req, x.within, x.l.token)
	*buf = payload
	if err != nil {
		return requestError(err)
	}
	x.c.holds.pass(x.to.subject)
	defer x.c.holds.published()
	x.sentAt = time.Now()
	return sendError(x.c.links.nc.PublishRequest(x.to.stream, x.l.local, payload))
}

// took judges what came in place of a body. Not final means that the answer is still to come.
func (x *offer) took(ctx context.Context, msg *nats.Msg) (resp *Response, err error, final bool) { //nolint:revive // final says whether the others count
	if msg.Header[headerInterim] != nil {
		x.req.inform(&x.hints, msg)
		return nil, nil, false
	}
	x.l.meet(msg.Reply)
	resp, err = x.c.judge(x.to.label, x.req, msg)
	if errors.Is(err, errMemberBusy) && x.c.stats.at(x.to.label).askOn(x.busy) {
		x.busy++
		err = x.publish()
		return nil, err, err != nil
	}
	if node.CodeOf(err) == node.CodeNoMember && x.busy > 0 {
		err = errAllBusy
	}
	switch {
	case err != nil || msg.Header[headerStream] == nil:
	case Bodyless(x.req.Method, resp.Status):
		resp = resp.withoutBody()
	default:
		x.c.follow(ctx, x.l, resp, x.sent)
	}
	return resp, err, true
}
