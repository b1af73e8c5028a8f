package limit

import (
	"context"
	"encoding/binary"
	"time"

	"github.com/nats-io/nats.go"
)

// DecodeLeases decodes the record of a limit on requests in flight: the slots of each node.
func DecodeLeases(value []byte, now time.Time) map[string]uint32 {
	out := map[string]uint32{}
	for name, h := range decodeValidLeases(value, now) {
		out[name] = h.Slots
	}
	return out
}

// Waiting returns how many requests of the rule are queued, and in how many queues.
func (r *Rule) Waiting() (requests, queues int) {
	r.queues.mu.Lock()
	defer r.queues.mu.Unlock()
	return r.queues.waiting, len(r.queues.byKey)
}

// Slots returns the leased slots of a key on this node, those in use, and the number of keys in memory.
func (r *Rule) Slots(key Key) (leased, inUse uint32, keys int) {
	p := r.inflight.snapshot(key)
	r.inflight.mu.Lock()
	defer r.inflight.mu.Unlock()
	return p.leased, p.inUse, len(r.inflight.byKey)
}

// BackdateShare makes it look as if the node had held its share number for long. It reports false if it has none yet.
func (l *Limiter) BackdateShare() bool {
	if l.share.number.Load() == 0 {
		return false
	}
	l.share.since.Store(1)
	return true
}

// FullTable is a table full of entries as they are after a lease.
type FullTable struct{ t *table }

// NewFullTable makes a table with n entries.
func NewFullTable(n int) FullTable {
	t := newTable(2 * n)
	for i := range n {
		r := &Rule{id: "rule"}
		key := r.Key(binary.BigEndian.AppendUint64(nil, uint64(i)))
		s := t.shardOf(key)
		s.put(key, entry{
			until: int64(i), rev: uint64(i), permits: 10, left: 90, leased: 10, active: 1, flags: recordKnown,
		}, t.maxPerShard, 0)
	}
	return FullTable{t}
}

// Len returns the number of entries.
func (t FullTable) Len() int { return t.t.len() }

// StoreName returns the name of the bucket.
func (l *Limiter) StoreName() string { return l.store.raw.(*streamStore).name }

// Put writes a record without checks.
func (l *Limiter) Put(key Key, value []byte, rev uint64, keep time.Duration) (uint64, error) {
	ctx, cancel := context.WithTimeout(l.ctx, flightTime)
	defer cancel()
	return l.store.put(ctx, key, stored{value: value, rev: rev}, keep)
}

// Get reads a record from the leader.
func (l *Limiter) Get(key Key) ([]byte, uint64, error) {
	ctx, cancel := context.WithTimeout(l.ctx, flightTime)
	defer cancel()
	v, err := l.store.get(ctx, key, true)
	return v.value, v.rev, err
}

// SlotLeaseTime is how long the slots of a node last after their last renewal.
const SlotLeaseTime = slotLeaseTime

// Entries is the table of a shard.
type Entries struct{ t entries }

// NewEntries makes an empty table.
func NewEntries() *Entries { return &Entries{newEntries()} }

// Set stores an entry.
func (t *Entries) Set(key Key, until int64) { t.t.set(key, entry{until: until}) }

// Get returns the end of an entry.
func (t *Entries) Get(key Key) (int64, bool) {
	e, found := t.t.get(key)
	return e.until, found
}

// Drop removes a key.
func (t *Entries) Drop(key Key) { t.t.drop(key) }

// DropUntil removes the entries that end by now.
func (t *Entries) DropUntil(now int64) { t.t.dropIf(func(e *entry) bool { return e.until <= now }) }

// Sample returns any key.
func (t *Entries) Sample() Key { return t.t.sample(func(*entry) bool { return false }) }

// Size returns the number of keys and of cells.
func (t *Entries) Size() (n, cells int) { return t.t.n, len(t.t.cells) }

// ReadWriteID decodes the header field of a write: its ID, and the writer's time.
func ReadWriteID(text string) (id uint64, writtenAt int64) {
	v := withWriteID(stored{}, nats.Header{writeIDField: []string{text}})
	return v.writeID, v.writtenAt
}

// FormatWriteID encodes the header field of a write.
func FormatWriteID(id uint64, writtenAt int64) string {
	s := &streamStore{cfg: &Config{}}
	return s.message(Key{}, &stored{writeID: id, writtenAt: writtenAt}, 0).Header.Get(writeIDField)
}
