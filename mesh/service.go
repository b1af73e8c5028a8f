package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// Handler answers requests. It is called from many goroutines at once, each with a request of its own. The context ends
// at the request's deadline, when the caller cancels, and when the service is closed; the deadline counts no more once
// a response with a Stream is returned, and not for a request with one. An error that is a *node.Error is reported
// under its code, any other as internal; a panic is an error too.
type Handler interface {
	Handle(ctx context.Context, req *Request) (*Response, error)
}

// HandlerFunc is a function as a Handler.
type HandlerFunc func(ctx context.Context, req *Request) (*Response, error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, req *Request) (*Response, error) { return f(ctx, req) }

// ServiceConfig says what a member answers.
type ServiceConfig struct {
	Destination Destination // from Conn.Service or Conn.Upstream
	Handler     Handler
	Limit       int // requests that run at once, until their response begins; 0 means 256
	// Direct says that the handler ends when its context or the request's deadline does, or its owner ends it, that it
	// neither keeps nor changes the request, and that it gives the response away: a request of this process may then
	// run on the caller's goroutine, with a context that has no deadline of its own. Close doesn't cancel it.
	Direct  bool
	Streams bool // Handler takes requests with a Stream, too: four times Limit at once, since their clients may be slow
}

// Service is one member of a destination's queue group. It refuses requests over its limit at once, with a busy answer,
// and stays in the group until it is shut down or closed.
type Service struct {
	conn *Conn
	cfg  ServiceConfig
	log  *slog.Logger

	limit     atomic.Int64
	active    atomic.Int64 // requests that run, without those that have a stream
	streaming atomic.Int64 // requests with a stream that run
	// requests that run, and subscriptions that may still hand some out: Add never meets a Wait at zero
	work   sync.WaitGroup
	base   context.Context //nolint:containedctx // ends with the service, as every request's context does
	stop   context.CancelFunc
	cancel *nats.Subscription

	mu           sync.Mutex
	subs         []*nats.Subscription // membership in the groups; none before Open and when it leaves
	closed       bool
	calls        map[string]context.CancelFunc // what runs, by nonce
	earlyCancels earlyCancels                  // what was canceled before it ran
}

// NewService checks the configuration; Open joins the queue group.
func (c *Conn) NewService(cfg ServiceConfig) (*Service, error) {
	if cfg.Destination.subject == "" || cfg.Handler == nil || cfg.Limit < 0 {
		return nil, errors.New("configure service: destination and handler are needed, and a limit of 0 or more")
	}
	if cfg.Limit == 0 {
		cfg.Limit = 256
	}
	s := &Service{
		conn: c, cfg: cfg, log: c.cfg.Log.With("service", cfg.Destination.label),
		calls: map[string]context.CancelFunc{},
	}
	s.limit.Store(int64(cfg.Limit))
	s.base, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Open joins the queue group and waits until the server knows it. A service whose Open failed is closed.
func (s *Service) Open(ctx context.Context) error {
	err := s.open(ctx)
	if err != nil {
		return fmt.Errorf("join %s: %w", s.cfg.Destination, errors.Join(err, s.Close()))
	}
	return nil
}

func (s *Service) open(ctx context.Context) (err error) {
	if s.base.Err() != nil {
		return errServiceClosed
	}
	if s.cancel, err = s.conn.nc.Subscribe(s.cfg.Destination.cancel, s.handleCancel); err != nil {
		return fmt.Errorf("subscribe to cancellations: %w", err)
	}
	if err := s.join(); err != nil {
		return err
	}
	if err := flush(ctx, s.conn.streams.nc); err != nil {
		return err
	}
	if err := flush(ctx, s.conn.nc); err != nil {
		return err
	}
	s.conn.localMembers.add(s)
	return nil
}

// join makes this service a member of the group, unless it is closed.
func (s *Service) join() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errServiceClosed
	}
	if err := s.subscribe(s.conn.nc, s.cfg.Destination.subject, s.admit); err != nil {
		return err
	}
	if s.cfg.Streams {
		if err := s.subscribe(s.conn.streams.nc, s.cfg.Destination.stream, s.admitStream); err != nil {
			return err
		}
	}
	return nil
}

// subscribe joins one group. The caller holds mu.
func (s *Service) subscribe(nc *nats.Conn, subject string, admit nats.MsgHandler) error {
	sub, err := nc.QueueSubscribe(subject, QueueGroup, admit)
	if err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	s.work.Add(1)
	sub.SetClosedHandler(func(string) { s.work.Done() })
	s.subs = append(s.subs, sub)
	return nil
}

// leave ends the membership. What was sent to this member until then is delivered when leave returns, unless the
// connection or ctx fails.
func (s *Service) leave(ctx context.Context) {
	s.conn.localMembers.remove(s)
	s.mu.Lock()
	subs := s.subs
	s.subs, s.closed = nil, true
	s.mu.Unlock()
	if len(subs) == 0 {
		return
	}
	over := s.conn.pauseOthers(ctx, s.cfg.Destination.subject)
	for _, sub := range subs {
		_ = sub.Drain() // fails only on a closed connection, which has no members
	}
	for _, nc := range []*nats.Conn{s.conn.nc, s.conn.streams.nc} {
		if nc.IsConnected() {
			_ = flush(ctx, nc) // what fails is told to those who wait by the end of the connection
		}
	}
	over()
	awaitDelivered(ctx, subs)
}

