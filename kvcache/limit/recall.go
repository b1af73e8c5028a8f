package limit

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
)

// recallRequest asks the other nodes about a key. Its Op says what for.
type recallRequest struct {
	Op      string `json:"op"`
	Rule    string `json:"rule"`
	Key     string `json:"key"`
	Until   int64  `json:"until"` // end of the window that is meant
	Permits uint32 `json:"permits,omitempty"`
	From    string `json:"from"`
}

// The operations of a recallRequest.
const (
	opGive   = "give"   // give permits away that this node doesn't need
	opCount  = "count"  // count the permits
	opForget = "forget" // forget the key
	opClock  = "clock"  // read the clocks
)

// recallReply is a node's reply.
type recallReply struct {
	Node    string `json:"node"`
	Permits uint32 `json:"permits"`
	Share   bool   `json:"own,omitempty"` // the permits include, or included, the node's share of the window

	Time       int64     `json:"time,omitempty"`  // limits' time
	Wall       int64     `json:"wall,omitempty"`  // the node's own clock
	Epoch      uint32    `json:"epoch,omitempty"` // epoch of Time; 0 if the node has no time
	ReceivedAt time.Time `json:"-"`               // when the reply arrived
}

// recall asks the other nodes for permits of a window and returns how many they gave.
func (l *Limiter) recall(ctx context.Context, r *Rule, key Key, until int64, permits uint32) uint32 {
	l.recalls.Add(1)
	got := totalPermits(l.peers.recall(ctx, recallRequest{
		Op: opGive, Rule: r.id, Key: key.String(), Until: until, Permits: permits,
		From: l.cfg.Node,
	}, recallTime))
	l.recalled.Add(uint64(got))
	return got
}

func totalPermits(replies []recallReply) uint32 {
	var sum uint32
	for _, r := range replies {
		sum += r.Permits
	}
	return sum
}

// String returns the key in hexadecimal, as it is in subjects.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// answerRecall handles another node's request. It reports false if there is no reply: the request is malformed or this
// node's own.
func (l *Limiter) answerRecall(req recallRequest) (recallReply, bool) {
	reply := recallReply{Node: l.cfg.Node}
	if req.Op == opClock {
		reply.Epoch, reply.Wall, reply.Time = l.clock.epoch.Load(), l.clock.wall().UnixNano(), l.clock.now()
		return reply, req.From != l.cfg.Node
	}
	raw, err := hex.DecodeString(req.Key)
	if err != nil || len(raw) != len(Key{}) || req.From == l.cfg.Node {
		return reply, false
	}
	r := (*l.byID.Load())[req.Rule]
	if r == nil {
		return reply, true
	}
	key := Key(raw)
	switch {
	case req.Op == opGive && r.kind == concurrent:
		reply.Permits = r.returnSlots(key, req.From)
	case req.Op == opGive:
		reply.Permits = r.give(key, req.Until, req.Permits)
	case req.Op == opCount && r.kind == concurrent:
		reply.Permits = r.unusedSlots(key)
	case req.Op == opCount:
		reply.Permits, reply.Share = r.heldPermits(key, req.Until)
	case req.Op == opForget:
		l.table.drop(key)
		l.damage.forget(key)
	default:
		return reply, false
	}
	return reply, true
}

// give takes permits of a window away from this node for another one: half of them, or as many as it needs. They are
// gone before the reply is sent, so a lost reply costs permits and never creates any. The node's share counts only
// while the node holds it: a node that was cut off may have lost its share to another node, and must not give it away
// again.
func (r *Rule) give(key Key, until int64, needed uint32) uint32 {
	now := r.l.clock.now()
	s := r.l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := r.entry(s, key, now)
	if !found || e.until != until || now >= e.until || e.permits == 0 {
		return 0
	}
	n := min(e.permits, max(needed, e.permits/2+e.permits%2))
	e.permits -= n
	s.entries.set(key, e)
	return n
}

