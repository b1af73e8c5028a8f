package limit

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/nats-io/nats.go"
)

// ReadHolders reads the record of a limit on requests in flight: who has how many places at that moment.
func ReadHolders(value []byte, now time.Time) map[string]uint32 {
	out := map[string]uint32{}
	for name, h := range readHolders(value, now) {
		out[name] = h.Places
	}
	return out
}

// Waiting is how many requests of the rule wait in line, and in how many lines.
func (r *Rule) Waiting() (requests, lines int) {
	r.queues.mu.Lock()
	defer r.queues.mu.Unlock()
	return r.queues.waiting, len(r.queues.lines)
}

// Seats is what this node knows of requests in flight: places that it has, those in use, and keys in memory.
func (r *Rule) Seats(key Key) (held, busy uint32, keys int) {
	p := r.places.snapshot(key)
	r.places.mu.Lock()
	defer r.places.mu.Unlock()
	return p.held, p.busy, len(r.places.byKey)
}

// HoldsSlot makes it as if the node had held its slot since long ago. False means that it has none yet.
func (l *Limiter) HoldsSlot() bool {
	if l.slot.number.Load() == 0 {
		return false
	}
	l.slot.since.Store(1)
	return true
}

// TestTable is a table that is full of entries as they are after a lease.
type TestTable struct{ t *table }

// NewTestTable makes a table with n entries.
func NewTestTable(n int) TestTable {
	t := newTable(2 * n)
	for i := range n {
		r := &Rule{id: "rule"}
		key := r.Key(binary.BigEndian.AppendUint64(nil, uint64(i)))
		s := t.of(key)
		s.put(key, entry{until: int64(i), rev: uint64(i), permits: 10, left: 90, leased: 10, active: 1, flags: known},
			t.max, 0)
	}
	return TestTable{t}
}

// Len is how many entries there are.
func (t TestTable) Len() int { return t.t.len() }

// StoreName is the bucket of the records.
func (l *Limiter) StoreName() string { return l.store.raw.(*streamStore).name }

// Put writes a record as it is.
func (l *Limiter) Put(key Key, value []byte, rev uint64, keep time.Duration) (uint64, error) {
	ctx, cancel := context.WithTimeout(l.ctx, flightTime)
	defer cancel()
	return l.store.put(ctx, key, stored{value: value, rev: rev}, keep)
}

// Get reads a record from the one that leads.
func (l *Limiter) Get(key Key) ([]byte, uint64, error) {
	ctx, cancel := context.WithTimeout(l.ctx, flightTime)
	defer cancel()
	v, err := l.store.get(ctx, key, true)
	return v.value, v.rev, err
}

// PlaceTime is how long a node's places last after its last word.
const PlaceTime = placeTime

// Entries is a shard's table.
type Entries struct{ t entries }

// NewEntries makes an empty one.
func NewEntries() *Entries { return &Entries{newEntries()} }

// Set stores what is known of a key.
func (t *Entries) Set(key Key, until int64) { t.t.set(key, entry{until: until}) }

// Get finds it.
func (t *Entries) Get(key Key) (int64, bool) {
	e, found := t.t.get(key)
	return e.until, found
}

// Drop forgets a key.
func (t *Entries) Drop(key Key) { t.t.drop(key) }

// DropUntil forgets what ends by then.
func (t *Entries) DropUntil(now int64) { t.t.dropIf(func(e *entry) bool { return e.until <= now }) }

// Some gives a key.
func (t *Entries) Some() Key { return t.t.some(func(*entry) bool { return false }) }

// Size is how many keys and cells there are.
func (t *Entries) Size() (n, cells int) { return t.t.n, len(t.t.cells) }

// ReadMark reads what a write says of itself: its mark, and the writer's time.
func ReadMark(text string) (mark uint64, wrote int64) {
	v := withMark(stored{}, nats.Header{markField: []string{text}})
	return v.mark, v.wrote
}

// WriteMark writes it.
func WriteMark(mark uint64, wrote int64) string {
	s := &streamStore{cfg: &Config{}}
	return s.message(Key{}, &stored{mark: mark, wrote: wrote}, 0).Header.Get(markField)
}
