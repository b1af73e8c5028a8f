package natsservertest

import (
	"bufio"
	"encoding/json"
	"io"
	"strings"
	"sync"
	"time"
)

// Output is what a log or a process has written so far. Tests read it while it grows: it is safe for concurrent use,
// and its zero value is ready.
type Output struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

// Write appends; it never fails.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// String gives all that was written.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// LedSince says when a node's log at debug level tells last that its replica of a stream leads; zero if it never does.
func LedSince(log io.Reader, stream string) (last time.Time) {
	for lines := bufio.NewScanner(log); lines.Scan(); {
		var said struct {
			Time time.Time
			Text string
		}
		if json.Unmarshal(lines.Bytes(), &said) == nil && strings.Contains(said.Text, "new stream leader") &&
			strings.Contains(said.Text, stream+"'") && said.Time.After(last) {
			last = said.Time
		}
	}
	return last
}
