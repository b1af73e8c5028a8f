package upstream

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"millrace/node"
)

// gate is where requests wait, in the order in which they came, until a target has room. Safe for concurrent use.
type waitQueue struct {
	waiting atomic.Int64 // the length of queue
	refused atomic.Uint64

	mu    sync.Mutex
	queue list.List // of chan struct{}, each with room for one turn
}

// errFull answers requests that no target has room for.
var errFull = node.Errorf(node.CodeBusy, nil, "every target of the upstream has as many requests as it may")

// lookAgain is how often the first in the queue looks for a target though no place was given back: targets return by
// themselves, too.
const retryEvery = 50 * time.Millisecond

// pass waits until try finds a target. It fails when the queue is full, the time is over, ctx ends, or try says that
// there is none to wait for.
func (q *waitQueue) wait(ctx context.Context, c node.Concurrency, deadline time.Time,
	try func() (t *target, full bool),
) (*target, error) {
	w := q.enqueue(c.MaxQueue)
	if w == nil {
		q.refused.Add(1)
		return nil, errFull
	}
	defer q.dequeue(w)
	q.wakeFirst() // room may have come before anybody waited for it
	timer := time.NewTimer(min(c.MaxWait.Std(), time.Until(deadline)))
	defer timer.Stop()
	var again <-chan time.Time // of the first only
	for {
		select {
		case <-w.Value.(chan struct{}): //nolint:forcetypeassert // the queue holds nothing else
		case <-again:
		case <-timer.C:
			q.refused.Add(1)
			return nil, errFull
		case <-ctx.Done():
			return nil, ctx.Err() //nolint:wrapcheck // the caller gives it its code
		}
		t, full := try()
		switch {
		case t != nil:
			return t, nil
		case !full:
			return nil, errNoTarget
		}
		again = time.After(retryEvery)
	}
}

func (q *waitQueue) enqueue(most int) *list.Element {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.queue.Len() >= most {
		return nil
	}
	q.waiting.Add(1)
	return q.queue.PushBack(make(chan struct{}, 1))
}

// quit leaves the queue. The turn goes on to the next, for whom there may be room too.
func (q *waitQueue) dequeue(w *list.Element) {
	q.mu.Lock()
	q.queue.Remove(w)
	q.waiting.Add(-1)
	q.mu.Unlock()
	q.wakeFirst()
}

// turn lets the first look for a target.
func (q *waitQueue) wakeFirst() {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if first := q.queue.Front(); first != nil {
		signal(first.Value.(chan struct{})) //nolint:forcetypeassert // see above
	}
}

// signal wakes whoever waits; a signal that is there already is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
