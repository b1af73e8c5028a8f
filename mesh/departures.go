package mesh

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// NATS doesn't tell a caller that a member died with its request. But the embedded server sees the end of a member's
// connection, and Members sees the end of a node. Calls that have waited for waitingAfter are told of both and abandon
// tries that won't be answered.
const (
	goneSubject         = "millrace.gone" // only nodes may publish on it
	waitingAfter        = 100 * time.Millisecond
	maxRecentDepartures = 256 // remembered for calls that begin to wait later
	recentFor           = time.Minute
)

// goneMessage is what a node tells the others about members of its server.
type goneMessage struct {
	Version  int      `json:"v"` // 1
	Subjects []string `json:"subjects"`
}

// MembersGone tells all nodes that a member which subscribed to these subjects ended without leaving. They may have
// wildcards.
func (c *Conn) MembersGone(subjects []string) {
	const maxSubjects = 1000 // per message
	for len(subjects) > 0 {
		n := min(len(subjects), maxSubjects)
		if b, err := json.Marshal(goneMessage{1, subjects[:n]}); err == nil {
			_ = c.nc.Publish(c.cfg.Prefix+goneSubject, b) // without a connection there are no calls to tell
		}
		subjects = subjects[n:]
	}
}

// handleGone handles another node's goneMessage.
func (c *Conn) handleGone(msg *nats.Msg) {
	var g goneMessage
	if json.Unmarshal(msg.Data, &g) == nil && g.Version == 1 {
		c.waiting.enqueue(departure{subjects: g.Subjects})
	}
}

// departure is the end of a member or of a node.
type departure struct {
	at        time.Time // when this connection heard of it
	subjects  []string  // the member's
	node      string    // the node's id
	process   string    // the node's process
	announced bool      // the node said that it stops: only tries known to be there are affected
}

// announceDepartures tells the waiting calls of departures until the connection is closed. Replies that arrived before
// a departure are delivered first, since a member may answer and die right away.
func (c *Conn) announceDepartures() {
	for d := range c.waiting.queue {
		c.fence()
		c.waiting.announce(d)
		c.streams.probeSoon()
	}
}

// fence returns when every reply that has arrived was delivered to its call. It sends itself a reply and waits for
// that.
func (c *Conn) fence() {
	t, ok := c.mux.begin()
	if !ok {
		return
	}
	if c.nc.Publish(c.mux.subject(t, "fence"), nil) != nil {
		c.mux.abandon(t, "fence")
		return
	}
	timer := acquireTimer(time.Second)
	defer releaseTimer(timer)
	select {
	case <-t.slot.reply:
		c.mux.release(t)
	case <-timer.C:
		c.mux.abandon(t, "fence")
	}
}

// waitingCalls holds the calls that have waited for waitingAfter.
type waitingCalls struct {
	queue chan departure // to be announced; when full, departures are dropped

	mu     sync.Mutex // guards the fields below and the departures of each call
	calls  map[*waitingCall]struct{}
	recent []departure // newest last
	closed bool
}

func newWaitingCalls() *waitingCalls {
	return &waitingCalls{queue: make(chan departure, maxRecentDepartures), calls: map[*waitingCall]struct{}{}}
}

// enqueue makes announceDepartures announce a departure that happens now.
func (w *waitingCalls) enqueue(d departure) {
	d.at = time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	select {
	case w.queue <- d:
	default:
	}
}

// close ends announceDepartures.
func (w *waitingCalls) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
}

// waitingCall is a call that is told of departures.
type waitingCall struct {
	set        *waitingCalls
	to         Destination
	since      time.Time // when its first try was sent
	timer      *time.Timer
	departures []departure
}

// add registers a call. Its timer fires when there are departures for it. Those since its first try are added at once.
func (w *waitingCalls) add(to Destination, since time.Time, timer *time.Timer) *waitingCall {
	c := &waitingCall{set: w, to: to, since: since, timer: timer}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls[c] = struct{}{}
	for _, d := range w.recent {
		c.add(d)
	}
	return c
}

func (w *waitingCalls) announce(d departure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.calls {
		if c.add(d) {
			c.timer.Reset(0)
		}
	}
	w.recent = append(w.recent, d)
	w.recent = slices.Delete(w.recent, 0, max(0, len(w.recent)-maxRecentDepartures))
	w.recent = slices.DeleteFunc(w.recent, func(old departure) bool { return time.Since(old.at) > recentFor })
}

// add adds the departure and returns true, if it may concern the call.
func (c *waitingCall) add(d departure) bool {
	if d.at.Before(c.since) || !d.concerns(&c.to) {
		return false
	}
	c.departures = append(c.departures, d)
	return true
}

// concerns reports whether a call to the destination may have been with whoever departed.
func (d *departure) concerns(to *Destination) bool {
	if d.node != "" {
		return to.answers != oneNode || to.nodeID() == d.node
	}
	for _, s := range d.subjects {
		if covers(s, to.subject) || covers(s, to.stream) {
			return true
		}
	}
	return false
}

// covers reports whether a subscription to pattern receives messages on the subject.
func covers(pattern, subject string) bool {
	if subject == "" {
		return false
	}
	for {
		p, restOfPattern, more := strings.Cut(pattern, ".")
		s, restOfSubject, moreOfSubject := strings.Cut(subject, ".")
		switch {
		case p == ">" && !more:
			return subject != ""
		case p != s && p != "*":
			return false
		case !more || !moreOfSubject:
			return more == moreOfSubject
		}
		pattern, subject = restOfPattern, restOfSubject
	}
}

// takeDepartures returns the departures since the last call.
func (c *waitingCall) takeDepartures() []departure {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	departures := c.departures
	c.departures = nil
	return departures
}

// resetTimer resets the timer, to fire at once if there are departures.
func (c *waitingCall) resetTimer(wait time.Duration) {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	if len(c.departures) > 0 {
		wait = 0
	}
	c.timer.Reset(wait)
}

// remove unregisters the call. The timer may then be reused. A nil call is ignored.
func (c *waitingCall) remove() {
	if c == nil {
		return
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	delete(c.set.calls, c)
}
