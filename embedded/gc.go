package embedded

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// spareGarbage is how much garbage may lie about at least before it is collected. With Go's standard, as much as is in use, the small heap of a busy node
// would be collected many times a second; with a larger standard a large cache would need its size again.
const spareGarbage = 64 << 20

// TuneGC makes the garbage collector run no more often than each 64 MiB of garbage, for programs that are a node and nothing else. It changes the whole
// process, for good. GOGC in the environment goes first; a memory limit still holds.
func TuneGC() {
	if os.Getenv("GOGC") == "" {
		newGCTuner().again(new(byteSentinel))
	}
}

// byteSentinel is garbage by which each collection is noticed. It has a pointer, so that it isn't put together with others.
type byteSentinel struct{ _ *byte }

// gcTuner sets the collector's percentage after each collection.
type gcTuner struct {
	live    []metrics.Sample
	percent uint64
}

func newGCTuner() *gcTuner {
	return &gcTuner{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, percent: 100}
}

func (g *gcTuner) again(s *byteSentinel) {
	metrics.Read(g.live)
	if p := gcPercent(g.live[0].Value.Uint64()); p > g.percent*11/10 || p < g.percent*9/10 { // a change stops the world for a moment
		g.percent = p
		debug.SetGCPercent(int(p)) //nolint:gosec // G115: at most 1000
	}
	runtime.SetFinalizer(s, g.again)
}

// gcPercent is the percentage for so many bytes in use.
func gcPercent(live uint64) uint64 {
	return min(max(spareGarbage*100/max(live, 1), 100), 1000)
}
