package upstream

import (
	"sync"
	"time"
)

// logEvery is the least time between two log lines about the same failure of the same target.
const logEvery = time.Second

// failureLog throttles the log lines about a target's failures. The zero value is ready. It is safe for concurrent use.
type failureLog struct {
	mu   sync.Mutex // guards last
	last map[*failure]*lastLogged
}

type lastLogged struct {
	at      time.Time
	leftOut int
}

// admit reports whether the failure is to be logged, and how many like it were left out since the last one.
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
