package memberapi

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"millrace/mesh"
	"millrace/node"
)

// answerer answers a request; op is the last token of its subject. What it gives is written as JSON, unless it is a
// message.
type answerer func(ctx context.Context, op string, payload []byte) any

// api answers the requests on one subject: one JSON object in, one out, but for api.call.
type api struct {
	subject string // without the mesh's prefix
	answer  answerer
	sub     *nats.Subscription // nil before open
	places  chan struct{}      // a request that runs holds one
	ctx     context.Context    //nolint:containedctx // ends with the API
	stop    context.CancelFunc

	mu     sync.Mutex // guards closed, and that no work begins after it
	closed bool
	work   sync.WaitGroup
}

// maxRequests bounds the requests of one API that run at once; one more is refused.
const maxRequests = 1024

func newAPI(name string, answer answerer) *api {
	a := &api{subject: "api." + name, answer: answer, places: make(chan struct{}, maxRequests)}
	a.ctx, a.stop = context.WithCancel(context.Background())
	return a
}

func (a *api) open(conn *mesh.Conn) error {
	sub, err := conn.NATS().QueueSubscribe(conn.PlainSubject(a.subject), mesh.QueueGroup, a.receive)
	if err != nil {
		return fmt.Errorf("open %s: %w", a.subject, err)
	}
	a.sub = sub
	return nil
}

func (a *api) close() {
	if a.sub != nil && a.sub.IsValid() {
		_ = a.sub.Unsubscribe() // fails only when it is gone already
	}
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	a.work.Wait()
}

// receive is the subscription's callback, which never blocks.
// Replies go to inboxes only: a member could name a node's own, and let the node speak to itself in its place.
func (a *api) receive(msg *nats.Msg) {
	if !strings.HasPrefix(msg.Reply, "_INBOX") {
		return
	}
	select {
	case a.places <- struct{}{}:
	default:
		respond(msg, refusal{"too many requests at once", node.CodeBusy})
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return
	}
	a.work.Go(func() {
		defer func() { <-a.places }()
		respond(msg, a.contained(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:], msg.Data))
	})
}

// contained keeps a panic from ending the process.
func (a *api) contained(op string, payload []byte) (out any) {
	defer func() {
		if p := recover(); p != nil {
			out = refusal{"the request failed inside the node", node.CodeInternal}
		}
	}()
	return a.answer(a.ctx, op, payload)
}
