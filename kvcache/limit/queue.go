package limit

import (
	"container/list"
	"context"
	"errors"
	"sync"
	"time"

	"millrace/node"
)

// ErrQueueFull means that the queue has as many requests as allowed.
var ErrQueueFull = errors.New("as many requests wait for their turn as may")

// maxWaiting is how many requests of one rule may wait on a node.
const maxWaiting = 10_000

// queues lets requests of a rule wait for permits. Requests of one key get them in the order in which they came to this
// node.
type queues struct {
	on        bool
	maxWait   time.Duration
	maxLength int

	mu      sync.Mutex // guards what follows
	byKey   map[Key]*keyQueue
	waiting int
}

// keyQueue holds the waiting requests of one key. The first one asks for its permit; the others wait until they are
// first.
type keyQueue struct {
	waiters   list.List // of *waiter
	totalCost int64     // of all waiting requests
	nextAt    time.Time // when the first one expects its permit
}

type waiter struct {
	turn chan struct{} // closed when the request is the first
	cost uint32
	ends time.Time // when it stops waiting
}

func newQueues(limit node.Limit) *queues {
	return &queues{
		on: limit.Mode == node.LimitModeQueue, maxWait: limit.MaxWait.Std(), maxLength: limit.MaxQueue,
		byKey: map[Key]*keyQueue{},
	}
}

// sameSettings reports whether requests may wait in the other's queues as well.
func (q *queues) sameSettings(o *queues) bool {
	return q.on == o.on && q.maxWait == o.maxWait && q.maxLength == o.maxLength
}

// take decides at once if no request of the key waits; otherwise it waits. A request whose permit can't come within
// maxWait is refused at once.
func (q *queues) take(ctx context.Context, r *Rule, key Key, cost uint32) (Decision, error) {
	begun := time.Now()
	d := Decision{Limit: r.max}
	if !q.hasWaiters(key) {
		var err error
		d, err = r.takeNow(ctx, key, cost)
		switch {
		case errors.Is(err, ErrAway) && r.l.ctx.Err() == nil: // the request can wait in the queue for the store
		case err != nil, d.Allowed, r.retryAfter(&d) > q.maxWait:
			return d, err
		}
	}
	element, err := q.join(r, key, cost, &d, begun)
	if err != nil || element == nil {
		return d, err
	}
	defer q.leave(key, element)
	r.stats.queued.Add(1)
	ctx, cancel := context.WithDeadline(ctx, begun.Add(q.maxWait))
	defer cancel()
	select {
	case <-element.Value.(*waiter).turn: // the list holds nothing else
	case <-ctx.Done():
		return q.waitEnded(ctx, r, d)
	}
	return q.waitFirst(ctx, r, key, cost)
}

// needs returns what the queued requests of a key need, up to most permits. A permit is useful as long as the last of
// them still waits. If none is queued, the request has just arrived and may wait for maxWait.
func (q *queues) needs(key Key, now time.Time, most int64) need {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.byKey[key]
	if l == nil {
		return need{wait: q.maxWait}
	}
	last := l.waiters.Back().Value.(*waiter)
	return need{permits: uint32(min(l.totalCost, most)), wait: max(last.ends.Sub(now), 0)} //nolint:gosec // G115: bounded
}

func (q *queues) hasWaiters(key Key) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.byKey[key] != nil
}

// join appends a request to the queue. It returns nil if the permit would probably come too late.
func (q *queues) join(r *Rule, key Key, cost uint32, d *Decision, now time.Time) (*list.Element, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.byKey[key]
	if l == nil {
		l = &keyQueue{nextAt: now.Add(r.retryAfter(d))}
	}
	if wait := l.nextAt.Sub(now) + r.queueTime(l.totalCost); wait > q.maxWait {
		d.Reset = wait
		return nil, nil
	}
	if l.waiters.Len() >= q.maxLength || q.waiting >= maxWaiting {
		d.Reset = max(l.nextAt.Sub(now), time.Second)
		return nil, ErrQueueFull
	}
	w := &waiter{turn: make(chan struct{}), cost: cost, ends: now.Add(q.maxWait)}
	element := l.waiters.PushBack(w)
	if q.byKey[key] = l; l.waiters.Len() == 1 {
		close(w.turn)
	}
	l.totalCost += int64(cost)
	q.waiting++
	return element, nil
}

// retryAfter returns when a refused request asks again. For requests in flight nobody can tell when a slot becomes
// free.
func (r *Rule) retryAfter(d *Decision) time.Duration {
	if r.kind == concurrent {
		return time.Millisecond
	}
	return max(d.Reset, time.Millisecond)
}

