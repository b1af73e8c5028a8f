package upstream

import (
	"container/list"
	"context"
	"sync"
	"sync/atomic"
	"time"

	"millrace/node"
)

// waitQueue is where requests wait, first in first out, until a target has capacity. Safe for concurrent use.
type waitQueue struct {
	waiting atomic.Int64 // length of queue
	refused atomic.Uint64

	mu    sync.Mutex
	queue list.List // of chan struct{} with capacity 1
}

// errFull answers requests when every target is at its limit.
var errFull = node.Errorf(node.CodeBusy, nil, "every target of the upstream has as many requests as it may")

// retryEvery is how often the first in the queue tries to acquire a target without being woken. Targets may return on
// their own.
const retryEvery = 50 * time.Millisecond

// wait waits until acquire returns a target. It fails when the queue is full, when the time is over, when ctx ends, or
// when acquire finds no target to wait for.
func (q *waitQueue) wait(ctx context.Context, c node.Concurrency, deadline time.Time,
	acquire func() (t *target, full bool),
) (*target, error) {
	w := q.enqueue(c.MaxQueue)
	if w == nil {
		q.refused.Add(1)
		return nil, errFull
	}
	defer q.dequeue(w)
	q.wakeFirst() // capacity may have become free before anybody waited
	timer := time.NewTimer(min(c.MaxWait.Std(), time.Until(deadline)))
	defer timer.Stop()
	var retry <-chan time.Time // set for the first in the queue only
	for {
		select {
		case <-w.Value.(chan struct{}):
		case <-retry:
		case <-timer.C:
			q.refused.Add(1)
			return nil, errFull
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		t, full := acquire()
		switch {
		case t != nil:
			return t, nil
		case !full:
			return nil, errNoTarget
		}
		retry = time.After(retryEvery)
	}
}

func (q *waitQueue) enqueue(maxQueue int) *list.Element {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.queue.Len() >= maxQueue {
		return nil
	}
	q.waiting.Add(1)
	return q.queue.PushBack(make(chan struct{}, 1))
}

// dequeue removes w from the queue and wakes the first one, for which there may be capacity too.
func (q *waitQueue) dequeue(w *list.Element) {
	q.mu.Lock()
	q.queue.Remove(w)
	q.waiting.Add(-1)
	q.mu.Unlock()
	q.wakeFirst()
}

// wakeFirst makes the first in the queue try to acquire a target.
func (q *waitQueue) wakeFirst() {
	if q.waiting.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if first := q.queue.Front(); first != nil {
		signal(first.Value.(chan struct{}))
	}
}

// signal wakes the waiting goroutine. One pending signal is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
