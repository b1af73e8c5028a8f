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

// Handler answers requests. It is called by many goroutines at once, each with its own request.
//
// The context ends at the request's deadline, when the caller cancels, and when the service is closed. The deadline
// doesn't apply once a response with a Stream is returned, nor to a request with a Stream. A *node.Error is reported
// with its code, and any other error as internal. A panic counts as an error.
type Handler interface {
	Handle(ctx context.Context, req *Request) (*Response, error)
}

// HandlerFunc adapts a function to a Handler.
type HandlerFunc func(ctx context.Context, req *Request) (*Response, error)

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, req *Request) (*Response, error) { return f(ctx, req) }

// ServiceConfig configures a member.
type ServiceConfig struct {
	Destination Destination // from Conn.Service or Conn.Upstream
	Handler     Handler
	Limit       int // requests that run at once until their response begins; 0 means 256
	// Direct lets a request of this process run on the caller's goroutine, with a context that has no deadline of its
	// own. It requires that the handler returns when its context or the request's deadline ends, or its owner ends it,
	// that it neither keeps nor changes the request, and that it doesn't use the response after returning it. Close
	// doesn't cancel such requests.
	Direct  bool
	Streams bool // Handler also takes requests with a Stream, four times Limit at once since their clients may be slow
}

// Service is one member of a destination's queue group. Beyond its limit it refuses requests at once with a busy reply.
// It stays in the group until it is shut down or closed.
type Service struct {
	conn *Conn
	cfg  ServiceConfig
	log  *slog.Logger

	limit     atomic.Int64
	active    atomic.Int64 // running requests without a Stream
	streaming atomic.Int64 // running requests with a Stream
	// work counts running requests, and subscriptions that may still deliver some, so that Add never races with Wait at
	// zero.
	work   sync.WaitGroup
	base   context.Context //nolint:containedctx // parent of every request's context; ends with the service
	stop   context.CancelFunc
	cancel *nats.Subscription

	mu           sync.Mutex           // guards the fields below
	subs         []*nats.Subscription // the group memberships; none before Open or after leave
	closed       bool
	calls        map[string]context.CancelFunc // cancels the running request with that nonce
	earlyCancels earlyCancels                  // cancellations that came before their request
}

// NewService checks the configuration. Open joins the queue group.
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

// Open joins the queue group and waits until the server knows it. If Open fails, the service is closed.
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

// leave ends the membership. When it returns, requests sent to this member have been delivered, unless the connection
// or ctx fails.
func (s *Service) leave(ctx context.Context) {
	s.conn.localMembers.remove(s)
	s.mu.Lock()
	subs := s.subs
	s.subs, s.closed = nil, true
	s.mu.Unlock()
	if len(subs) == 0 {
		return
	}
	resume := s.conn.pauseOthers(ctx, s.cfg.Destination.subject)
	for _, sub := range subs {
		_ = sub.Drain() // fails only on a closed connection, which has no subscriptions
	}
	for _, nc := range []*nats.Conn{s.conn.nc, s.conn.streams.nc} {
		if nc.IsConnected() {
			_ = flush(ctx, nc) // if it fails, the connection's end tells the callers
		}
	}
	resume()
	awaitDelivered(ctx, subs)
}

// awaitDelivered waits until the callbacks of drained subscriptions have received everything.
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

// SetLimit changes the limit for future requests.
func (s *Service) SetLimit(n int) { s.limit.Store(int64(n)) }

// Active returns the number of running requests.
func (s *Service) Active() int { return int(s.active.Load() + s.streaming.Load()) }

// admit is the subscription's callback. It must never block, since requests queue behind it.
func (s *Service) admit(msg *nats.Msg) {
	if n := s.active.Add(1); n > s.limit.Load() || s.base.Err() != nil {
		s.active.Add(-1)
		s.refuse(msg)
		return
	}
	s.work.Add(1)
	go s.handle(msg)
}

// admitStream is admit for requests with a stream.
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
	_ = s.conn.publishReply(busy) // if it is lost, the caller's deadline applies
}

// releasePermit returns a request's permit.
func (s *Service) releasePermit() { s.active.Add(-1) }

// handle runs one request and sends the reply.
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

// callHandler runs the handler and turns a panic into an error.
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

// logUnsent logs a reply that couldn't be published. Nobody else can be told.
func (s *Service) logUnsent(err error) {
	if !errors.Is(err, nats.ErrConnectionClosed) {
		s.log.Warn("reply not sent", "cause", err)
	}
}

// codedError turns a handler's error into a *node.Error: the error itself, the context's, or an internal one.
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

// errorReply returns the reply that reports an error instead of a response.
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

// handleCancel cancels the request whose nonce is the payload.
func (s *Service) handleCancel(msg *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cancel := s.calls[string(msg.Data)]; cancel != nil {
		cancel()
	} else {
		s.earlyCancels.add(string(msg.Data))
	}
}

// Shutdown leaves the group, waits until running requests are answered or ctx ends, and closes.
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

// closeWait bounds how long Close waits for requests on their way to the member.
const closeWait = time.Second

// Close cancels running requests and leaves the group. Requests that still arrive are refused. It doesn't wait for
// handlers that ignore their context.
func (s *Service) Close() error {
	s.stop()
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	s.leave(ctx)
	if s.cancel != nil && s.cancel.IsValid() {
		_ = s.cancel.Unsubscribe() // fails only if it has ended already
	}
	return nil
}

var errServiceClosed = errors.New("service is closed")
