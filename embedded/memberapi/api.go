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

// answerer answers a request. op is the last token of its subject. The result is sent as JSON, or as it is if it is a
// *nats.Msg.
type answerer func(ctx context.Context, op string, payload []byte) any

// api answers the requests on one subject. Requests and answers are JSON objects, except for api.call.
type api struct {
	subject string // without the mesh's prefix
	answer  answerer
	sub     *nats.Subscription // nil before open
	running chan struct{}      // each running request holds one element; when it is full, requests are refused
	ctx     context.Context    //nolint:containedctx // canceled by close
	stop    context.CancelFunc

	mu     sync.Mutex // guards closed; work starts only while it is held and closed is false
	closed bool
	work   sync.WaitGroup
}

// maxRequests bounds how many requests of one API run at the same time. Further ones are refused.
const maxRequests = 1024

func newAPI(name string, answer answerer) *api {
	a := &api{subject: "api." + name, answer: answer, running: make(chan struct{}, maxRequests)}
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
		_ = a.sub.Unsubscribe() // fails only if it is unsubscribed already
	}
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	a.work.Wait()
}

// receive is the subscription's callback. It never blocks. It replies to inboxes only: otherwise a member could name
// another subject, and the node would publish there with its own permissions.
func (a *api) receive(msg *nats.Msg) {
	if !strings.HasPrefix(msg.Reply, "_INBOX") {
		return
	}
	select {
	case a.running <- struct{}{}:
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
		defer func() { <-a.running }()
		respond(msg, a.answerSafely(msg.Subject[strings.LastIndexByte(msg.Subject, '.')+1:], msg.Data))
	})
}

// answerSafely is answer, with a panic turned into a refusal: a request must not end the process.
func (a *api) answerSafely(op string, payload []byte) (out any) {
	defer func() {
		if p := recover(); p != nil {
			out = refusal{"the request failed inside the node", node.CodeInternal}
		}
	}()
	return a.answer(a.ctx, op, payload)
}
