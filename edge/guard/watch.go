package guard

import (
	"context"
	"errors"
	"sync"
	"time"
)

// watchAfter is how long a request is in flight before somebody looks whether its client is still there: most are
// answered sooner, and pay nothing.
const watchAfter = 20 * time.Millisecond

// watch sees a client go while its request runs and nobody reads its connection. HTTP/1.1 has no other sign than the
// end of what can be read; what comes instead is the next request, and is kept.
type watch struct {
	client *client
	timer  *time.Timer

	mu      sync.Mutex
	wanted  bool
	running chan struct{} // closed when nobody reads any more; nil if nobody does
}

func (w *watch) begin() { w.client = newClient() }

// Context ends when the client is gone.
func (c *Conn) Context() context.Context { return c.watch.client }

// Watch begins to look for the client's end. The request's body must have been read. Unwatch must follow.
func (c *Conn) Watch() {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.wanted {
		return
	}
	w.wanted = true
	if w.timer == nil {
		w.timer = time.AfterFunc(watchAfter, c.lookOut)
		return
	}
	w.timer.Reset(watchAfter)
}

// Unwatch ends the look-out, before the connection is read again.
func (c *Conn) Unwatch() {
	w := &c.watch
	w.mu.Lock()
	if !w.wanted {
		w.mu.Unlock()
		return
	}
	w.wanted = false
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

// lookOut reads ahead until the client goes, or until Unwatch. When the buffer is full it can't see any further.
func (c *Conn) lookOut() {
	w := &c.watch
	w.mu.Lock()
	if !w.wanted || w.running != nil {
		w.mu.Unlock()
		return
	}
	done := make(chan struct{})
	w.running = done
	c.readBy(time.Time{})
	w.mu.Unlock()
	defer close(done)
	for {
		err := c.in.fill(c.Conn, c.l.limits.Load().MaxHeader)
		switch {
		case err == nil:
		case errors.Is(err, errFull) || errors.Is(err, errBudget) || timedOut(err):
			return
		default:
			w.client.leave()
			return
		}
	}
}
