package guard

import (
	"context"
	"slices"
	"sync"
	"time"
)

// client is the context that ends when a connection's client is gone. It is one of our own since every request has
// something done at its end, and this costs less than a child of a context would. Safe for concurrent use.
type client struct {
	done chan struct{}

	mu    sync.Mutex
	gone  bool
	calls []*func() // what is to be done then
}

func newClient() *client { return &client{done: make(chan struct{})} }

// Deadline tells of none.
func (c *client) Deadline() (at time.Time, ok bool) { return time.Time{}, false }

// Done is closed when the client is gone.
func (c *client) Done() <-chan struct{} { return c.done }

// Err is context.Canceled when the client is gone.
func (c *client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return context.Canceled
	}
	return nil
}

// Value holds nothing.
func (c *client) Value(any) any { return nil }

// AfterFunc is what context.AfterFunc does, which contexts made of this one use as well.
func (c *client) AfterFunc(f func()) (stop func() bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
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

// leave ends the context.
func (c *client) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone {
		return
	}
	c.gone = true
	close(c.done)
	for _, call := range c.calls {
		go (*call)()
	}
	c.calls = nil
}