// emptied waits until the callbacks of subscriptions that get nothing more have had what came before.
func awaitDelivered(ctx context.Context, subs []*nats.Subscription) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for _, sub := range subs {
		for {
			if n, _, err := sub.Pending(); err != nil || n == 0 {
				break
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}
}

// SetLimit changes the limit for requests to come.
func (s *Service) SetLimit(n int) { s.limit.Store(int64(n)) }

// Active is the number of requests that run at this moment.
func (s *Service) Active() int { return int(s.active.Load() + s.streaming.Load()) }

// admit is the subscription's callback: it must never block, since requests wait behind it.
func (s *Service) admit(msg *nats.Msg) {
	if n := s.active.Add(1); n > s.limit.Load() || s.base.Err() != nil {
		s.active.Add(-1)
		s.refuse(msg)
		return
	}
	s.work.Add(1)
	go s.handle(msg)
}

// admitStream is the callback for requests with streams.
func (s *Service) admitStream(msg *nats.Msg) {
	if n := s.streaming.Add(1); n > 4*s.limit.Load() || s.base.Err() != nil {
		s.streaming.Add(-1)
		s.refuse(msg)
		return
	}
	s.work.Add(1)
	go s.handleStream(msg)
}

func (s *Service) refuse(msg *nats.Msg) {
	busy := nats.NewMsg(msg.Reply)
	busy.Header[headerBusy] = []string{"1"}
	_ = s.conn.publishReply(busy) // the caller's deadline covers a lost refusal
}

// release gives the place of a request back.
func (s *Service) releasePermit() { s.active.Add(-1) }

// take handles one request and answers it.
func (s *Service) handle(msg *nats.Msg) {
	defer s.work.Done()
	req, err := decodeRequest(msg.Data, time.Now())
	if err != nil {
		defer s.releasePermit()
		s.rejectMalformed(msg, err)
		return
	}
	c := s.newCall(msg.Reply, req, s.releasePermit)
	c.setDeadline(req.Deadline)
	s.track(req.Nonce, c.cancel)
	defer s.untrack(req.Nonce, c.cancel)
	c.run()
}

func (s *Service) rejectMalformed(msg *nats.Msg, cause error) {
	s.log.Warn("request is malformed", "cause", cause)
	if err := s.conn.publishReply(errorReply(msg.Reply,
		node.Errorf(node.CodeInvalid, cause, "the request is malformed"))); err != nil {
		s.logUnsent(err)
	}
}

// call runs the handler and turns a panic into an error.
func (s *Service) callHandler(ctx context.Context, req *Request) (resp *Response, err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.ErrorContext(ctx, "handler panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			err = node.Errorf(node.CodeInternal, nil, "the service failed")
		}
	}()
	resp, err = s.cfg.Handler.Handle(ctx, req)
	if err == nil && resp == nil {
		err = node.Errorf(node.CodeInternal, errors.New("handler returned neither response nor error"),
			"the service failed")
	}
	return resp, err
}

// lost logs a reply that couldn't be published; there is nobody else to tell.
func (s *Service) logUnsent(err error) {
	if !errors.Is(err, nats.ErrConnectionClosed) {
		s.log.Warn("reply not sent", "cause", err)
	}
}

// failure gives a handler's error its code: its own, or that of the context's end, or internal.
func (s *Service) codedError(ctx context.Context, err error) *node.Error {
	if e, ok := errors.AsType[*node.Error](err); ok {
		return e
	}
	if ctx.Err() != nil {
		return contextError(ctx)
	}
	s.log.ErrorContext(ctx, "handler failed", "cause", err)
	return node.Errorf(node.CodeInternal, err, "the service failed")
}

// errorReply is the answer that tells an error instead of a response.
func errorReply(reply string, e *node.Error) *nats.Msg {
	h := nats.Header{headerError: {string(e.Code)}, headerErrorText: {e.Text}}
	if e.Unreached {
		h[headerUnreached] = []string{"1"}
	}
	if e.Failure != "" {
		h[headerFailure] = []string{string(e.Failure)}
	}
	return &nats.Msg{Subject: reply, Header: h}
}

func (s *Service) track(nonce string, cancel context.CancelFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[nonce] = cancel; s.earlyCancels.remove(nonce) {
		cancel()
	}
}

func (s *Service) untrack(nonce string, cancel context.CancelFunc) {
	cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.calls, nonce)
}

// canceled stops the request whose nonce the payload is.
func (s *Service) handleCancel(msg *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.calls[string(msg.Data)]; cancel != nil {
		cancel()
	} else {
		s.earlyCancels.add(string(msg.Data))
	}
}

// Shutdown leaves the group, waits until what runs is answered, or ctx ends, and then closes.
func (s *Service) Shutdown(ctx context.Context) error {
	s.leave(ctx)
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = fmt.Errorf("drain %s: %w", s.cfg.Destination, ctx.Err())
	}
	return errors.Join(err, s.Close())
}

// closeWait bounds how long Close waits for what is on its way to the member.
const closeWait = time.Second

// Close ends what runs by canceling it, and leaves the group: what still comes is refused. It doesn't wait for
// handlers that ignore their context.
func (s *Service) Close() error {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	s.leave(ctx)
	if s.cancel != nil && s.cancel.IsValid() {
		_ = s.cancel.Unsubscribe() // fails only when it is gone already
	}
	return nil
}

var errServiceClosed = errors.New("service is closed")
