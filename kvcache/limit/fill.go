package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// fill leases permits for a key. It fails if the store doesn't answer, or if the record contradicts what is known.
func (l *Limiter) fill(ctx context.Context, r *Rule, key Key, f *flight) error {
	if err := l.clock.await(ctx); err != nil {
		return err
	}
	t := fillState{l: l, r: r, key: key}
	for ; ctx.Err() == nil; t.try++ {
		done, err := t.attempt(ctx, f)
		switch {
		case done:
			return nil
		case err != nil:
			l.putBack(key, &t.before)
			return err
		}
	}
	l.putBack(key, &t.before)
	return ErrAway
}

// fillState is what a fill remembers between its attempts.
type fillState struct {
	l      *Limiter
	r      *Rule
	key    Key
	try    int
	first  entry // the key's entry at the first attempt
	before entry // the entry whose permits return with the write; restored if certainly nothing was written
	empty  emptyConflicts
}

// attempt tries once to lease permits. If it isn't done and returns no error, the caller may try again.
func (t *fillState) attempt(ctx context.Context, f *flight) (done bool, err error) {
	l, r, now := t.l, t.r, t.l.clock.now()
	e, n, enough := l.prepare(r, t.key, f, now)
	if enough {
		return true, nil
	}
	least := n.permits
	if t.try == 0 {
		t.first = e
	}
	if r.returns(now, &e) {
		t.before = e
	}
	rec, rev, err := t.read(ctx, &e)
	if errors.Is(err, errStale) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a := r.leaseRequest(&e, n, now, l.peers.nodes())
	a.leaseTook = l.leaseTook.Load()
	if t.before.until != 0 {
		a.until, a.returned, a.spentTo = t.before.until, t.before.permits, t.before.spentTo()
	}
	g := r.lease(&rec, a)
	if g.permits == 0 {
		if least > 0 && l.mayLag(t.try) {
			return false, nil // the client may have been reset meanwhile
		}
		l.exhausted(ctx, r, t.key, g, least, &t.before, now)
		return true, nil
	}
	next, err := l.write(ctx, t.key, rec.encode(r.kind), rev, r.keep(&rec, now))
	if err != nil {
		return false, t.failed(ctx, rev, err)
	}
	l.writes.Add(1)
	l.leaseTook.Store(l.clock.now() - now)
	l.addPermits(r, t.key, g, least, next, &rec, now)
	l.damage.forget(t.key)
	return true, nil
}

// failed handles a write that failed or whose outcome is unknown. A nil error means that the caller may try again.
func (t *fillState) failed(ctx context.Context, rev uint64, err error) error {
	l := t.l
	if !l.alone || !errors.Is(err, errConflict) { // alone, it knows the record: see recordInMemory
		l.forget(t.key)
	}
	switch {
	case errors.Is(err, errConflict):
		l.conflicts.Add(1)
		backOff(ctx, min(t.try, maxBackOff))
		return t.empty.note(ctx, t.r, t.key, rev, t.try > 0)
	case errors.Is(err, errUnsure): // the permits are lost, and so are those that were to return
		l.conflicts.Add(1)
		t.before = entry{}
		return nil
	case !errors.Is(err, errNoResponder): // the same
		t.before = entry{}
	}
	return err
}

// putBack restores the permits that the entry gave up for a record that wasn't written.
func (l *Limiter) putBack(key Key, before *entry) {
	if before.until == 0 {
		return
	}
	s := l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, found := s.entries.get(key); found && e.until == 0 {
		e = *before
		e.flags &^= recordKnown
		s.entries.set(key, e)
	}
}

