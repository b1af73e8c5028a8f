package limit

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"
)

// maxSlots bounds the nodes that a limit can be divided among.
const maxSlots = 9

// How long a slot belongs to a node after its last word, how often the node speaks, and how much earlier it stops to
// count on it than the store.
const (
	slotTime   = 15 * time.Second
	slotEvery  = time.Second
	slotMargin = 3 * time.Second
)

// slot is the numbered place among the nodes that gives this node a part of each limit of its own. It is held like a
// lease: taken and renewed by writing a record that the store forgets by itself.
type slot struct {
	number atomic.Int64 // 0 if the node has none
	since  atomic.Int64 // in Unix nanoseconds
	until  atomic.Int64 // since base
	ends   atomic.Int64 // the same in Unix nanoseconds: until doesn't count the time that the machine is suspended
	base   time.Time
}

// extend counts on the slot for a while after begun, when its record was about to be written.
func (s *slot) extend(begun time.Time) {
	ends := begun.Add(slotTime - slotMargin)
	s.until.Store(int64(ends.Sub(s.base)))
	s.ends.Store(ends.UnixNano())
}

// lasts reports whether the node can count on its slot.
func (s *slot) lasts() bool {
	now := time.Now()
	return int64(now.Sub(s.base)) < s.until.Load() && now.UnixNano() < s.ends.Load()
}

// slotSkew is more than the clocks of nodes differ.
const slotSkew = time.Second

// held reports whether the node holds a slot, and has held it since before the window that began at start: only then
// nobody else can have spent the slot's part of that window.
func (s *slot) held(start int64) bool {
	since := s.since.Load()
	return since != 0 && since+int64(slotSkew) <= start && s.lasts()
}

// keepSlot takes a slot and renews it until ctx ends.
func (l *Limiter) keepSlot(ctx context.Context) {
	if l.clock.await(ctx) != nil {
		return
	}
	tick := time.NewTicker(slotEvery)
	defer tick.Stop()
	var rev uint64
	for {
		if l.divides() {
			rev = l.renew(ctx, rev)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// divides reports whether some rule reserves parts.
func (l *Limiter) divides() bool {
	for _, r := range *l.rules.Load() {
		if r.share > 0 {
			return true
		}
	}
	return false
}

// renew keeps the slot, or takes a free one. It gives the revision of the slot's record.
func (l *Limiter) renew(ctx context.Context, rev uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	begun := time.Now()
	if n := l.slot.number.Load(); n != 0 {
		next, err := l.write(ctx, slotKey(n), []byte(l.cfg.Node), rev, slotTime)
		if err == nil {
			l.slot.extend(begun)
			return next
		}
		if rev, mine := l.slotRevision(ctx, n, rev, err); mine && l.slot.lasts() {
			return rev
		}
		l.slot.since.Store(0)
		l.slot.number.Store(0)
	}
	for n := int64(1); n <= int64(l.cfg.Slots); n++ {
		next, err := l.write(ctx, slotKey(n), []byte(l.cfg.Node), 0, slotTime)
		if err == nil {
			l.slot.extend(begun)
			l.slot.since.Store(l.clock.now())
			l.slot.number.Store(n)
			return next
		}
	}
	return 0
}

// slotRevision is for a write that has failed: the one before it may have been done though its answer was lost, and
// this one too. It reports whether the slot may still be this node's, and the revision of its record as far as that is
// known.
func (l *Limiter) slotRevision(ctx context.Context, n int64, rev uint64, failed error) (uint64, bool) {
	v, err := l.store.get(ctx, slotKey(n), true)
	if err != nil {
		return rev, !errors.Is(failed, errConflict)
	}
	return v.rev, string(v.value) == l.cfg.Node
}

// slotKey names the record of a slot.
func slotKey(n int64) Key {
	var key Key
	copy(key[:], "slot "+strconv.FormatInt(n, 10))
	return key
}
