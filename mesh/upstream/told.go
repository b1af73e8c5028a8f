package upstream

import (
	"sync"
	"time"
)

// tellEvery is how often the log is told of the same failure of the same target.
const tellEvery = time.Second

// told thins the lines about failures: when every request fails, the log needn't tell of each. The zero value is ready;
// it is safe for concurrent use.
type told struct {
	mu   sync.Mutex // guards what follows
	last map[*failure]*lastTold
}

type lastTold struct {
	at      time.Time
	leftOut int
}

// pass reports whether the log is to be told, and of how many failures since the last time it wasn't.
func (t *told) pass(f *failure, now time.Time) (leftOut int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last == nil {
		t.last = map[*failure]*lastTold{}
	}
	l := t.last[f]
	if l == nil {
		t.last[f] = &lastTold{at: now}
		return 0, true
	}
	if now.Sub(l.at) < tellEvery {
		l.leftOut++
		return 0, false
	}
	leftOut, l.leftOut, l.at = l.leftOut, 0, now
	return leftOut, true
}
