package mesh

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// NATS doesn't tell a caller that a member died with its request. The embedded server sees the end of a member's
// connection, and the list of nodes the end of a node. Calls that have waited for a while (watchAfter) can be told of
// both: they give up a try that nobody will answer.
const (
	goneSubject         = "millrace.gone" // only nodes may publish on it
	waitingAfter        = 100 * time.Millisecond
	maxRecentDepartures = 256 // departures that are remembered for calls which aren't watched yet
	recentFor           = time.Minute
)

// gone is what a node tells the others of its server's members.
type goneMessage struct {
	Version  int      `json:"v"` // 1
	Subjects []string `json:"subjects"`
}

// MembersGone tells all nodes that a member which served these subjects, wildcards among them, ended without leaving.
func (c *Conn) MembersGone(subjects []string) {
	const most = 1000 // in one message
	for len(subjects) > 0 {
		n := min(len(subjects), most)
		if b, err := json.Marshal(goneMessage{1, subjects[:n]}); err == nil {
			_ = c.nc.Publish(c.cfg.Prefix+goneSubject, b) // without a connection there are no calls to tell
		}
		subjects = subjects[n:]
	}
}

// hearGone takes what a node tells of its server's members.
func (c *Conn) handleGone(msg *nats.Msg) {
	var g goneMessage
	if json.Unmarshal(msg.Data, &g) == nil && g.Version == 1 {
		c.waiting.enqueue(departure{subjects: g.Subjects})
	}
}

// departure is the end of a member or of a node.
type departure struct {
	at        time.Time // when this connection heard of it
	subjects  []string  // of a member
	node      string    // id of a node
	process   string    // names its process
	announced bool      // the node said that it stops: others are as they were
}

// attend tells the calls that wait of departures, until the connection is closed. What came before one has been taken
// when they hear of it: a member may answer and die at once.
func (c *Conn) announceDepartures() {
	for d := range c.waiting.queue {
		c.fence()
		c.waiting.announce(d)
		c.streams.probeSoon()
	}
}

// fence returns when all that came for calls before has been handed to them. It sends a reply to itself.
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

// watched are the calls that have waited for a while.
type waitingCalls struct {
	queue chan departure // to be told; when it is full they are dropped

	mu     sync.Mutex // guards what follows and the watches in it
	calls  map[*waitingCall]struct{}
	recent []departure // the newest
	closed bool
}

func newWaitingCalls() *waitingCalls {
	return &waitingCalls{queue: make(chan departure, maxRecentDepartures), calls: map[*waitingCall]struct{}{}}
}

// later lets attend tell a departure of this moment.
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

// close ends attend.
func (w *waitingCalls) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed {
		w.closed = true
		close(w.queue)
	}
}

// watch is a call that is told of departures.
type waitingCall struct {
	set        *waitingCalls
	to         Destination
	since      time.Time // when its first try was sent
	timer      *time.Timer
	departures []departure
}

// add begins to tell a call, by its timer. Departures since it was sent are news at once.
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

// tell reports whether the departure may concern the call.
func (c *waitingCall) add(d departure) bool {
	if d.at.Before(c.since) || !d.concerns(&c.to) {
		return false
	}
	c.departures = append(c.departures, d)
	return true
}

// concerns reports whether a call to the destination may have been with whoever is gone.
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

// covers reports whether a subscription to pattern gets messages on the subject.
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

// take gives the news since it was asked last.
func (c *waitingCall) takeDepartures() []departure {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	news := c.departures
	c.departures = nil
	return news
}

// rest sets the timer, unless there are news again.
func (c *waitingCall) resetTimer(d time.Duration) {
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	if len(c.departures) > 0 {
		d = 0
	}
	c.timer.Reset(d)
}

// end ends the telling, if it was begun. The timer may then be used for something else.
func (c *waitingCall) remove() {
	if c == nil {
		return
	}
	c.set.mu.Lock()
	defer c.set.mu.Unlock()
	delete(c.set.calls, c)
}
