package blob

import (
	"context"
	"sync"
)

// window bounds the bytes that are under way. Waiters are served in order.
type window struct {
	size int64

	mu      sync.Mutex // guards used and waiting
	used    int64
	waiting []*waiter
}

type waiter struct {
	n    int64
	turn chan struct{} // closed when the bytes are taken
}

func newWindow(size int64) *window { return &window{size: size} }

// take waits until n bytes are free and takes them: at most the size of the window. It fails with ctx's cause.
func (w *window) take(ctx context.Context, n int64) error {
	w.mu.Lock()
	if len(w.waiting) == 0 && w.used+n <= w.size {
		w.used += n
		w.mu.Unlock()
		return nil
	}
	me := &waiter{n: n, turn: make(chan struct{})}
	w.waiting = append(w.waiting, me)
	w.mu.Unlock()
	select {
	case <-me.turn:
		return nil
	case <-ctx.Done():
		w.leave(me)
		return context.Cause(ctx)
	}
}

func (w *window) leave(me *waiter) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, other := range w.waiting {
		if other == me {
			w.waiting = append(w.waiting[:i], w.waiting[i+1:]...)
			w.wakeLocked()
			return
		}
	}
	w.used -= me.n // its turn had come
	w.wakeLocked()
}

// give returns n bytes.
func (w *window) give(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.used -= n
	w.wakeLocked()
}

func (w *window) wakeLocked() {
	for len(w.waiting) > 0 && w.used+w.waiting[0].n <= w.size {
		w.used += w.waiting[0].n
		close(w.waiting[0].turn)
		w.waiting = w.waiting[1:]
	}
}
