package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/KimMachineGun/automemlimit/memlimit"

	"millrace/embedded"
)

// limitMemory lets the garbage collector work less while there is memory, and harder before the process reaches the limit of its cgroup, at which the
// system would kill it. GOMEMLIMIT in the environment goes first.
func limitMemory(ctx context.Context, log *slog.Logger) *embedded.GC {
	gc := embedded.TuneGC()
	_, err := memlimit.Set(memlimit.WithProvider(memlimit.FromCgroup), memlimit.WithRatio(0.85)) // SQLite's memory isn't Go's
	if err != nil && !errors.Is(err, memlimit.ErrNoLimit) && !errors.Is(err, memlimit.ErrNoCgroup) {
		log.DebugContext(ctx, "the memory limit is unknown", "cause", err)
	}
	return gc
}
