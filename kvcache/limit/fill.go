package limit

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// fill leases permits for a key. An error means that the store didn't answer, or that what it says of the key can't be.
func (l *Limiter) fill(ctx context.Context, r *Rule, key Key, f *flight) error {
	if err := l.clock.await(ctx); err != nil {
		return err
	}
	t := filling{l: l, r: r, key: key}
	for ; ctx.Err() == nil; t.try++ {
		done, err := t.once(ctx, f)
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

// filling is what a flight knows between its tries.
type filling struct {
	l      *Limiter
	r      *Rule
	key    Key
	try    int
	first  entry // of the key, as it was at the first try
	before entry // with permits that return, once a record says that they have
	ghosts ghosts
}

// once tries to lease permits. Without an error it may be tried again.
func (t *filling) once(ctx context.Context, f *flight) (done bool, err error) {
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
	a := r.asks(&e, n, now, l.peers.nodes())
	a.takes = l.takes.Load()
	if t.before.until != 0 {
		a.until, a.back, a.spentTo = t.before.until, t.before.permits, t.before.spentTo()
	}
	g := r.lease(&rec, a)
	if g.permits == 0 {
		if least > 0 && l.lags(t.try) {
			return false, nil // the client may have been reset since
		}
		l.exhausted(ctx, r, t.key, g, least, &t.before, now)
		return true, nil
	}
	next, err := l.write(ctx, t.key, rec.encode(r.kind), rev, r.keep(&rec, now))
	if err != nil {
		return false, t.failed(ctx, rev, err)
	}
	l.writes.Add(1)
	l.takes.Store(l.clock.now() - now)
	l.credit(r, t.key, g, least, next, &rec, now)
	l.damage.forget(t.key)
	return true, nil
}

// failed is for a record that wasn't written, or of which nobody knows. Without an error it is tried again.
func (t *filling) failed(ctx context.Context, rev uint64, err error) error {
	l := t.l
	if !l.alone || !errors.Is(err, errConflict) { // nobody else has changed what a node alone knows: see remembered
		l.forget(t.key)
	}
	switch {
	case errors.Is(err, errConflict):
		l.conflicts.Add(1)
		backOff(ctx, min(t.try, maxBackOff))
		return t.ghosts.conflict(ctx, t.r, t.key, rev, t.try > 0)
	case errors.Is(err, errUnsure): // the permits are lost, and what was to return with them
		l.conflicts.Add(1)
		t.before = entry{}
		return nil
	case !errors.Is(err, errNobody): // likewise
		t.before = entry{}
	}
	return err
}

// putBack gives the entry of a key what it had to give up for a record that wasn't written.
func (l *Limiter) putBack(key Key, before *entry) {
	if before.until == 0 {
		return
	}
	s := l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, found := s.entries.get(key); found && e.until == 0 {
		e = *before
		e.flags &^= known
		s.entries.set(key, e)
	}
}

// prepare gives the entry of a key and what is waited for beyond it, unless it has enough for the next. Permits that
// can only be used up by returning them leave the entry.
func (l *Limiter) prepare(r *Rule, key Key, f *flight, now int64) (e entry, n need, enough bool) {
	s := l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ = r.entry(s, key, now) // the window of the try before may be over
	n = f.need
	if r.kind != bucket && now < e.until {
		n.permits -= min(e.permits, n.permits)
	}
	// a flight that has just ended brought it
	if r.kind == bucket && n.most > 0 && e.reaches(now, int64(n.most)*r.interval) {
		return e, n, true
	}
	if r.returns(now, &e) {
		s.entries.set(key, entry{denied: e.denied}) // nobody spends it meanwhile
	}
	return e, n, false
}

// returns reports whether what an entry holds returns to the record with the next lease: of a bucket, whose parts must
// follow one another, and of a sliding window whose span is over.
func (r *Rule) returns(now int64, e *entry) bool {
	return e.until != 0 && (r.kind == bucket || (r.kind == sliding && now >= e.until))
}

// asks says what to ask for after what the entry was.
func (r *Rule) asks(e *entry, n need, now int64, nodes int) ask {
	a := ask{now: now, least: n.permits, nodes: uint32(max(nodes, 1)), until: e.until, lease: e.flags&known != 0} //nolint:gosec // G115: few nodes
	ahead := aheadShared
	if a.nodes == 1 {
		ahead = aheadAlone
	}
	switch {
	case r.kind == bucket && r.queues.on && a.nodes > 1:
		a.ahead = int64(min(n.wait, aheadQueue))
		a.early = a.ahead
	case r.kind == bucket && now < e.until+int64(ahead): // in use all the time
		a.last, a.ahead = e.leased, int64(ahead)
	case r.kind == sliding && now < e.until+r.window/spansPerWindow, now < e.until:
		a.last = e.leased
	}
	return a
}

// How far ahead positions of a bucket are leased that is in use all the time. Others wait so long for their turn if
// this node stops asking.
const (
	aheadShared = 100 * time.Millisecond
	aheadAlone  = 2 * time.Second
	aheadQueue  = time.Second // for requests that wait in any case
)

// lags reports whether what a try goes by may be older than what the store has acknowledged: the first one asks the
// replica that is near, or goes by what this node remembers. Nobody is refused for that.
func (l *Limiter) lags(try int) bool { return try == 0 && !l.alone }

// errStale means that a replica may be behind, and that the one that leads must be asked.
var errStale = errors.New("the record may be an old one")

// read gives the record of a key: the one that the entry tells, or the stored one.
func (t *filling) read(ctx context.Context, e *entry) (rec record, rev uint64, err error) {
	l, r, fresh := t.l, t.r, t.try > 0
	if r.kind == fixed && e.flags&known != 0 && !fresh && l.current(r) {
		return r.fromEntry(e), e.rev, nil
	}
	l.reads.Add(1)
	v, err := l.store.get(ctx, t.key, fresh)
	if err != nil {
		return record{}, 0, err
	}
	now := l.clock.now()
	if v.value != nil {
		// of a newer release, perhaps: written anew it would be a fresh allowance
		if rec, err = decodeRecord(v.value, r.kind); err != nil {
			return record{}, v.rev, l.contradicts(ctx, r, t.key, v.rev, err)
		}
		r.bring(&rec, v.wrote, now)
	}
	had := t.had(e)
	switch {
	case !had.newer(r.kind, &v, &rec, now):
		return rec, v.rev, nil
	case !fresh:
		return record{}, 0, errStale
	}
	if rec, ok := l.remembered(r, &had); ok {
		return rec, v.rev, nil
	}
	return record{}, v.rev, l.contradicts(ctx, r, t.key, v.rev, errGone)
}

// had is what this node knew of the key before the flight, unless that has changed.
func (t *filling) had(e *entry) entry {
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
	return l.store.put(ctx, key, stored{value: value, rev: rev, wrote: l.clock.now()}, keep)
}

// current reports whether a rule is the one of its records. What is left of a limit means something else to one of
// before, with another max.
func (l *Limiter) current(r *Rule) bool { return (*l.byID.Load())[r.id] == r }

// credit puts leased permits into the entry.
func (l *Limiter) credit(r *Rule, key Key, g granted, least uint32, rev uint64, rec *record, now int64) {
	s := l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.entries.get(key)
	switch {
	case r.kind != bucket && e.until > g.until:
		return // the entry is in its next window already, and must stay: these permits are lost
	case e.until != g.until || r.kind == bucket:
		e = entry{until: g.until}
	}
	e.permits += g.permits
	e.leased, e.left, e.denied, e.doubts = g.permits, g.left, 0, 0
	if r.kind != bucket {
		e.rev = rev
	} else if e.spendTo(g.from); g.permits < least {
		// who needs more than there is must not ask at once for the same again
		e.denied = g.retry
	}
	e.active = uint16(min(rec.active, 1<<16-1))
	if l.current(r) {
		e.flags |= known
	}
	s.put(key, e, l.table.max, now)
}

// forget makes the next question read the record first.
func (l *Limiter) forget(key Key) {
	s := l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, found := s.entries.get(key); found {
		e.flags &^= known
		s.entries.set(key, e)
	}
}

// exhausted is for a record that has nothing left: other nodes may have permits that they don't need. If they don't,
// the key is refused for a while, without asking anybody. before is what the entry had to give up.
func (l *Limiter) exhausted(ctx context.Context, r *Rule, key Key, g granted, least uint32, before *entry, now int64) {
	var got uint32
	if least > 0 && r.kind != bucket && l.peers.nodes() > 1 {
		got = l.recall(ctx, r, key, g.until, least)
	}
	s := l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, _ := s.entries.get(key)
	switch {
	case r.kind == bucket:
		e = *before // which didn't return
	case e.until > g.until:
		return // the entry is in its next window already
	case e.until != g.until:
		e = entry{until: g.until}
	}
	e.left = g.left
	e.permits += got
	if got == 0 && least > 0 {
		e.denied = l.refuseUntil(r, &e, g, now)
		e.flags &^= known // others may return what they hold
	}
	s.put(key, e, l.table.max, now)
}

// refuseUntil is when somebody is asked again. Alone, that is when the record has more; else others may give back what
// they don't need, which is asked for less and less often.
func (l *Limiter) refuseUntil(r *Rule, e *entry, g granted, now int64) int64 {
	if r.kind == bucket || l.peers.nodes() <= 1 {
		return g.retry
	}
	wait := min(max(r.window/100, int64(100*time.Millisecond)), int64(2*time.Second)) << min(e.doubts, 20)
	e.doubts = min(e.doubts+1, 20)
	return min(now+wait, g.retry)
}

// maxBackOff is the try from which on the time before the next one grows no more.
const maxBackOff = 7

// backOff waits before a record is tried again that others change too: each for another time, and longer after further
// tries.
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
