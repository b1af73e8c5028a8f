package nodetest

import (
	"testing"
	"time"
)

// patience is how long Eventually waits: far longer than any condition takes on a busy machine.
const patience = 30 * time.Second

// Eventually waits until cond returns true, and ends the test if it never does.
func Eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			tb.Fatalf("never came true: %s", what)
		}
	}
}
