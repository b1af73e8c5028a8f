package mesh

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// A member that leaves its group in a cluster tells the sending nodes before its server. Servers learn of an
// unsubscription one after the other. What one of them still routes to a server without members is lost without an
// error, unless yet another server has members. So:
//
//  1. The member asks every node to pause requests on its subject.
//  2. Each node waits until the requests it is sending are published. It then answers on the connections that it sends
//     requests on.
//  3. When all have answered, whatever was sent to the member has reached its server. The member unsubscribes and
//     flushes.
//  4. The member tells the nodes to resume. Their servers have learned of the unsubscription before, since both take
//     the same path.
//
// A node that doesn't answer within pauseWithin isn't waited for. A pause that isn't ended ends by itself after
// maxPause.
const (
	leavingSubject = "millrace.leaving" // only nodes may publish on it
	pauseWithin    = 250 * time.Millisecond
	maxPause       = time.Second
	maxPauses      = 4096
)

// leavingMessage is what a leaving member tells the nodes.
type leavingMessage struct {
	Version int    `json:"v"`       // 1
	ID      string `json:"id"`      // of this leave
	Subject string `json:"subject"` // of the member's requests
	Over    bool   `json:"over,omitempty"`
}

// pausedMessage is a node's answer, one on each of its connections.
type pausedMessage struct {
	Version int    `json:"v"` // 1
	Node    string `json:"node"`
	Streams bool   `json:"streams,omitempty"` // sent on the connection for streams
}

// pauses holds the subjects on which this connection now sends no requests.
type pauses struct {
	mu     sync.RWMutex // read-locked while a request is published; guards the fields below
	paused map[string]*pausedSubject
	leaves map[string]*leave // by ID
}

// pausedSubject is a subject that members are leaving.
type pausedSubject struct {
	leaves  int
	resumed chan struct{} // closed when the last leave has ended
}

// leave is one member's leave.
type leave struct {
	subject string
	limit   *time.Timer
}

// beginPublish waits while requests on the subject are paused. The caller publishes its request and calls endPublish.
// A pause that begins meanwhile waits for that.
func (p *pauses) beginPublish(subject string) {
	for {
		p.mu.RLock()
		paused := p.paused[subject]
		if paused == nil {
			return
		}
		p.mu.RUnlock()
		<-paused.resumed // within maxPause
	}
}

func (p *pauses) endPublish() { p.mu.RUnlock() }

// pause pauses requests on the subject, and returns when those being sent are published.
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

// resume ends a leave, and with the subject's last one the pause. It may be called again.
func (p *pauses) resume(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.leaves[id]
	if l == nil {
		return
	}
	delete(p.leaves, id)
	l.limit.Stop()
	paused := p.paused[l.subject]
	if paused.leaves--; paused.leaves == 0 {
		delete(p.paused, l.subject)
		close(paused.resumed)
	}
}

// handleLeaving handles the message of a leaving member.
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
		return // no answer is expected
	}
	for nc, streams := range map[*nats.Conn]bool{c.nc: false, c.streams.nc: true} {
		if b, err := json.Marshal(pausedMessage{Version: 1, Node: self, Streams: streams}); err == nil {
			_ = nc.Publish(msg.Reply, b) // the member's wait is bounded
		}
	}
}

// pauseOthers makes the other nodes pause requests on the subject until resume is called. It returns when they have, or
// after pauseWithin.
func (c *Conn) pauseOthers(ctx context.Context, subject string) (resume func()) {
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
		_ = c.nc.PublishRequest(c.cfg.Prefix+leavingSubject, reply, b) // without a connection no requests arrive either
	}
}
