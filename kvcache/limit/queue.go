package limit

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"millrace/node"
)

// ErrQueueFull means that as many requests wait as may.
var ErrQueueFull = errors.New("as many requests wait for their turn as may")

// maxWaiting bounds the requests of one rule that wait on a node.
const maxWaiting = 10_000

// queues lets requests of a rule wait for their turn: those of one key one after another, in the order in which they
// came to this node.
type queues struct {
	on      bool
	maxWait time.Duration
	maxLine int

	mu      sync.Mutex // guards what follows
	lines   map[Key]*line
	waiting int
}

// line is the requests of one key that wait. The first asks for its permit; the others for the turn to do so.
type line struct {
	waiters list.List // of *waiter
	cost    int64     // of all of them
	next    time.Time // when the first expects its permit
}

type waiter struct {
	turn chan struct{} // closed when it is the first
	cost uint32
	ends time.Time // when it gives up
}

func newQueues(limit node.Limit) *queues {
	return &queues{
		on: limit.Mode == node.LimitModeQueue, maxWait: limit.MaxWait.Std(), maxLine: limit.MaxQueue,
		lines: map[Key]*line{},
	}
}

// like reports whether requests may stand in the other's lines as well.
func (q *queues) like(o *queues) bool {
	return q.on == o.on && q.maxWait == o.maxWait && q.maxLine == o.maxLine
}

// take decides at once if nobody waits, or else waits for its turn. A request that can't have it within the longest
// wait is refused at once.
func (q *queues) take(ctx context.Context, r *Rule, key Key, cost uint32) (Decision, error) {
	begun := time.Now()
	d := Decision{Limit: r.max}
	if !q.busy(key) {
		var err error
		d, err = r.once(ctx, key, cost)
		switch {
		case errors.Is(err, ErrAway) && r.l.ctx.Err() == nil: // to wait is what the line is for
		case err != nil, d.Allowed, r.soonest(&d) > q.maxWait:
			return d, err
		}
	}
	place, err := q.join(r, key, cost, &d, begun)
	if err != nil || place == nil {
		return d, err
	}
	defer q.leave(key, place)
	r.stats.queued.Add(1)
	ctx, cancel := context.WithDeadline(ctx, begun.Add(q.maxWait))
	defer cancel()
	select {
	case <-place.Value.(*waiter).turn: //nolint:forcetypeassert // there is nothing else in the list
	case <-ctx.Done():
		return q.tooLong(ctx, r, d)
	}
	return q.first(ctx, r, key, cost)
}

// needs is what those in line wait for, at most so many permits. A permit is of use as long as the last of them has
// patience. Whoever doesn't stand in line has just come.
func (q *queues) needs(key Key, now time.Time, most int64) need {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[key]
	if l == nil {
		return need{wait: q.maxWait}
	}
	last := l.waiters.Back().Value.(*waiter)                                          //nolint:forcetypeassert // there is nothing else in the list
	return need{permits: uint32(min(l.cost, most)), wait: max(last.ends.Sub(now), 0)} //nolint:gosec // G115: bounded
}

func (q *queues) busy(key Key) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lines[key] != nil
}

// join stands in line. Nil means that the turn would come too late, as far as can be told.
func (q *queues) join(r *Rule, key Key, cost uint32, d *Decision, now time.Time) (*list.Element, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[key]
	if l == nil {
		l = &line{next: now.Add(r.soonest(d))}
	}
	if wait := l.next.Sub(now) + r.lasts(l.cost); wait > q.maxWait {
		d.Reset = wait
		return nil, nil
	}
	if l.waiters.Len() >= q.maxLine || q.waiting >= maxWaiting {
		d.Reset = max(l.next.Sub(now), time.Second)
		return nil, ErrQueueFull
	}
	w := &waiter{turn: make(chan struct{}), cost: cost, ends: now.Add(q.maxWait)}
	place := l.waiters.PushBack(w)
	if q.lines[key] = l; l.waiters.Len() == 1 {
		close(w.turn)
	}
	l.cost += int64(cost)
	q.waiting++
	return place, nil
}

// soonest is when a request that was refused asks again. When a place becomes free can't be told.
func (r *Rule) soonest(d *Decision) time.Duration {
	if r.kind == concurrent {
		return time.Millisecond
	}
	return max(d.Reset, time.Millisecond)
}

// lasts is how long the permits for a line take to come, at least.
func (r *Rule) lasts(cost int64) time.Duration {
	switch r.kind {
	case bucket:
		return time.Duration(cost * r.interval)
	case fixed:
		return time.Duration(cost / int64(max(r.max, 1)) * r.window)
	case sliding:
		return time.Duration(cost / int64(max(r.max, 1)) * (r.window / spansPerWindow * spanSlots))
	case concurrent:
	}
	return 0
}

