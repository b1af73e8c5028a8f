package mesh

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// A member that leaves its group in a cluster tells the nodes that send before it tells its server. Servers hear of it
// one after the other, and what one of them still routes to a server without members is lost without a word, unless
// another server has one. So:
//
//  1. The member asks every node to hold back requests on its subject.
//  2. Each node waits until what it was sending is published, and answers on the connections that it sends requests
//     on.
//  3. All have answered: what was sent to the member has reached its server. It unsubscribes, and flushes.
//  4. It tells the nodes to send again. Their servers heard of the unsubscription before, since both take the same
//     way.
//
// A node that doesn't answer within holdWait isn't waited for, and what a member forgets to end ends after holdLimit.
const (
	leavingSubject = "millrace.leaving" // only nodes may publish on it
	holdWait       = 250 * time.Millisecond
	holdLimit      = time.Second
	maxHolds       = 4096
)

// leaving is what a member that leaves tells the nodes.
type leaving struct {
	Version int    `json:"v"`       // 1
	ID      string `json:"id"`      // of this leave
	Subject string `json:"subject"` // of its requests
	Over    bool   `json:"over,omitempty"`
}

// holding is a node's answer, once for each of its connections.
type holding struct {
	Version int    `json:"v"` // 1
	Node    string `json:"node"`
	Streams bool   `json:"streams,omitempty"` // from the connection for streams
}

// holds are the subjects on which this connection sends no requests at this moment.
type holds struct {
	gate   sync.RWMutex // held for reading while a request is published; guards what follows
	held   map[string]*hold
	leaves map[string]*leave // by their IDs
}

// hold is a subject that members leave.
type hold struct {
	leaves int
	over   chan struct{} // closed when no leave is left
}

// leave is one member's leaving.
type leave struct {
	subject string
	limit   *time.Timer
}

// pass waits while requests on the subject are held back, and keeps the next leave waiting until the request is
// published.
func (h *holds) pass(subject string) {
	for {
		h.gate.RLock()
		held := h.held[subject]
		if held == nil {
			return
		}
		h.gate.RUnlock()
		<-held.over // holdLimit at the latest
	}
}

func (h *holds) published() { h.gate.RUnlock() }

// begin holds requests on the subject back, and returns when those on their way are published.
func (h *holds) begin(id, subject string) {
	h.gate.Lock()
	defer h.gate.Unlock()
	if h.leaves[id] != nil || len(h.leaves) >= maxHolds {
		return
	}
	if h.leaves == nil {
		h.leaves, h.held = map[string]*leave{}, map[string]*hold{}
	}
	h.leaves[id] = &leave{subject, time.AfterFunc(holdLimit, func() { h.end(id) })}
	if h.held[subject] == nil {
		h.held[subject] = &hold{over: make(chan struct{})}
	}
	h.held[subject].leaves++
}

// end lets requests go again, unless another member leaves too. It can be called again.
func (h *holds) end(id string) {
	h.gate.Lock()
	defer h.gate.Unlock()
	l := h.leaves[id]
	if l == nil {
		return
	}
	delete(h.leaves, id)
	l.limit.Stop()
	held := h.held[l.subject]
	if held.leaves--; held.leaves == 0 {
		delete(h.held, l.subject)
		close(held.over)
	}
}

// hear takes the message of a member that leaves.
func (c *Conn) hear(msg *nats.Msg) {
	var l leaving
	if json.Unmarshal(msg.Data, &l) != nil || l.Version != 1 {
		return
	}
	if l.Over {
		c.holds.end(l.ID)
		return
	}
	c.holds.begin(l.ID, l.Subject)
	self := c.self()
	if self == "" || msg.Reply == "" {
		return // nobody waits for it
	}
	for nc, streams := range map[*nats.Conn]bool{c.nc: false, c.links.nc: true} {
		if b, err := json.Marshal(holding{Version: 1, Node: self, Streams: streams}); err == nil {
			_ = nc.Publish(msg.Reply, b) // the member doesn't wait for long
		}
	}
}

// holdOthers lets the other nodes hold back requests on the subject until over is called. It returns when they do, or
// after holdWait.
func (c *Conn) holdOthers(ctx context.Context, subject string) (over func()) {
	missing := map[holding]bool{}
	for _, id := range c.others() {
		missing[holding{1, id, false}], missing[holding{1, id, true}] = true, true
	}
	if len(missing) == 0 || ctx.Err() != nil {
		return func() {}
	}
	id := nuid.Next()
	answers := make(chan *nats.Msg, 2*len(missing)) // NATS drops what doesn't fit
	sub, err := c.nc.ChanSubscribe(c.inbox+".l."+id, answers)
	if err != nil {
		return func() {}
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a broken connection
	c.tellLeaving(leaving{Version: 1, ID: id, Subject: subject}, sub.Subject)
	limit := acquireTimer(holdWait)
	defer releaseTimer(limit)
	for len(missing) > 0 {
		select {
		case msg := <-answers:
			var h holding
			if json.Unmarshal(msg.Data, &h) == nil {
				delete(missing, h)
			}
		case <-limit.C:
			clear(missing)
		case <-ctx.Done():
			clear(missing)
		}
	}
	return func() { c.tellLeaving(leaving{Version: 1, ID: id, Subject: subject, Over: true}, "") }
}

func (c *Conn) tellLeaving(l leaving, reply string) {
	if b, err := json.Marshal(l); err == nil {
		_ = c.nc.PublishRequest(c.cfg.Prefix+leavingSubject, reply, b) // without a connection nobody sends here either
	}
}