// queueTime returns how long the permits for queued requests of that cost take at least.
func (r *Rule) queueTime(cost int64) time.Duration {
	switch r.kind {
	case bucket:
		return time.Duration(cost * r.interval)
	case fixed:
		return time.Duration(cost / int64(max(r.max, 1)) * r.window)
	case sliding:
		return time.Duration(cost / int64(max(r.max, 1)) * (r.window / spansPerWindow * keptSpans))
	case concurrent:
	}
	return 0
}

// leave removes a request from the queue. If it was the first, the next one becomes the first.
func (q *queues) leave(key Key, element *list.Element) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.byKey[key]
	wasFirst := l.waiters.Front() == element
	w := l.waiters.Remove(element).(*waiter) // the list holds nothing else
	l.totalCost -= int64(w.cost)
	q.waiting--
	switch next := l.waiters.Front(); {
	case next == nil:
		delete(q.byKey, key)
	case wasFirst:
		close(next.Value.(*waiter).turn)
	}
}

// awayWait is how long the first request of a queue waits before it asks a store again that was away.
const awayWait = 50 * time.Millisecond

// waitFirst is run by the first request of a queue. It asks until there is a permit, or while the store is away until
// its wait is over. It stops at once when it learns that its permit would come too late.
func (q *queues) waitFirst(ctx context.Context, r *Rule, key Key, cost uint32) (Decision, error) {
	for {
		d, err := r.takeNow(ctx, key, cost)
		switch {
		case errors.Is(err, ErrAway) && ctx.Err() == nil && r.l.ctx.Err() == nil:
			pause(ctx, awayWait)
			continue
		case ctx.Err() != nil && !d.Allowed:
			return q.waitEnded(ctx, r, d)
		case err != nil || d.Allowed:
			return d, err
		}
		ends, _ := ctx.Deadline()
		left := time.Until(ends)
		if d, wait, taken := r.takePosition(key, cost, left); taken {
			return q.awaitPosition(ctx, r, key, d, cost, wait)
		}
		wait := r.retryAfter(&d)
		q.setNext(key, time.Now().Add(wait))
		switch {
		case r.kind == concurrent: // a slot may become free at any moment, also in the last of its wait
			r.inflight.await(ctx, key)
		case wait > left:
			return q.waitEnded(ctx, r, d)
		default:
			pause(ctx, wait)
		}
	}
}

// awaitPosition waits until the time of a position on the time line.
func (q *queues) awaitPosition(ctx context.Context, r *Rule, key Key, d Decision, cost uint32,
	wait time.Duration,
) (Decision, error) {
	q.setNext(key, time.Now().Add(wait))
	if pause(ctx, wait); ctx.Err() != nil {
		r.Refund(time.Now(), key, d, cost)
		return q.waitEnded(ctx, r, d)
	}
	return d, nil
}

// setNext stores when the first request of a queue gets its permit.
func (q *queues) setNext(key Key, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.byKey[key].nextAt = at
}

// takePosition takes the next leased position of a bucket for the first request of a queue, before its time has come.
// Otherwise the request would be late by the time the system takes to wake it, and a bucket that can't save permits up
// would lose that much each time (15 % with 200/s and a burst of 1). So the permit counts as spent at its position,
// even if the request continues a little later. A queue holds one position at a time.
func (r *Rule) takePosition(key Key, cost uint32, within time.Duration) (d Decision, wait time.Duration, ok bool) {
	if r.kind != bucket {
		return d, 0, false
	}
	if d, wait, ok = r.spendPosition(key, cost, within); ok && d.until-d.end < r.lookAhead() {
		r.l.joinFlight(r, key, r.needs(key, 0)) // so that the next position is leased when this one's time comes
	}
	return d, wait, ok
}

// lookAhead returns how much of the leased time line may be left when more is requested. What is left returns with the
// next lease if no other node has leased since.
func (r *Rule) lookAhead() int64 {
	if r.l.peers.nodes() > 1 {
		return r.interval
	}
	return int64(aheadAlone / 8)
}

// spendPosition takes the next position of the leased part.
func (r *Rule) spendPosition(key Key, cost uint32, within time.Duration) (d Decision, wait time.Duration, ok bool) {
	now := r.l.clock.now()
	s := r.l.table.shardOf(key)
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

// waitEnded returns the result of a request that has stopped waiting: context.Canceled if its client is gone; ErrAway
// if it waited for the store; otherwise a refusal.
func (q *queues) waitEnded(ctx context.Context, r *Rule, d Decision) (Decision, error) {
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
