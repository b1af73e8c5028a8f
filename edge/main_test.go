package edge_test

import (
	"bytes"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"millrace/embedded/natsserver/natsservertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, natsservertest.IgnoreFasthttp()...) }

// buffer is a log that tests read.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
