package logs

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	atOnce      = 8                // similar lines that are written at once
	reportEvery = 10 * time.Second // the interval for writing the number of further ones
	maxKeys     = 512
)

// key is what similar lines have in common.
type key struct {
	level   slog.Level
	message string
	source  string
}

// table counts similar lines. The zero value is ready to use; it is safe for concurrent use.
type table struct {
	mu     sync.Mutex // guards what follows
	rows   map[key]*row
	closed bool
}

// row counts one kind of lines, as long as they keep coming.
type row struct {
	written int // lines in the first interval
	held    int // lines that wait to be reported by their number
	last    slog.Record
	next    slog.Handler // the handler for last
	timer   *time.Timer  // ends the interval
}

// take reports whether the line is to be written now. If not, it is counted and reported with others of its kind.
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
		k = key{level: k.level, message: k.message} // messages are constants, so there are few of these
	}
	line := t.rows[k]
	if line == nil {
		line = &row{timer: time.AfterFunc(reportEvery, func() { t.report(k) })}
		t.rows[k] = line
	}
	if line.written < atOnce {
		line.written++
		return true
	}
	line.held, line.last, line.next = line.held+1, r, next
	return false
}

// report ends an interval: it writes the number of held lines. If there are none it removes the row, so that the next
// line is written at once.
func (t *table) report(k key) {
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
		line.timer.Reset(reportEvery)
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

// write writes the last held line, with the number of all.
func (l *row) write() {
	if l.held == 0 {
		return
	}
	l.last.AddAttrs(slog.Int("repeated", l.held))
	_ = l.next.Handle(context.Background(), l.last) // a log that can't be written can't report that
}
