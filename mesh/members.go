package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// Members knows which nodes the mesh has: each says once a second that it lives, and once that it stops. It is the one
// source of who is there. It is safe for concurrent use.
type Members struct {
	conn    *Conn
	cfg     MembersConfig
	subject string
	sub     *nats.Subscription

	mu     sync.Mutex // guards what follows and the order of events
	roster *roster
	events chan MemberEvent // on their way to Event; closed by Close, dropped when full
	closed bool             // no event follows
	warned time.Time        // when a heartbeat was malformed and the log said so

	ctx        context.Context //nolint:containedctx // ends with the heartbeats
	stop       context.CancelFunc
	heartbeats sync.WaitGroup // the goroutine of the heartbeats
	delivering sync.WaitGroup // the goroutine that calls Event
}

// maxEvents bounds the events that wait for Event: more than a mesh of a usual size has when all of it changes at once.
const maxEvents = 1024

// MembersConfig says who this node is and who wants to know of the others.
type MembersConfig struct {
	Self    Member                   // ID, Name, Incarnation, Version and Started are set
	Changes func() (int64, []string) // configuration revision and roles of this moment
	// called for each change, one at a time and not after Close; if it is slow, events wait, and beyond 1024 are
	// dropped
	Event func(MemberEvent)
}

// notice is what nodes tell each other.
type heartbeat struct {
	Member
	Leaving bool `json:"leaving,omitempty"`
}