// heldPermits returns how many permits of a window the node has, and whether they include its share. If until is 0, any
// current window counts.
func (r *Rule) heldPermits(key Key, until int64) (permits uint32, share bool) {
	now := r.l.clock.now()
	s := r.l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.entries.get(key)
	switch {
	case now >= e.until || (e.until != until && until != 0):
		return 0, false
	case r.kind == bucket:
		return uint32((e.until - max(e.spentTo(), now)) / r.interval), false //nolint:gosec // G115: at most what was leased
	}
	return e.permits, e.flags&hasShare != 0
}

// drop forgets a key and its permits.
func (t *table) drop(key Key) {
	s := t.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.drop(key)
}

// meshPeers asks the other nodes over NATS.
type meshPeers struct {
	l   *Limiter
	sub *nats.Subscription
}

func newMeshPeers(l *Limiter) *meshPeers { return &meshPeers{l: l} }

func (m *meshPeers) subject() string { return m.l.cfg.Prefix + "millrace.limit" }

func (m *meshPeers) open() (err error) {
	if m.l.cfg.Nodes == nil {
		return nil
	}
	m.sub, err = m.l.cfg.NATS.Subscribe(m.subject(), m.handleRequest)
	return err // the caller wraps it
}

func (m *meshPeers) close() error {
	if m.sub == nil || !m.sub.IsValid() {
		return nil
	}
	return m.sub.Unsubscribe()
}

func (m *meshPeers) handleRequest(msg *nats.Msg) {
	var req recallRequest
	if json.Unmarshal(msg.Data, &req) != nil {
		return
	}
	m.l.spawn(func() { // in a goroutine, since it may ask the store
		if reply, ok := m.l.answerRecall(req); ok {
			b, _ := json.Marshal(reply)            // a reply can always be encoded
			_ = m.l.cfg.NATS.Publish(msg.Reply, b) // the other node does without it
		}
	})
}

func (m *meshPeers) nodes() int {
	if m.l.cfg.Nodes == nil {
		return 1
	}
	return max(m.l.cfg.Nodes(), 1)
}

// recallTime is how long a recall waits for the replies of the other nodes.
const recallTime = 60 * time.Millisecond

