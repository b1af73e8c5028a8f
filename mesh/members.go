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

// Members knows the nodes of the mesh. Each sends a heartbeat once a second, and a last message when it stops. It is
// the only source of which nodes are there. It is safe for concurrent use.
type Members struct {
	conn    *Conn
	cfg     MembersConfig
	subject string
	sub     *nats.Subscription

	mu     sync.Mutex // guards the fields up to warned, and the order of events
	roster *roster
	events chan MemberEvent // for Event; closed by Close, dropped when full
	closed bool             // no more events
	warned time.Time        // when the log last reported a malformed heartbeat

	ctx        context.Context //nolint:containedctx // ends with the heartbeats
	stop       context.CancelFunc
	heartbeats sync.WaitGroup // the goroutine of heartbeatLoop
	delivering sync.WaitGroup // the goroutine that calls Event
}

// maxEvents bounds the events that wait for Event. It exceeds what a mesh of usual size produces when all of it changes
// at once.
const maxEvents = 1024

// MembersConfig describes this node, and who is told about the others.
type MembersConfig struct {
	Self    Member                   // ID, Name, Incarnation, Version and Started are set
	Changes func() (int64, []string) // current configuration revision and roles
	// Event is called for each change, one at a time and not after Close. While it is slow, events wait, and beyond
	// 1024 they are dropped.
	Event func(MemberEvent)
}

// heartbeat is the message that nodes send each other.
type heartbeat struct {
	Member
	Leaving bool `json:"leaving,omitempty"`
}

// NewMembers makes the list. Open starts it.
func (c *Conn) NewMembers(cfg MembersConfig) *Members {
	m := &Members{
		conn: c, cfg: cfg, subject: c.cfg.Prefix + "millrace.members", roster: newRoster(cfg.Self),
		events: make(chan MemberEvent, maxEvents),
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

// Open subscribes and sends heartbeats until Close. It fails if other nodes would reject Self: ID and Version must be
// printable, and Name a valid name. If it fails, the list is closed.
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
	if self := m.self(); self.validate() != nil { // the others would ignore this node, and nobody would know why
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

// announceLostFor is how long a lost node is announced to waiting calls. Until its server's connections are closed,
// requests are still sent there.
const announceLostFor = 30 * time.Second

// announceLost announces recently lost nodes to waiting calls.
func (m *Members) announceLost(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, other := range m.roster.members {
		if other.State == MemberLost && now.Sub(other.Seen) < LostAfter+announceLostFor {
			m.announceEnd(other, false)
		}
	}
}

// nodeLost reports whether a node is known to be gone.
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

// announceEnd tells waiting calls that a node's process won't answer any more. announced means that the node itself
// said so.
func (m *Members) announceEnd(member *Member, announced bool) {
	m.conn.waiting.enqueue(departure{node: member.ID, process: member.process(), announced: announced})
}

// process identifies the node's process.
func (m *Member) process() string { return m.ID + "." + strconv.FormatInt(m.Incarnation, 36) }

// nodeID returns the id of this connection's node, or "" if it has no list of nodes.
func (c *Conn) nodeID() string {
	if m := c.members.Load(); m != nil {
		return m.cfg.Self.ID
	}
	return ""
}

// otherNodes returns the ids of the other nodes that are alive.
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

// heartbeatLoop sends heartbeats and detects silent nodes. It never waits for Event, so a node with a slow disk isn't
// taken for lost.
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

// deliverEvents calls Event for each event.
func (m *Members) deliverEvents() {
	for e := range m.events {
		m.cfg.Event(e)
	}
}

// apply changes the roster, queues the events in the order of the changes, and returns them.
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

// Announce tells the other nodes at once what has changed here.
func (m *Members) Announce() { m.publish(false) }

func (m *Members) publish(leaving bool) {
	n := heartbeat{Member: m.self(), Leaving: leaving}
	b, err := json.Marshal(n)
	if err != nil { // plain values always marshal
		return
	}
	_ = m.conn.nc.Publish(m.subject, b) // while disconnected nobody hears it; the next one follows in a second
}

// self returns this node's current state. Roles beyond the limit are left out, or the others would reject the
// heartbeat.
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
	n.State, n.Seen = "", time.Time{} // never sent
	events := m.apply(func() []MemberEvent {
		if n.Leaving {
			return m.roster.markLeft(n.Member, time.Now())
		}
		return m.roster.receive(n.Member, time.Now())
	})
	for _, e := range events {
		if e.Kind == EventJoined || e.Kind == EventRestarted {
			m.publish(false) // so that a new node needn't wait for the next heartbeat
		}
	}
}

// warn logs a malformed heartbeat, at most once a minute, since one may come every second.
func (m *Members) warn(heartbeat []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.Sub(m.warned) >= time.Minute {
		m.warned = now
		m.conn.cfg.Log.Warn("a node's heartbeat is malformed: does another release of Millrace run there?",
			"bytes", len(heartbeat))
	}
}

// List returns every known node: this one first, then by name.
func (m *Members) List() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.self = m.self()
	return m.roster.list(time.Now())
}

// Alive returns the ids of the alive nodes with a role, always including this one.
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

// Seen returns when a node was last heard, or the zero time if never.
func (m *Members) Seen(id string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if other := m.roster.members[id]; other != nil {
		return other.Seen
	}
	return time.Time{}
}

// Close announces that this node stops, and stops. It waits for the last Event; none follows. It may be called again,
// and without Open.
func (m *Members) Close() error {
	m.stop()
	m.heartbeats.Wait()
	if m.sub != nil && m.sub.IsValid() {
		m.publish(true)
		_ = m.sub.Unsubscribe() // fails only if it has ended already
	}
	m.closeEvents()
	m.delivering.Wait()
	return nil
}

// closeEvents ends deliverEvents after the queued events.
func (m *Members) closeEvents() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.closed = true
		close(m.events)
	}
}