// leave ends a request's place, and gives the turn to the next if it was the first.
func (q *queues) leave(key Key, place *list.Element) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[key]
	wasFirst := l.waiters.Front() == place
	w := l.waiters.Remove(place).(*waiter) //nolint:forcetypeassert // there is nothing else in the list
	l.cost -= int64(w.cost)
	q.waiting--
	switch next := l.waiters.Front(); {
	case next == nil:
		delete(q.lines, key)
	case wasFirst:
		close(next.Value.(*waiter).turn) //nolint:forcetypeassert // likewise
	}
}

// awayWait is how long a request waits in line before it asks a store again that was away.
const awayWait = 50 * time.Millisecond

// first asks until there is a permit, or for as long as it has patience if the store is away. It gives up at once when
// it learns that its turn would come too late.
func (q *queues) first(ctx context.Context, r *Rule, key Key, cost uint32) (Decision, error) {
	for {
		d, err := r.once(ctx, key, cost)
		switch {
		case errors.Is(err, ErrAway) && ctx.Err() == nil && r.l.ctx.Err() == nil:
			pause(ctx, awayWait)
			continue
		case ctx.Err() != nil && !d.Allowed:
			return q.tooLong(ctx, r, d)
		case err != nil || d.Allowed:
			return d, err
		}
		ends, _ := ctx.Deadline()
		left := time.Until(ends)
		if d, wait, booked := r.book(key, cost, left); booked {
			return q.await(ctx, r, key, d, cost, wait)
		}
		wait := r.soonest(&d)
		if wait > left {
			return q.tooLong(ctx, r, d)
		}
		q.expect(key, time.Now().Add(wait))
		if r.kind == concurrent {
			r.places.await(ctx, key)
		} else {
			pause(ctx, wait)
		}
	}
}

// await waits for the moment of a position.
func (q *queues) await(ctx context.Context, r *Rule, key Key, d Decision, cost uint32,
	wait time.Duration,
) (Decision, error) {
	q.expect(key, time.Now().Add(wait))
	if pause(ctx, wait); ctx.Err() != nil {
		r.Refund(time.Now(), key, d, cost)
		return q.tooLong(ctx, r, d)
	}
	return d, nil
}

// expect says when the first of a line gets its permit.
func (q *queues) expect(key Key, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lines[key].next = at
}

// book takes the next position that a bucket has leased, for the first in line: asking only when its time has come, a
// request would come late by as much as the system takes to wake it, and a bucket that can't save permits up would lose
// that much each time (with 200/s and a burst of 1, 15 %). So the permit counts as spent when the position says, though
// the request may go on a little later. A line has one position at a time.
func (r *Rule) book(key Key, cost uint32, within time.Duration) (d Decision, wait time.Duration, ok bool) {
	if r.kind != bucket {
		return d, 0, false
	}
	if d, wait, ok = r.position(key, cost, within); ok && d.until-d.end < r.lookAhead() {
		r.l.ask(r, key, r.needs(key, 0)) // so that the next one is there when this one's time has come
	}
	return d, wait, ok
}

// lookAhead is how much of the time line is left when more is asked for. What is left returns with the lease, if no
// other node has leased since.
func (r *Rule) lookAhead() int64 {
	if r.l.peers.nodes() > 1 {
		return r.interval
	}
	return int64(aheadAlone / 8)
}

// position takes the next position out of what is leased.
func (r *Rule) position(key Key, cost uint32, within time.Duration) (d Decision, wait time.Duration, ok bool) {
	now := r.l.clock.now()
	s := r.l.table.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e, found := s.entries.get(key)
	end := max(e.spentTo(), now) + int64(cost)*r.interval
	wait = time.Duration(end - r.depth - now)
	if !found || end > e.until || wait > within {
		return d, wait, false
	}
	e.spendTo(end)
	s.entries.set(key, e)
	d = r.inBucket(&e)
	d.Allowed, d.end = true, end
	return d, wait, true
}

// tooLong is what a request gets whose wait is over: a refusal; or its client's own end; or, if that was what it waited
// for, that the store is away.
func (q *queues) tooLong(ctx context.Context, r *Rule, d Decision) (Decision, error) {
	d.Allowed = false
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return d, context.Canceled
	case r.l.awayFor() > 0:
		return d, ErrAway
	}
	d.Reset = max(d.Reset, time.Second)
	return d, nil
}
