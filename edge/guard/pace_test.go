package guard

import (
	"testing"
	"time"
)

// A client that moves less than the rate runs out of time, one that moves more never does.
func TestPace(t *testing.T) {
	for _, c := range []struct {
		perSecond int64
		ends      bool
	}{{1000, true}, {minRate / 2, true}, {2 * minRate, false}} {
		p := pace{grace: 30 * time.Second}
		now := time.Unix(1000, 0)
		ended := 0
		for second := 1; second < 3600 && ended == 0; second++ {
			if p.deadline(now).Before(now.Add(time.Second)) {
				ended = second
			}
			now = now.Add(time.Second)
			p.count(c.perSecond, time.Second)
		}
		if (ended > 0) != c.ends || (c.ends && (ended < 30 || ended > 70)) {
			t.Errorf("%d bytes a second: ended after %d s", c.perSecond, ended)
		}
	}
}

// A body of any length leaves the deadline in the future.
func TestPaceOfLongBodies(t *testing.T) {
	now := time.Unix(1000, 0)
	p := pace{grace: time.Second}
	p.count(1<<44, time.Hour)
	if !p.deadline(now).After(now) {
		t.Errorf("after 16 TiB the deadline is %s away", p.deadline(now).Sub(now))
	}
}

// A wait in which the system's buffers took the bytes, and not the client, counts for nothing.
func TestPaceOfBuffers(t *testing.T) {
	p := pace{grace: time.Second}
	for _, c := range []struct{ n, queued, taken int64 }{
		{100_000, 100_000, 0},      // all of it waits in the buffers
		{100_000, 150_000, 50_000}, // the client took half as much as was written
		{100_000, 50_000, 100_000}, // it caught up: no more than was written now
		{100_000, 150_000, 0},
	} {
		p.sent += c.n
		if got := p.acknowledged(c.n, c.queued); got != c.taken {
			t.Errorf("%d written, %d queued: %d count, want %d", c.n, c.queued, got, c.taken)
		}
	}
}
