package limit

import (
	"context"
	"time"
)

// ModelStore is a store of a test. Each call makes one attempt.
type ModelStore interface {
	Get(ctx context.Context, key Key, fresh bool) (Stored, error)
	Put(ctx context.Context, key Key, v Stored, keep time.Duration) (uint64, error)
	Last(ctx context.Context) (uint64, error)
	Drop(ctx context.Context, key Key, upTo uint64) error
}

// Stored is a record as a store returns it.
type Stored struct {
	Value        []byte
	Rev, WriteID uint64
	WrittenAt    int64
}

// ModelPeers are the other nodes of a test.
type ModelPeers interface {
	Nodes() int
	Alone() bool // there are no other nodes, ever
	Recall(ctx context.Context, w RecallRequest, wait time.Duration) []RecallReply
}

// Requests and replies between nodes.
type (
	RecallRequest = recallRequest
	RecallReply   = recallReply
)

// What is known about a request to the store that failed.
var (
	ErrConflict    = errConflict
	ErrUnsure      = errUnsure
	ErrNoResponder = errNoResponder
)

type storeModel struct{ ModelStore }

func (s storeModel) get(ctx context.Context, key Key, fresh bool) (stored, error) {
	v, err := s.Get(ctx, key, fresh)
	return stored{v.Value, v.Rev, v.WriteID, v.WrittenAt}, err
}

func (s storeModel) put(ctx context.Context, key Key, v stored, keep time.Duration) (uint64, error) {
	return s.Put(ctx, key, Stored{v.value, v.rev, v.writeID, v.writtenAt}, keep)
}

func (s storeModel) last(ctx context.Context) (uint64, error) { return s.Last(ctx) }

func (s storeModel) drop(ctx context.Context, key Key, upTo uint64) error {
	return s.Drop(ctx, key, upTo)
}

type peersModel struct{ ModelPeers }

func (p peersModel) nodes() int { return p.Nodes() }

func (p peersModel) recall(ctx context.Context, w recallRequest, wait time.Duration) []recallReply {
	return p.Recall(ctx, w, wait)
}

// NewModel makes a limiter with a test's own store and other nodes.
func NewModel(cfg Config, s ModelStore, p ModelPeers) *Limiter {
	l := newLimiter(cfg)
	l.store, l.peers, l.alone = &store{raw: storeModel{s}, firstWrite: firstWriteTry}, peersModel{p}, p.Alone()
	return l
}

// Time returns the limits' time.
func (l *Limiter) Time() time.Time { return l.now() }

// AnswerRecall returns the reply to another node's request.
func (l *Limiter) AnswerRecall(w RecallRequest) (RecallReply, bool) { return l.answerRecall(w) }

// ShareNumber returns the node's share number; 0 if it has none or may not use it.
func (l *Limiter) ShareNumber() int64 {
	if !l.share.heldSince(1<<63 - 1) {
		return 0
	}
	return l.share.number.Load()
}

// Until returns the end of the permits that a decision has spent.
func (d *Decision) Until() int64 { return d.until }

// Record is what the store keeps for a key.
type Record = record

// Kinds returns the kinds of records.
func Kinds() []byte { return []byte{byte(fixed), byte(sliding), byte(bucket), byte(concurrent)} }

// Spans is the number of counts in the record of a sliding window.
const Spans = keptSpans

// NewRecord makes a record of a kind.
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

// Encode encodes the record.
func (r *record) Encode(k byte) []byte { return r.encode(kind(k)) }

// DecodeRecord decodes a record.
func DecodeRecord(b []byte, k byte) (Record, error) { return decodeRecord(b, kind(k)) }

// Reading is what a node's clocks say, relative to the time of the node that compares.
type Reading struct {
	Time, Wall time.Duration
	Epoch      uint32
}

// Comparison is the result of CompareReadings.
type Comparison struct {
	Epoch               uint32
	Jump, Drift, Wall   time.Duration
	Majority, Unanimous bool
}

// CompareReadings compares the clocks of a node with those of others.
func CompareReadings(own Reading, others []Reading, nodes int, alone bool) Comparison {
	of := func(r Reading) reading { return reading{int64(r.Time), int64(r.Wall), r.Epoch} }
	var all []reading
	for _, o := range others {
		all = append(all, of(o))
	}
	f := compareReadings(of(own), all, nodes, alone)
	return Comparison{
		f.epoch, time.Duration(f.jump), time.Duration(f.drift), time.Duration(f.wall), f.majority, f.unanimous,
	}
}
