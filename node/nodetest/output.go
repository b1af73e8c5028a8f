package nodetest

import (
	"strings"
	"sync"
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
