package upstream

import (
	"sync"
	"time"
)

// tellEvery is how often the log is told of the same failure of the same target.
const logEvery = time.Second

// told thins the lines about failures: when every request fails, the log needn't tell of each. The zero value is ready;
// it is safe for concurrent use.
type failureLog struct {
	mu   sync.Mutex // guards what follows
	last map[*failure]*lastLogged
}

type lastLogged struct {
	at      time.Time
	leftOut int
}

// pass reports whether the log is to be told, and of how many failures since the last time it wasn't.
func (l *failureLog) admit(f *failure, now time.Time) (leftOut int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == nil {
		l.last = map[*failure]*lastLogged{}
	}
	last := l.last[f]
	if last == nil {
		l.last[f] = &lastLogged{at: now}
		return 0, true
	}
	if now.Sub(last.at) < logEvery {
		last.leftOut++
		return 0, false
	}
	leftOut, last.leftOut, last.at = last.leftOut, 0, now
	return leftOut, true
}
