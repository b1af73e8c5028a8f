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

// want asks the other nodes for permits of a key's window.
type want struct {
	Op      string `json:"op"`
	Rule    string `json:"rule"`
	Key     string `json:"key"`
	Until   int64  `json:"until"` // which window: its end
	Permits uint32 `json:"permits,omitempty"`
	From    string `json:"from"`
}

// What nodes ask each other.
const (
	opGive   = "give"   // permits that aren't needed
	opCount  = "count"  // how many there are
	opForget = "forget" // what is known of the key
	opClock  = "clock"  // what the clocks say
)

// gift is a node's answer.
type gift struct {
	Node    string `json:"node"`
	Permits uint32 `json:"permits"`
	Own     bool   `json:"own,omitempty"` // the node's own part of the window is or was among them

	Time  int64     `json:"time,omitempty"`  // of the limits
	Wall  int64     `json:"wall,omitempty"`  // of the node's own clock
	Epoch uint32    `json:"epoch,omitempty"` // of its time; 0 if it has none
	Heard time.Time `json:"-"`               // when the answer was here
}

// recall asks the other nodes for permits of a window.
func (l *Limiter) recall(ctx context.Context, r *Rule, key Key, until int64, permits uint32) uint32 {
	l.recalls.Add(1)
	got := total(l.peers.recall(ctx, want{
		Op: opGive, Rule: r.id, Key: key.String(), Until: until, Permits: permits,
		From: l.cfg.Node,
	}, recallTime))
	l.recalled.Add(uint64(got))
	return got
}

func total(gifts []gift) uint32 {
	var sum uint32
	for _, g := range gifts {
		sum += g.Permits
	}
	return sum
}

// String writes the key as it stands in subjects.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// answer serves what another node asks. False means that there is nothing to say: the question is this node's own, or
// none.
func (l *Limiter) answer(w want) (gift, bool) {
	g := gift{Node: l.cfg.Node}
	if w.Op == opClock {
		g.Epoch, g.Wall, g.Time = l.clock.epoch.Load(), l.clock.wall().UnixNano(), l.clock.now()
		return g, w.From != l.cfg.Node
	}
	raw, err := hex.DecodeString(w.Key)
	if err != nil || len(raw) != len(Key{}) || w.From == l.cfg.Node {
		return g, false
	}
	r := (*l.byID.Load())[w.Rule]
	if r == nil {
		return g, true
	}
	key := Key(raw)
	switch {
	case w.Op == opGive && r.kind == concurrent:
		g.Permits = r.returnPlaces(key, w.From)
	case w.Op == opGive:
		g.Permits = r.give(key, w.Until, w.Permits)
	case w.Op == opCount && r.kind == concurrent:
		g.Permits = r.free(key)
	case w.Op == opCount:
		g.Permits, g.Own = r.holds(key, w.Until)
	case w.Op == opForget:
		l.table.drop(key)
		l.damage.forget(key)
	default:
		return g, false
	}
	return g, true
}

// give takes permits of a window out of this node, for another one: half of them, or as many as it needs. They are gone
// before the answer is sent, so an answer that is lost costs permits and never makes any. What the node reserves for
// itself counts, but only if it holds its slot: a node that was cut off, and whose slot another one has, must not give
// it away once more.
func (r *Rule) give(key Key, until int64, want uint32) uint32 {
	now := r.l.clock.now()
	s := r.l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := r.entry(s, key, now)
	if !found || e.until != until || now >= e.until || e.permits == 0 {
		return 0
	}
	n := min(e.permits, max(want, e.permits/2+e.permits%2))
	e.permits -= n
	s.entries.set(key, e)
	return n
}

// holds is how many permits of a window the node has, and whether it has begun its own part. Zero for until means
// whichever runs.
func (r *Rule) holds(key Key, until int64) (permits uint32, own bool) {
	now := r.l.clock.now()
	s := r.l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.entries.get(key)
	switch {
	case now >= e.until || (e.until != until && until != 0):
		return 0, false
	case r.kind == bucket:
		return uint32((e.until - max(e.spentTo(), now)) / r.interval), false //nolint:gosec // G115: at most what was leased
	}
	return e.permits, e.flags&shared != 0
}

// drop forgets a key, permits included.
func (t *table) drop(key Key) {
	s := t.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries.drop(key)
}

// meshPeers asks over NATS.
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
	m.sub, err = m.l.cfg.NATS.Subscribe(m.subject(), m.hear)
	return err //nolint:wrapcheck // the caller says what it was for
}