// prepare returns the key's entry and the need that the entry doesn't cover; enough means that it covers the next
// request. Permits that can only be used by returning them to the record leave the entry.
func (l *Limiter) prepare(r *Rule, key Key, f *flight, now int64) (e entry, n need, enough bool) {
	s := l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ = r.entry(s, key, now) // the window of the previous attempt may be over
	n = f.need
	if r.kind != bucket && now < e.until {
		n.permits -= min(e.permits, n.permits)
	}
	// A flight that ended just before has leased it.
	if r.kind == bucket && n.most > 0 && e.reaches(now, int64(n.most)*r.interval) {
		return e, n, true
	}
	if r.returns(now, &e) {
		s.entries.set(key, entry{deniedUntil: e.deniedUntil}) // so that nobody spends them meanwhile
	}
	return e, n, false
}

// returns reports whether what an entry holds returns to the record with the next lease. That is so for a bucket, whose
// parts must follow one another, and for a sliding window whose span is over.
func (r *Rule) returns(now int64, e *entry) bool {
	return e.until != 0 && (r.kind == bucket || (r.kind == sliding && now >= e.until))
}

// leaseRequest builds the request for the next lease from the entry so far.
func (r *Rule) leaseRequest(e *entry, n need, now int64, nodes int) leaseRequest {
	a := leaseRequest{
		now: now, waiting: n.permits, nodes: uint32(max(nodes, 1)), until: e.until, //nolint:gosec // G115: few nodes
		known: e.flags&recordKnown != 0,
	}
	ahead := aheadShared
	if a.nodes == 1 {
		ahead = aheadAlone
	}
	switch {
	case r.kind == bucket && r.queues.on && a.nodes > 1:
		a.ahead = int64(min(n.wait, aheadQueue))
		a.usableAhead = a.ahead
	case r.kind == bucket && now < e.until+int64(ahead): // in constant use
		a.previous, a.ahead = e.leased, int64(ahead)
	case r.kind == sliding && now < e.until+r.window/spansPerWindow, now < e.until:
		a.previous = e.leased
	}
	return a
}

// How far ahead positions of a bucket in constant use are leased. If this node stops using them, the others wait that
// long for their turn.
const (
	aheadShared = 100 * time.Millisecond
	aheadAlone  = 2 * time.Second
	aheadQueue  = time.Second // for requests that wait in any case
)

// mayLag reports whether an attempt may be based on older data than the store has acknowledged: the first attempt reads
// from the nearest replica, or uses what this node remembers. No request may be refused on such data.
func (l *Limiter) mayLag(try int) bool { return try == 0 && !l.alone }

// errStale means that a replica may lag, and that the leader must be asked.
var errStale = errors.New("the record may be an old one")

// read returns the record of a key, from the entry or from the store.
func (t *fillState) read(ctx context.Context, e *entry) (rec record, rev uint64, err error) {
	l, r, fresh := t.l, t.r, t.try > 0
	if r.kind == fixed && e.flags&recordKnown != 0 && !fresh && l.isCurrent(r) {
		return r.fromEntry(e), e.rev, nil
	}
	l.reads.Add(1)
	v, err := l.store.get(ctx, t.key, fresh)
	if err != nil {
		return record{}, 0, err
	}
	now := l.clock.now()
	if v.value != nil {
		// It may be from a newer release. Overwriting it would give a fresh allowance.
		if rec, err = decodeRecord(v.value, r.kind); err != nil {
			return record{}, v.rev, l.noteDamagedRevision(ctx, r, t.key, v.rev, err)
		}
		r.rebase(&rec, v.writtenAt, now)
	}
	had := t.knownBefore(e)
	switch {
	case !had.sawNewer(r.kind, &v, &rec, now):
		return rec, v.rev, nil
	case !fresh:
		return record{}, 0, errStale
	}
	if rec, ok := l.recordInMemory(r, &had); ok {
		return rec, v.rev, nil
	}
	return record{}, v.rev, l.noteDamagedRevision(ctx, r, t.key, v.rev, errGone)
}

// knownBefore returns what this node knew about the key before the fill, unless that has changed since.
func (t *fillState) knownBefore(e *entry) entry {
	switch {
	case t.before.until != 0:
		return t.before
	case e.until == t.first.until:
		return t.first
	}
	return *e
}

