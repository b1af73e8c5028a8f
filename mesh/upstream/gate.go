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
type gate struct {
	waiting atomic.Int64 // the length of queue
	refused atomic.Uint64

	mu    sync.Mutex
	queue list.List // of chan struct{}, each with room for one turn
}

// errFull answers requests that no target has room for.
var errFull = node.Errorf(node.CodeBusy, nil, "every target of the upstream has as many requests as it may")

// lookAgain is how often the first in the queue looks for a target though no place was given back: targets return by
// themselves, too.
const lookAgain = 50 * time.Millisecond

// pass waits until try finds a target. It fails when the queue is full, the time is over, ctx ends, or try says that
// there is none to wait for.
func (g *gate) pass(ctx context.Context, c node.Concurrency, deadline time.Time,
	try func() (t *target, full bool),
) (*target, error) {
	w := g.join(c.MaxQueue)
	if w == nil {
		g.refused.Add(1)
		return nil, errFull
	}
	defer g.quit(w)
	g.turn() // room may have come before anybody waited for it
	timer := time.NewTimer(min(c.MaxWait.Std(), time.Until(deadline)))
	defer timer.Stop()
	var again <-chan time.Time // of the first only
	for {
		select {
		case <-w.Value.(chan struct{}): //nolint:forcetypeassert // the queue holds nothing else
		case <-again:
		case <-timer.C:
			g.refused.Add(1)
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
		again = time.After(lookAgain)
	}
}

func (g *gate) join(most int) *list.Element {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.queue.Len() >= most {
		return nil
	}
	g.waiting.Add(1)
	return g.queue.PushBack(make(chan struct{}, 1))
}

// quit leaves the queue. The turn goes on to the next, for whom there may be room too.
func (g *gate) quit(w *list.Element) {
	g.mu.Lock()
	g.queue.Remove(w)
	g.waiting.Add(-1)
	g.mu.Unlock()
	g.turn()
}

// turn lets the first look for a target.
func (g *gate) turn() {
	if g.waiting.Load() == 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if first := g.queue.Front(); first != nil {
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
