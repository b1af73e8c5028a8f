package limit

import (
	"context"
	"time"
)

// ModelStore is a store for tests: each call is one try.
type ModelStore interface {
	Get(ctx context.Context, key Key, fresh bool) (Stored, error)
	Put(ctx context.Context, key Key, v Stored, keep time.Duration) (uint64, error)
	Last(ctx context.Context) (uint64, error)
	Drop(ctx context.Context, key Key, upTo uint64) error
}

// Stored is a record as a store has it.
type Stored struct {
	Value     []byte
	Rev, Mark uint64
	Wrote     int64
}

// ModelPeers are the other nodes, for tests.
type ModelPeers interface {
	Nodes() int
	Alone() bool // there are no others, ever
	Recall(ctx context.Context, w Want, wait time.Duration) []Gift
}

// What nodes ask and answer, and what a store says about a record that is another one by now.
type (
	Want = want
	Gift = gift
)

// What is known of a question that failed.
var (
	ErrConflict = errConflict
	ErrUnsure   = errUnsure
	ErrNobody   = errNobody
)

type storeModel struct{ ModelStore }

func (s storeModel) get(ctx context.Context, key Key, fresh bool) (stored, error) {
	v, err := s.Get(ctx, key, fresh)
	return stored{v.Value, v.Rev, v.Mark, v.Wrote}, err
}

func (s storeModel) put(ctx context.Context, key Key, v stored, keep time.Duration) (uint64, error) {
	return s.Put(ctx, key, Stored{v.value, v.rev, v.mark, v.wrote}, keep)
}

func (s storeModel) last(ctx context.Context) (uint64, error) { return s.Last(ctx) }

func (s storeModel) drop(ctx context.Context, key Key, upTo uint64) error {
	return s.Drop(ctx, key, upTo)
}

type peersModel struct{ ModelPeers }

func (p peersModel) nodes() int { return p.Nodes() }

func (p peersModel) recall(ctx context.Context, w want, wait time.Duration) []gift {
	return p.Recall(ctx, w, wait)
}

// NewModel makes a limiter with a store and other nodes of the test's own.
func NewModel(cfg Config, s ModelStore, p ModelPeers) *Limiter {
	l := newLimiter(cfg)
	l.store, l.peers, l.alone = &store{raw: storeModel{s}, first: firstWrite}, peersModel{p}, p.Alone()
	return l
}

// Time is what the limiter goes by.
func (l *Limiter) Time() time.Time { return l.now() }

// Answer is what the limiter says to another node.
func (l *Limiter) Answer(w Want) (Gift, bool) { return l.answer(w) }

// Slot is the number of the node's slot; 0 if it has none or can't count on it.
func (l *Limiter) Slot() int64 {
	if !l.slot.held(1<<63 - 1) {
		return 0
	}
	return l.slot.number.Load()
}

// Until is the end of the permits that a decision has spent.
func (d *Decision) Until() int64 { return d.until }

// Record is what the store keeps about a key.
type Record = record

// Kinds are those that a record can be of.
func Kinds() []byte { return []byte{byte(fixed), byte(sliding), byte(bucket), byte(concurrent)} }

// Spans is how many counts the record of a sliding window has.
const Spans = spanSlots

// NewRecord makes a record whose fields are those of a kind.
func NewRecord(k byte, times [2]int64, counts [Spans]uint32) (r Record) {
	switch kind(k) {
	case fixed:
		r.start, r.end, r.granted, r.active = times[0], times[1], counts[0], counts[1]
	case sliding:
		r.newest, r.spans = times[0], counts
	case bucket:
		r.last = times[0]
	case concurrent:
	}
	return r
}

// Encode writes the record.
func (r *record) Encode(k byte) []byte { return r.encode(kind(k)) }

// DecodeRecord reads it.
func DecodeRecord(b []byte, k byte) (Record, error) { return decodeRecord(b, kind(k)) }

// Reading is what a node's clocks say, against the time of the one that compares.
type Reading struct {
	Time, Wall time.Duration
	Epoch      uint32
}

// Finding is what follows from a comparison.
type Finding struct {
	Epoch             uint32
	Jump, Drift, Wall time.Duration
	Most, All         bool
}

// Judge compares the clocks of a node and of others.
func Judge(own Reading, others []Reading, nodes int, alone bool) Finding {
	of := func(r Reading) reading { return reading{int64(r.Time), int64(r.Wall), r.Epoch} }
	var all []reading
	for _, o := range others {
		all = append(all, of(o))
	}
	f := judge(of(own), all, nodes, alone)
	return Finding{f.epoch, time.Duration(f.jump), time.Duration(f.drift), time.Duration(f.wall), f.most, f.all}
}