// NewMembers makes the list; Open begins to listen and to speak.
func (c *Conn) NewMembers(cfg MembersConfig) *Members {
	m := &Members{
		conn: c, cfg: cfg, subject: c.cfg.Prefix + "millrace.members", roster: newRoster(cfg.Self),
		events: make(chan MemberEvent, maxEvents),
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

// Open subscribes, says hello, and keeps saying that this node lives until Close. It fails if Self is not as the others
// expect it: ID and Version of characters that can be seen, Name a name. If it fails, the list is closed.
func (m *Members) Open(ctx context.Context) error {
	if err := m.open(ctx); err != nil {
		return fmt.Errorf("meet other nodes: %w", errors.Join(err, m.Close()))
	}
	return nil
}

func (m *Members) open(ctx context.Context) (err error) {
	if m.ctx.Err() != nil {
		return errors.New("the list is closed")
	}
	if self := m.self(); self.validate() != nil { // the others would believe nothing of it, and nobody would know why
		return fmt.Errorf("introduce this node: %w", self.validate())
	}
	m.delivering.Go(m.deliverEvents)
	if m.sub, err = m.conn.nc.Subscribe(m.subject, m.receive); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if err := flush(ctx, m.conn.nc); err != nil {
		return err
	}
	m.publish(false)
	m.heartbeats.Go(m.heartbeatLoop)
	m.conn.members.Store(m)
	return nil
}

// tellAgain is how long calls are told again and again of a node that is lost: until its server's connections are
// closed, requests are still sent there.
const announceLostFor = 30 * time.Second

// tellLost lets calls know of the nodes that were lost lately.
func (m *Members) announceLost(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.roster.members {
		if other.State == MemberLost && now.Sub(other.Seen) < LostAfter+announceLostFor {
			m.announceEnd(other, false)
		}
	}
}

// lost reports whether a node is known to be gone.
func (c *Conn) nodeLost(id string) bool {
	m := c.members.Load()
	if m == nil {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	other := m.roster.members[id]
	return other != nil && other.State != MemberAlive
}

// farewell lets calls know that a node's process won't answer any more.
func (m *Members) announceEnd(member *Member, left bool) {
	m.conn.waiting.enqueue(departure{node: member.ID, process: member.process(), announced: left})
}

// run names the process of a node.
func (m *Member) process() string { return m.ID + "." + strconv.FormatInt(m.Incarnation, 36) }

// self is the id of this connection's node; empty if it isn't one of a list of nodes.
func (c *Conn) nodeID() string {
	if m := c.members.Load(); m != nil {
		return m.cfg.Self.ID
	}
	return ""
}

// others lists the ids of the other nodes that are there.
func (c *Conn) otherNodes() []string {
	m := c.members.Load()
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	for id, other := range m.roster.members {
		if other.State == MemberAlive {
			out = append(out, id)
		}
	}
	return out
}

// beat is the goroutine that says that this node lives and finds who fell silent. It never waits for Event: a node
// whose disk is slow isn't lost.
func (m *Members) heartbeatLoop() {
	tick := time.NewTicker(HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-tick.C:
			m.publish(false)
			m.apply(func() []MemberEvent { return m.roster.expire(now) })
			m.announceLost(now)
		}
	}
}

// tell is the goroutine that calls Event.
func (m *Members) deliverEvents() {
	for e := range m.events {
		m.cfg.Event(e)
	}
}

// note changes the roster, hands the events to tell, in the order of the changes, and returns them.
func (m *Members) apply(change func() []MemberEvent) []MemberEvent {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	events := change()
	for _, e := range events {
		switch e.Kind {
		case EventRestarted:
			m.announceEnd(&e.before, false)
		case EventLeft:
			m.announceEnd(&e.Member, true)
		}
		select {
		case m.events <- e:
		default:
			m.conn.cfg.Log.Warn("too many changes of the mesh wait to be written down: one is dropped", "event", e.Kind,
				"name", e.Member.Name)
		}
	}
	return events
}

// Announce tells the others at once what has changed here.
func (m *Members) Announce() { m.publish(false) }

func (m *Members) publish(leaving bool) {
	n := heartbeat{Member: m.self(), Leaving: leaving}
	b, err := json.Marshal(n)
	if err != nil { // plain values always marshal
		return
	}
	_ = m.conn.nc.Publish(m.subject, b) // while the connection is away nobody hears it; the next one comes in a second
}

// self is this node as it is now. Roles beyond the limit are left out: the others would believe nothing of it
// otherwise.
func (m *Members) self() Member {
	self := m.cfg.Self
	self.Revision, self.Roles = m.cfg.Changes()
	self.Roles = self.Roles[:min(len(self.Roles), maxRoles)]
	return self
}

func (m *Members) receive(msg *nats.Msg) {
	var n heartbeat
	if len(msg.Data) > 64<<10 || json.Unmarshal(msg.Data, &n) != nil || n.validate() != nil {
		m.warn(msg.Data)
		return
	}
	n.State, n.Seen = "", time.Time{} // it says nothing about that
	events := m.apply(func() []MemberEvent {
		if n.Leaving {
			return m.roster.markLeft(n.Member, time.Now())
		}
		return m.roster.receive(n.Member, time.Now())
	})
	for _, e := range events {
		if e.Kind == EventJoined || e.Kind == EventRestarted {
			m.publish(false) // so that a newcomer needn't wait for the next beat
		}
	}
}

// warn tells of a malformed heartbeat, at most once a minute: there may be one every second.
func (m *Members) warn(heartbeat []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.warned) >= time.Minute {
		m.warned = now
		m.conn.cfg.Log.Warn("a node's heartbeat is malformed: does another release of Millrace run there?",
			"bytes", len(heartbeat))
	}
}

// List gives every node that is known: this one first, then by name.
func (m *Members) List() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.self = m.self()
	return m.roster.list(time.Now())
}

// Alive lists the ids of the nodes with a role that are there, this one included.
func (m *Members) Alive(role string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := []string{m.cfg.Self.ID}
	for id, other := range m.roster.members {
		if other.State == MemberAlive && slices.Contains(other.Roles, role) {
			out = append(out, id)
		}
	}
	return out
}

// Seen is when a node was heard last; the zero time if it never was.
func (m *Members) Seen(id string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.roster.members[id]; other != nil {
		return other.Seen
	}
	return time.Time{}
}

// Close says farewell and stops. It waits for the last Event, after which none comes. It can be called again, and
// without Open.
func (m *Members) Close() error {
	m.stop()
	m.heartbeats.Wait()
	if m.sub != nil && m.sub.IsValid() {
		m.publish(true)
		_ = m.sub.Unsubscribe() // fails only when it is gone already
	}
	m.closeEvents()
	m.delivering.Wait()
	return nil
}

// end lets tell end after the events that wait.
func (m *Members) closeEvents() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		close(m.events)
	}
}
