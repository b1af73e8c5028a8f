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