// recall returns the first reply of each other node that arrives within wait.
func (m *meshPeers) recall(ctx context.Context, req recallRequest, wait time.Duration) []recallReply {
	inbox := m.l.cfg.NATS.NewInbox()
	sub, err := m.l.cfg.NATS.SubscribeSync(inbox)
	if err != nil {
		return nil
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	b, _ := json.Marshal(req)                // a request can always be encoded
	if m.l.cfg.NATS.PublishRequest(m.subject(), inbox, b) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var out []recallReply
	seen := map[string]bool{}
	for len(out) < m.nodes()-1 {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		reply := recallReply{ReceivedAt: time.Now()}
		if json.Unmarshal(msg.Data, &reply) == nil && !seen[reply.Node] {
			seen[reply.Node] = true
			out = append(out, reply)
		}
	}
	return out
}

// Usage is the state of one key.
type Usage struct {
	Limit  uint32    // of the window, or of the bucket
	Spent  uint32    // admitted requests; permits of dead nodes count as spent
	Held   uint32    // unspent permits that nodes hold
	Resets time.Time // when all of it has expired; zero if nothing is spent
}

// Usage reads a key's record from the store and asks all nodes for their permits. Errors: ErrAway; or a record that
// can't be read.
func (r *Rule) Usage(ctx context.Context, key Key) (Usage, error) {
	if r.l.gone() {
		return Usage{}, r.l.errAway()
	}
	ctx, cancel := context.WithTimeout(ctx, flightTime)
	defer cancel()
	if r.kind == concurrent {
		return r.inflightUsage(ctx, key)
	}
	now := r.l.clock.now()
	v, err := r.l.store.get(ctx, key, true)
	if err != nil {
		return Usage{}, fmt.Errorf("read the record: %w", err)
	}
	u := Usage{Limit: r.max}
	var rec record
	if v.value != nil {
		if rec, err = decodeRecord(v.value, r.kind); err != nil {
			return Usage{}, err
		}
		r.rebase(&rec, v.writtenAt, now)
	}
	leased, until := r.leased(&rec, now, &u)
	replies := r.l.peers.recall(ctx, recallRequest{
		Op: opCount, Rule: r.id, Key: key.String(), Until: until, From: r.l.cfg.Node,
	}, recallTime)
	permits, share := r.heldPermits(key, until)
	for _, reply := range append(replies, recallReply{Permits: permits, Share: share}) {
		if u.Held += reply.Permits; reply.Share {
			leased += r.sharePermits
		}
	}
	if r.sharePermits > 0 && leased > 0 {
		_, end := r.windowAt(now)
		u.Resets = r.l.wallAt(end)
	}
	u.Held = min(u.Held, leased)
	u.Spent = leased - u.Held
	return u, nil
}

// wallAt converts a moment of the limits' time to this node's clock.
func (l *Limiter) wallAt(t int64) time.Time { return time.Unix(0, t+l.clock.wallAhead()) }

// leased returns how many permits have left the record for the current window, and the end by which nodes identify that
// window; 0 for any. It also sets u.Limit and u.Resets.
func (r *Rule) leased(rec *record, now int64, u *Usage) (leased uint32, until int64) {
	switch r.kind {
	case sliding:
		span := r.window / spansPerWindow
		rec.advance(max(now/span, rec.newest))
		if leased = rec.sum(spansPerWindow + 1); leased > 0 {
			u.Resets = r.l.wallAt(now + r.window)
		}
	case bucket:
		u.Limit = uint32(r.depth / r.interval) //nolint:gosec // G115: the burst
		if rec.last > now {
			leased, u.Resets = uint32((rec.last-now)/r.interval), r.l.wallAt(rec.last) //nolint:gosec // G115: bounded by what was leased
		}
	case fixed, concurrent:
		if now < rec.end {
			leased, until, u.Resets = rec.granted, rec.end, r.l.wallAt(rec.end)
		}
	}
	return leased, until
}

// resetTries is how often Reset tries to write a record that other nodes change too.
const resetTries = 16

// Reset makes a key as if it had sent no requests. Nodes drop what they hold for its current window. A node that can't
// be reached may still spend its permits, within that window's limit.
func (r *Rule) Reset(ctx context.Context, key Key) error {
	if r.kind == concurrent && !r.l.damage.has(key) { // slots aren't an allowance
		return nil
	}
	if r.l.gone() {
		return r.l.errAway()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*flightTime)
	defer cancel()
	for try := range resetTries {
		now := r.l.clock.now()
		v, err := r.l.store.get(ctx, key, true)
		if err != nil {
			return fmt.Errorf("read the record: %w", err)
		}
		rec := record{}
		if r.kind == fixed {
			rec.start, rec.end = r.windowAt(now)
		}
		if v.rev == 0 || r.kind == concurrent {
			err = r.l.store.drop(ctx, key, 1<<62) // there may be a record that the store doesn't return
		} else {
			_, err = r.l.write(ctx, key, rec.encode(r.kind), v.rev, r.keep(&rec, now))
		}
		switch {
		case err == nil:
			r.l.table.drop(key)
			r.l.damage.forget(key)
			r.l.peers.recall(ctx, recallRequest{
				Op: opForget, Rule: r.id, Key: key.String(), From: r.l.cfg.Node,
			}, recallTime)
			return nil
		case !errors.Is(err, errConflict) && !errors.Is(err, errUnsure):
			return fmt.Errorf("write the record: %w", err)
		}
		backOff(ctx, try)
	}
	return ErrAway
}