// write replaces the record of revision rev.
func (l *Limiter) write(ctx context.Context, key Key, value []byte, rev uint64, keep time.Duration) (uint64, error) {
	return l.store.put(ctx, key, stored{value: value, rev: rev, writtenAt: l.clock.now()}, keep)
}

// isCurrent reports whether r is the newest rule with its id. An older one may have another max, so what is left of the
// limit means something else to it.
func (l *Limiter) isCurrent(r *Rule) bool { return (*l.byID.Load())[r.id] == r }

// addPermits adds leased permits to the entry.
func (l *Limiter) addPermits(r *Rule, key Key, g leaseGrant, least uint32, rev uint64, rec *record, now int64) {
	s := l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.entries.get(key)
	switch {
	case r.kind != bucket && e.until > g.until:
		return // the entry is in its next window already and must stay; these permits are lost
	case e.until != g.until || r.kind == bucket:
		e = entry{until: g.until}
	}
	e.permits += g.permits
	e.leased, e.left, e.deniedUntil, e.emptyRecalls = g.permits, g.left, 0, 0
	if r.kind != bucket {
		e.rev = rev
	} else if e.spendTo(g.from); g.permits < least {
		// A request that needs more than there is must not ask for the same again at once.
		e.deniedUntil = g.retry
	}
	e.active = uint16(min(rec.active, 1<<16-1))
	if l.isCurrent(r) {
		e.flags |= recordKnown
	}
	s.put(key, e, l.table.maxPerShard, now)
}

// forget marks the key's record as unknown, so that the next fill reads it.
func (l *Limiter) forget(key Key) {
	s := l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, found := s.entries.get(key); found {
		e.flags &^= recordKnown
		s.entries.set(key, e)
	}
}

// exhausted handles a record that has nothing left. It asks the other nodes for permits that they don't need. If it
// gets none, the key is refused in memory for a while. before is what the entry gave up.
func (l *Limiter) exhausted(ctx context.Context, r *Rule, key Key, g leaseGrant, least uint32, before *entry,
	now int64,
) {
	var got uint32
	if least > 0 && r.kind != bucket && l.peers.nodes() > 1 {
		got = l.recall(ctx, r, key, g.until, least)
	}
	s := l.table.shardOf(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.entries.get(key)
	switch {
	case r.kind == bucket:
		e = *before // it didn't return to the record
	case e.until > g.until:
		return // the entry is in its next window already
	case e.until != g.until:
		e = entry{until: g.until}
	}
	e.left = g.left
	e.permits += got
	if got == 0 && least > 0 {
		e.deniedUntil = l.refuseUntil(r, &e, g, now)
		e.flags &^= recordKnown // other nodes may return what they hold
	}
	s.put(key, e, l.table.maxPerShard, now)
}

// refuseUntil returns when the store or the other nodes are asked again. A node that is alone waits until the record
// has more. Otherwise other nodes may return permits, and they are asked at growing intervals.
func (l *Limiter) refuseUntil(r *Rule, e *entry, g leaseGrant, now int64) int64 {
	if r.kind == bucket || l.peers.nodes() <= 1 {
		return g.retry
	}
	wait := min(max(r.window/100, int64(100*time.Millisecond)), int64(2*time.Second)) << min(e.emptyRecalls, 20)
	e.emptyRecalls = min(e.emptyRecalls+1, 20)
	return min(now+wait, g.retry)
}

// maxBackOff is the attempt from which on backOff waits no longer.
const maxBackOff = 7

// backOff waits before the next attempt on a record that other nodes change too. The wait is random, so that nodes
// don't collide again, and longer after more attempts.
func backOff(ctx context.Context, try int) {
	pause(ctx, time.Duration(rand.Int64N(int64(try+1)*int64(time.Millisecond)))) //nolint:gosec // G404: spreads the tries
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
