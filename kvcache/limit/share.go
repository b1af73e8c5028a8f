package limit

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"
	"time"
)

// maxShares is how many nodes a limit can be divided among.
const maxShares = 9

// shareTime is how long a node keeps a share number after it has last written its record, every shareEvery. The node
// stops using it shareMargin before the store lets another node have it.
const (
	shareTime   = 15 * time.Second
	shareEvery  = time.Second
	shareMargin = 3 * time.Second
)

// share is the number that gives this node its share of each limit. It is held like a lease: the node writes and renews
// a record that expires in the store.
type share struct {
	number atomic.Int64 // 0 if the node has none
	since  atomic.Int64 // since when the node has the number, in Unix nanoseconds
	until  atomic.Int64 // when the node stops using it, as time since base
	ends   atomic.Int64 // the same in Unix nanoseconds: until leaves out the time of a suspension
	base   time.Time
}

// extend lets the node use its share number for a while after begun, the time just before its record was written.
func (s *share) extend(begun time.Time) {
	ends := begun.Add(shareTime - shareMargin)
	s.until.Store(int64(ends.Sub(s.base)))
	s.ends.Store(ends.UnixNano())
}

// valid reports whether the node may use its share number.
func (s *share) valid() bool {
	now := time.Now()
	return int64(now.Sub(s.base)) < s.until.Load() && now.UnixNano() < s.ends.Load()
}

// shareSkew is more than the nodes' times differ.
const shareSkew = time.Second

// heldSince reports whether the node holds a share number, and has held it since before the window that began at start.
// Otherwise another node may have spent that share of the window.
func (s *share) heldSince(start int64) bool {
	since := s.since.Load()
	return since != 0 && since+int64(shareSkew) <= start && s.valid()
}

// keepShare takes a share number and renews it until ctx ends.
func (l *Limiter) keepShare(ctx context.Context) {
	if l.clock.await(ctx) != nil {
		return
	}
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	var rev uint64
	for {
		if l.hasShares() {
			rev = l.renewShare(ctx, rev)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// hasShares reports whether a rule reserves shares.
func (l *Limiter) hasShares() bool {
	for _, r := range *l.rules.Load() {
		if r.sharePermits > 0 {
			return true
		}
	}
	return false
}

// renewShare renews the share number, or takes a free one. It returns the revision of the number's record.
func (l *Limiter) renewShare(ctx context.Context, rev uint64) uint64 {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	begun := time.Now()
	if n := l.share.number.Load(); n != 0 {
		next, err := l.write(ctx, shareKey(n), []byte(l.cfg.Node), rev, shareTime)
		if err == nil {
			l.share.extend(begun)
			return next
		}
		if rev, mine := l.shareRevision(ctx, n, rev, err); mine && l.share.valid() {
			return rev
		}
		l.share.since.Store(0)
		l.share.number.Store(0)
	}
	for n := int64(1); n <= int64(l.cfg.Slots); n++ {
		next, err := l.write(ctx, shareKey(n), []byte(l.cfg.Node), 0, shareTime)
		if err == nil {
			l.share.extend(begun)
			l.share.since.Store(l.clock.now())
			l.share.number.Store(n)
			return next
		}
	}
	return 0
}

// shareRevision is called when a write of the record has failed. That write, or an earlier one, may have succeeded
// although its reply was lost. It returns the revision of the record as far as it is known, and reports whether the
// number may still be this node's.
func (l *Limiter) shareRevision(ctx context.Context, n int64, rev uint64, failed error) (uint64, bool) {
	v, err := l.store.get(ctx, shareKey(n), true)
	if err != nil {
		return rev, !errors.Is(failed, errConflict)
	}
	return v.rev, string(v.value) == l.cfg.Node
}

// shareKey returns the key of a share number's record.
func shareKey(n int64) Key {
	var key Key
	copy(key[:], "slot "+strconv.FormatInt(n, 10))
	return key
}
