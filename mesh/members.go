package mesh

import (
	"context"
	"encoding/json"
	"fmt"
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

	mu      sync.Mutex // guards roster
	roster  *roster
	telling sync.Mutex // held while Event is called

	ctx  context.Context //nolint:containedctx // ends with the heartbeats
	stop context.CancelFunc
	done chan struct{}
}

// MembersConfig says who this node is and who wants to know of the others.
type MembersConfig struct {
	Self    Member                   // ID, Name, Incarnation, Version and Started are set
	Changes func() (int64, []string) // configuration revision and roles of this moment
	Event   func(MemberEvent)        // called for each change, one at a time; it must not block for long
}

// notice is what nodes tell each other.
type notice struct {
	Member
	Leaving bool `json:"leaving,omitempty"`
}

// NewMembers makes the list; Open begins to listen and to speak.
func (c *Conn) NewMembers(cfg MembersConfig) *Members {
	m := &Members{conn: c, cfg: cfg, subject: c.cfg.Prefix + "millrace.members", roster: newRoster(cfg.Self), done: make(chan struct{})}
	m.ctx, m.stop = context.WithCancel(context.Background())
	return m
}

// Open subscribes, says hello, and keeps saying that this node lives until Close.
func (m *Members) Open(ctx context.Context) error {
	var err error
	if m.sub, err = m.conn.nc.Subscribe(m.subject, m.receive); err != nil {
		close(m.done)
		return fmt.Errorf("listen to other nodes: %w", err)
	}
	if err := flush(ctx, m.conn.nc); err != nil {
		close(m.done)
		return fmt.Errorf("listen to other nodes: %w", err)
	}
	m.say(false)
	go m.beat()
	return nil
}

// beat is the goroutine that says that this node lives and finds who fell silent.
func (m *Members) beat() {
	defer close(m.done)
	tick := time.NewTicker(HeartbeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-tick.C:
			m.say(false)
			m.mu.Lock()
			events := m.roster.sweep(now)
			m.mu.Unlock()
			m.tell(events)
		}
	}
}

// Announce tells the others at once what has changed here.
func (m *Members) Announce() { m.say(false) }

func (m *Members) say(leaving bool) {
	n := notice{Member: m.self(), Leaving: leaving}
	b, err := json.Marshal(n)
	if err != nil { // plain values always marshal
		return
	}
	_ = m.conn.nc.Publish(m.subject, b) // while the connection is away nobody hears it; the next one comes in a second
}

// self is this node as it is now.
func (m *Members) self() Member {
	self := m.cfg.Self
	self.Revision, self.Roles = m.cfg.Changes()
	return self
}

func (m *Members) receive(msg *nats.Msg) {
	var n notice
	if len(msg.Data) > 64<<10 || json.Unmarshal(msg.Data, &n) != nil || !n.valid() {
		m.conn.cfg.Log.Warn("a node's heartbeat is malformed", "bytes", len(msg.Data))
		return
	}
	m.mu.Lock()
	n.State, n.Seen = "", time.Time{} // it says nothing about that
	var events []MemberEvent
	if n.Leaving {
		events = m.roster.left(n.Member, time.Now())
	} else {
		events = m.roster.heard(n.Member, time.Now())
	}
	m.mu.Unlock()
	for _, e := range events {
		if e.Kind == EventJoined || e.Kind == EventRestarted {
			m.say(false) // so that a newcomer needn't wait for the next beat
		}
	}
	m.tell(events)
}

func (m *Members) tell(events []MemberEvent) {
	m.telling.Lock()
	defer m.telling.Unlock()
	for _, e := range events {
		m.cfg.Event(e)
	}
}

// List gives every node that is known: this one first, then by name.
func (m *Members) List() []Member {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.self = m.self()
	return m.roster.list(time.Now())
}

// Close says farewell and stops.
func (m *Members) Close() error {
	m.stop()
	<-m.done
	if m.sub != nil && m.sub.IsValid() {
		m.say(true)
		_ = m.sub.Unsubscribe() // fails only when it is gone already
	}
	return nil
}
