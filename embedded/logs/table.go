package logs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// How many alike lines are written at once, how often those beyond are told by their number, and how many kinds of
// lines are told apart.
const (
	atOnce  = 8
	every   = 10 * time.Second
	maxKeys = 512
)

// key is what alike lines have in common.
type key struct {
	level   slog.Level
	message string
	source  string
}

// table counts alike lines. The zero value is ready; it is safe for concurrent use.
type table struct {
	mu     sync.Mutex // guards what follows
	rows   map[key]*row
	closed bool
}

// row is one kind of line: within a span of time, and as long as it goes on.
type row struct {
	written int // lines of the first span
	held    int // lines that wait to be told by their number
	last    slog.Record
	next    slog.Handler // that last would have gone to
	timer   *time.Timer  // ends the span
}

// take reports whether the line is to be written at once. If not, it is counted, and told with others of its kind.
func (t *table) take(k key, next slog.Handler, r slog.Record) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return true
	}
	if t.rows == nil {
		t.rows = map[key]*row{}
	}
	if t.rows[k] == nil && len(t.rows) >= maxKeys {
		k = key{level: k.level, message: k.message} // messages are constants, so these are few
	}
	line := t.rows[k]
	if line == nil {
		line = &row{timer: time.AfterFunc(every, func() { t.tell(k) })}
		t.rows[k] = line
	}
	if line.written < atOnce {
		line.written++
		return true
	}
	line.held, line.last, line.next = line.held+1, r, next
	return false
}

// tell ends a span: it writes how many lines were held. A kind of which none was is forgotten, so that its next line is
// written at once.
func (t *table) tell(k key) {
	t.mu.Lock()
	line := t.rows[k]
	if line == nil || t.closed {
		t.mu.Unlock()
		return
	}
	told := *line
	if line.held == 0 {
		delete(t.rows, k)
	} else {
		line.held, line.written, line.last = 0, atOnce, slog.Record{}
		line.timer.Reset(every)
	}
	t.mu.Unlock()
	told.write()
}

func (t *table) close() {
	t.mu.Lock()
	rows := t.rows
	t.rows, t.closed = nil, true
	t.mu.Unlock()
	for _, line := range rows {
		line.timer.Stop()
		line.write()
	}
}

// write tells of the lines that were held, by the last of them.
func (l *row) write() {
	if l.held == 0 {
		return
	}
	l.last.AddAttrs(slog.Int("repeated", l.held))
	_ = l.next.Handle(context.Background(), l.last) // where there is no log, nobody can be told
}
