package mesh_test

import (
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"millrace/node/nodetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// logBuffer is a log that tests can read.
type logBuffer struct{ nodetest.Output }

func (r *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(r, nil)) }

func (r *logBuffer) has(parts ...string) bool {
	for line := range strings.SplitSeq(r.String(), "\n") {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(line, p)
		}
		if all {
			return true
		}
	}
	return false
}
