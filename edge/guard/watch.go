package guard

import (
	"context"
	"errors"
	"sync"
	"time"
)

// watchAfter is how long a request runs before its connection is watched. Most requests are answered sooner, and cost a
// timer only.
const watchAfter = 20 * time.Millisecond

// watch detects that a client goes away while its request runs and nobody reads its connection. In HTTP/1.1 the only
// sign is the end of what can be read. Bytes that arrive instead belong to the next request and stay in the buffer.
type watch struct {
	context *clientContext
	timer   *time.Timer

	mu      sync.Mutex
	active  bool
	running chan struct{} // closed when readAhead returns; nil if it doesn't run
}

func (w *watch) init() { w.context = newClient() }

// Context returns a context that is canceled when the client is gone.
func (c *Conn) Context() context.Context { return c.watch.context }

// Watch begins to watch for the client's going away. The request's body must have been read. Unwatch must be called
// before the connection is read again.
func (c *Conn) Watch() {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.active {
		return
	}
	w.active = true
	if w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, c.readAhead)
		return
	}
	w.timer.Reset(watchAfter)
}

// Unwatch ends Watch and waits for its goroutine.
func (c *Conn) Unwatch() {
	w := &c.watch
	w.mu.Lock()
	if !w.active {
		w.mu.Unlock()
		return
	}
	w.active = false
	w.timer.Stop()
	running := w.running
	if running != nil {
		c.interrupt()
	}
	w.mu.Unlock()
	if running != nil {
		<-running
		w.mu.Lock()
		w.running = nil
		w.mu.Unlock()
	}
}

// readAhead reads into the buffer until the client goes away, or until Unwatch. It also ends if the buffer is full;
// then the client's end isn't detected.
func (c *Conn) readAhead() {
	w := &c.watch
	w.mu.Lock()
	if !w.active || w.running != nil {
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	w.running = done
	c.setReadDeadline(time.Time{})
	w.mu.Unlock()
	defer close(done)
	for {
		err := c.buf.fill(c.Conn, c.l.limits.Load().MaxHeader)
		switch {
		case err == nil:
		case errors.Is(err, errFull) || errors.Is(err, errBudget) || timedOut(err):
			return
		default:
			w.context.cancel()
			return
		}
	}
}
