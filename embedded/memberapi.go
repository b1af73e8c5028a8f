package embedded

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"

	"millrace/mesh"
	"millrace/node"
)

// memberAPI answers requests of members on api.NAME or api.NAME.*: one JSON object in, one out, but for api.call.
// Whichever node is asked answers.
type memberAPI struct {
	answer func(ctx context.Context, op string, payload []byte) any // gives what is written as JSON, or a message
	sub    *nats.Subscription
	places chan struct{}   // a request that runs holds one
	ctx    context.Context //nolint:containedctx // ends with the API
	stop   context.CancelFunc

	mu     sync.Mutex // guards closed, and that no work begins after it
	closed bool
	work   sync.WaitGroup
}

// maxMemberRequests bounds the requests of one API that run at once; one more is refused.
const maxMemberRequests = 1024

// apiError is the answer to what is wrong.
type apiError struct {
	Error string    `json:"error"`
	Code  node.Code `json:"code"`
}

// openMemberAPI begins to answer requests on api.NAME; answer gets the last token of the subject.
func (n *Node) openMemberAPI(name string, answer func(ctx context.Context, op string, payload []byte) any) error {
	api := &memberAPI{answer: answer, places: make(chan struct{}, maxMemberRequests)}
	api.ctx, api.stop = context.WithCancel(context.Background())
	sub, err := n.mesh.NATS().QueueSubscribe(meshPrefix(n.opts.Config.Mesh)+"api."+name, mesh.QueueGroup, api.receive)
	if err != nil {
		return fmt.Errorf("open api.%s: %w", name, err)
	}
	api.sub = sub
	n.opened("api."+name, api.close)
	return nil
}

func (a *memberAPI) close() error {
	if a.sub.IsValid() {
		_ = a.sub.Unsubscribe() // fails only when it is gone already
	}
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	a.work.Wait()
	return nil
}

// receive is the subscription's callback, which never blocks.
// Replies go to inboxes only: a member could name a node's own, and let the node speak to itself in its place.
func (a *memberAPI) receive(msg *nats.Msg) {
	if !strings.HasPrefix(msg.Reply, "_INBOX") {
		return
	}
	select {
	case a.places <- struct{}{}:
	default:
		respond(msg, apiError{"too many requests at once", node.CodeBusy})
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
func (a *memberAPI) contained(op string, payload []byte) (out any) {
	defer func() {
		if p := recover(); p != nil {
			out = apiError{"the request failed inside the node", node.CodeInternal}
		}
	}()
	return a.answer(a.ctx, op, payload)
}

// readPayload reads a request into v. What is wrong with it is told with an example of a right one; nil if nothing is.
func readPayload(payload []byte, v any, example string) (wrong *apiError) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return &apiError{"the payload is one JSON object, such as " + example + ": " + err.Error(), node.CodeInvalid}
	}
	return nil
}

func respond(msg *nats.Msg, reply any) {
	if whole, ok := reply.(*nats.Msg); ok { // of an API that speaks another language than JSON
		_ = msg.RespondMsg(whole) // as below
		return
	}
	b, err := json.Marshal(reply)
	if err != nil { // what isn't JSON was checked before
		b = []byte(`{"error": "the value isn't JSON", "code": "internal"}`)
	}
	if len(b) > int(node.MaxMessage) {
		b = []byte(`{"error": "the answer is longer than one message carries", "code": "body_too_large"}`)
	}
	_ = msg.Respond(b) // the caller asks again, or goes on without
}

// meshPrefix is what the subjects of the mesh begin with, dot included.
func meshPrefix(m node.Mesh) string {
	if m.Prefix == "" {
		return ""
	}
	return m.Prefix + "."
}