func (m *meshPeers) close() error {
	if m.sub == nil || !m.sub.IsValid() {
		return nil
	}
	return m.sub.Unsubscribe() //nolint:wrapcheck // likewise
}

func (m *meshPeers) hear(msg *nats.Msg) {
	var w want
	if json.Unmarshal(msg.Data, &w) != nil {
		return
	}
	m.l.begin(func() { // since it may ask the store
		if g, ok := m.l.answer(w); ok {
			b, _ := json.Marshal(g)                // a string and a number
			_ = m.l.cfg.NATS.Publish(msg.Reply, b) // the asker doesn't count on it
		}
	})
}

func (m *meshPeers) nodes() int {
	if m.l.cfg.Nodes == nil {
		return 1
	}
	return max(m.l.cfg.Nodes(), 1)
}

// recallTime is how long the answers of the others are waited for.
const recallTime = 60 * time.Millisecond

// recall waits for the answer of each node that is there, but not longer than that.
func (m *meshPeers) recall(ctx context.Context, w want, wait time.Duration) []gift {
	inbox := m.l.cfg.NATS.NewInbox()
	sub, err := m.l.cfg.NATS.SubscribeSync(inbox)
	if err != nil {
		return nil
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only if the connection is gone
	b, _ := json.Marshal(w)                  // strings and numbers
	if m.l.cfg.NATS.PublishRequest(m.subject(), inbox, b) != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	var out []gift
	seen := map[string]bool{}
	for len(out) < m.nodes()-1 {
		msg, err := sub.NextMsgWithContext(ctx)
		if err != nil {
			break
		}
		g := gift{Heard: time.Now()}
		if json.Unmarshal(msg.Data, &g) == nil && !seen[g.Node] {
			seen[g.Node] = true
			out = append(out, g)
		}
	}
	return out
}

// Usage is what is known of a key.
type Usage struct {
	Limit  uint32    // of the window, or of the bucket
	Spent  uint32    // what was admitted; permits that a dead node had count too
	Held   uint32    // permits that nodes hold, unspent
	Resets time.Time // when it will be as if nothing had been admitted; zero if that is so now
}

// Usage looks a key up in the store, and asks all nodes.
func (r *Rule) Usage(ctx context.Context, key Key) (Usage, error) {
	if r.l.gone() {
		return Usage{}, r.l.errAway()
	}
	ctx, cancel := context.WithTimeout(ctx, flightTime)
	defer cancel()
	if r.kind == concurrent {
		return r.occupied(ctx, key)
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
		r.bring(&rec, v.wrote, now)
	}
	leased, until := r.leased(&rec, now, &u)
	gifts := r.l.peers.recall(ctx, want{Op: opCount, Rule: r.id, Key: key.String(), Until: until, From: r.l.cfg.Node},
		recallTime)
	permits, own := r.holds(key, until)
	for _, g := range append(gifts, gift{Permits: permits, Own: own}) {
		if u.Held += g.Permits; g.Own {
			leased += r.share
		}
	}
	if r.share > 0 && leased > 0 {
		_, end := r.windowAt(now)
		u.Resets = r.l.wallAt(end)
	}
	u.Held = min(u.Held, leased)
	u.Spent = leased - u.Held
	return u, nil
}

// wallAt is what this node's clock says at a moment of the limits' time.
func (l *Limiter) wallAt(t int64) time.Time { return time.Unix(0, t+l.clock.off()) }

// leased is how many permits have left the record for the window of now, with the end by which nodes know it; 0 for
// any.
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

// resetTries is how often a reset tries a record that nodes change meanwhile.
const resetTries = 16

// Reset makes it as if a key had asked for nothing. What nodes hold for its present window is dropped, if they can be
// reached; one that can't be may spend it, within that window's limit.
func (r *Rule) Reset(ctx context.Context, key Key) error {
	if r.kind == concurrent && !r.l.damage.has(key) { // places aren't an allowance
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
			err = r.l.store.drop(ctx, key, 1<<62) // there may be one that the store can't give
		} else {
			_, err = r.l.write(ctx, key, rec.encode(r.kind), v.rev, r.keep(&rec, now))
		}
		switch {
		case err == nil:
			r.l.table.drop(key)
			r.l.damage.forget(key)
			r.l.peers.recall(ctx, want{Op: opForget, Rule: r.id, Key: key.String(), From: r.l.cfg.Node}, recallTime)
			return nil
		case !errors.Is(err, errConflict) && !errors.Is(err, errUnsure):
			return fmt.Errorf("write the record: %w", err)
		}
		backOff(ctx, try)
	}
	return ErrAway
}
