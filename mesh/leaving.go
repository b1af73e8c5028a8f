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
	pauseWithin    = 250 * time.Millisecond
	maxPause       = time.Second
	maxPauses      = 4096
)

// leaving is what a member that leaves tells the nodes.
type leavingMessage struct {
	Version int    `json:"v"`       // 1
	ID      string `json:"id"`      // of this leave
	Subject string `json:"subject"` // of its requests
	Over    bool   `json:"over,omitempty"`
}

// holding is a node's answer, once for each of its connections.
type pausedMessage struct {
	Version int    `json:"v"` // 1
	Node    string `json:"node"`
	Streams bool   `json:"streams,omitempty"` // from the connection for streams
}

// holds are the subjects on which this connection sends no requests at this moment.
type pauses struct {
	mu     sync.RWMutex // held for reading while a request is published; guards what follows
	paused map[string]*pausedSubject
	leaves map[string]*leave // by their IDs
}

// hold is a subject that members leave.
type pausedSubject struct {
	leaves  int
	resumed chan struct{} // closed when no leave is left
}

// leave is one member's leaving.
type leave struct {
	subject string
	limit   *time.Timer
}

// pass waits while requests on the subject are held back, and keeps the next leave waiting until the request is
// published.
func (p *pauses) beginPublish(subject string) {
	for {
		p.mu.RLock()
		held := p.paused[subject]
		if held == nil {
			return
		}
		p.mu.RUnlock()
		<-held.resumed // holdLimit at the latest
	}
}

func (p *pauses) endPublish() { p.mu.RUnlock() }

// begin holds requests on the subject back, and returns when those on their way are published.
func (p *pauses) pause(id, subject string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.leaves[id] != nil || len(p.leaves) >= maxPauses {
		return
	}
	if p.leaves == nil {
		p.leaves, p.paused = map[string]*leave{}, map[string]*pausedSubject{}
	}
	p.leaves[id] = &leave{subject, time.AfterFunc(maxPause, func() { p.resume(id) })}
	if p.paused[subject] == nil {
		p.paused[subject] = &pausedSubject{resumed: make(chan struct{})}
	}
	p.paused[subject].leaves++
}

// end lets requests go again, unless another member leaves too. It can be called again.
func (p *pauses) resume(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leaves[id]
	if l == nil {
		return
	}
	delete(p.leaves, id)
	l.limit.Stop()
	held := p.paused[l.subject]
	if held.leaves--; held.leaves == 0 {
		delete(p.paused, l.subject)
		close(held.resumed)
	}
}

// hear takes the message of a member that leaves.
func (c *Conn) handleLeaving(msg *nats.Msg) {
	var l leavingMessage
	if json.Unmarshal(msg.Data, &l) != nil || l.Version != 1 {
		return
	}
	if l.Over {
		c.pauses.resume(l.ID)
		return
	}
	c.pauses.pause(l.ID, l.Subject)
	self := c.nodeID()
	if self == "" || msg.Reply == "" {
		return // nobody waits for it
	}
	for nc, streams := range map[*nats.Conn]bool{c.nc: false, c.streams.nc: true} {
		if b, err := json.Marshal(pausedMessage{Version: 1, Node: self, Streams: streams}); err == nil {
			_ = nc.Publish(msg.Reply, b) // the member doesn't wait for long
		}
	}
}

// holdOthers lets the other nodes hold back requests on the subject until over is called. It returns when they do, or
// after holdWait.
func (c *Conn) pauseOthers(ctx context.Context, subject string) (over func()) {
	missing := map[pausedMessage]bool{}
	for _, id := range c.otherNodes() {
		missing[pausedMessage{1, id, false}], missing[pausedMessage{1, id, true}] = true, true
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
	c.publishLeaving(leavingMessage{Version: 1, ID: id, Subject: subject}, sub.Subject)
	limit := acquireTimer(pauseWithin)
	defer releaseTimer(limit)
	for len(missing) > 0 {
		select {
		case msg := <-answers:
			var h pausedMessage
			if json.Unmarshal(msg.Data, &h) == nil {
				delete(missing, h)
			}
		case <-limit.C:
			clear(missing)
		case <-ctx.Done():
			clear(missing)
		}
	}
	return func() { c.publishLeaving(leavingMessage{Version: 1, ID: id, Subject: subject, Over: true}, "") }
}

func (c *Conn) publishLeaving(l leavingMessage, reply string) {
	if b, err := json.Marshal(l); err == nil {
		_ = c.nc.PublishRequest(c.cfg.Prefix+leavingSubject, reply, b) // without a connection nobody sends here either
	}
}
