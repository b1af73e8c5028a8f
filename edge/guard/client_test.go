package guard

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// The client's context is one as any other: what is to be done at its end is done once, unless it is stopped before,
// also by contexts made of it.
func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newClient()
		var done atomic.Int64
		count := func() { done.Add(1) }
		c.AfterFunc(count)
		stopped := c.AfterFunc(count)
		context.AfterFunc(c, count)
		child, cancel := context.WithCancel(c)
		defer cancel()
		if !stopped() || stopped() || c.Err() != nil || child.Err() != nil {
			t.Error("it isn't stopped once, or has ended")
		}
		if _, ok := c.Deadline(); ok || c.Value("x") != nil {
			t.Error("it has a deadline or a value")
		}
		c.cancel()
		c.cancel()
		synctest.Wait()
		<-c.Done()
		<-child.Done()
		if done.Load() != 2 || !errors.Is(c.Err(), context.Canceled) || !errors.Is(child.Err(), context.Canceled) ||
			len(c.calls) != 0 {
			t.Errorf("%d of 2 calls, errors %v and %v", done.Load(), c.Err(), child.Err())
		}
		late := c.AfterFunc(count)
		synctest.Wait()
		if late() || done.Load() != 3 {
			t.Error("what comes after the end isn't done at once")
		}
	})
}
