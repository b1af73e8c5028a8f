package guard

import (
	"context"
	"slices"
	"sync"
	"time"
)

// clientContext is a context that is canceled when a connection's client is gone. It is a type of its own because every
// request registers a function on it, and that costs less here than on a context of the standard library. It is safe
// for concurrent use.
type clientContext struct {
	done chan struct{}

	mu       sync.Mutex
	canceled bool
	calls    []*func() // the functions to call when it is canceled
}

func newClient() *clientContext { return &clientContext{done: make(chan struct{})} }

// Deadline reports that there is none.
func (c *clientContext) Deadline() (at time.Time, ok bool) { return time.Time{}, false }

// Done returns a channel that is closed when the client is gone.
func (c *clientContext) Done() <-chan struct{} { return c.done }

// Err returns context.Canceled when the client is gone, else nil.
func (c *clientContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled {
		return context.Canceled
	}
	return nil
}

// Value returns nil.
func (c *clientContext) Value(any) any { return nil }

// AfterFunc calls f in its own goroutine when the client is gone, unless stop is called before. context.AfterFunc and
// contexts derived from this one use it.
func (c *clientContext) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled {
		go f()
		return func() bool { return false }
	}
	call := &f
	c.calls = append(c.calls, call)
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.Index(c.calls, call)
		if i >= 0 {
			c.calls = slices.Delete(c.calls, i, i+1)
		}
		return i >= 0
	}
}

// cancel cancels the context. Further calls have no effect.
func (c *clientContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled {
		return
	}
	c.canceled = true
	close(c.done)
	for _, call := range c.calls {
		go (*call)()
	}
	c.calls = nil
}
