package nodetest

import (
	"strings"
	"sync"
)

// Output is the output of a log or process so far. Tests read it while it is written: it is safe for concurrent use.
// The zero value is empty.
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

// String returns all that was written.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
