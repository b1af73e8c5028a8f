package embedded

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// spareGarbage is how much garbage may lie about at least before it is collected. With Go's standard, as much as is
// in use, the small heap of a busy node would be collected many times a second; with a larger standard a large cache
// would need its size again.
const spareGarbage = 64 << 20

// GC is the garbage collector as TuneGC has set it. Its methods may be called on nil, which leaves the collector alone.
type GC struct {
	mu      sync.Mutex
	live    []metrics.Sample
	percent uint64
	room    uint64 // bytes of garbage beyond spareGarbage
}

// TuneGC makes the garbage collector run no more often than each 64 MiB of garbage, for programs that are a node and
// nothing else. It changes the whole process, for good. GOGC in the environment goes first, and nil is given then; a
// memory limit still holds.
func TuneGC() *GC {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	g := &GC{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, percent: 100}
	g.again(new(byteSentinel))
	return g
}

// byteSentinel is garbage by which each collection is noticed. It has a pointer, so that it isn't put together with
// others.
type byteSentinel struct{ _ *byte }

// again sets the percentage after each collection.
func (g *GC) again(s *byteSentinel) {
	g.mu.Lock()
	g.set()
	g.mu.Unlock()
	runtime.SetFinalizer(s, g.again)
}

// set sets the percentage. The caller holds mu.
func (g *GC) set() {
	metrics.Read(g.live)
	p := gcPercent(g.live[0].Value.Uint64(), g.room)
	if p > g.percent*11/10 || p < g.percent*9/10 { // a change stops the world for a moment
		g.percent = p
		debug.SetGCPercent(int(p)) //nolint:gosec // G115: at most 10000
	}
}

// Room lets so many bytes of garbage more lie about until release is called. A piece of work that makes much garbage at
// once would have the collector run beside it, again and again, and requests wait for the processors that both hold.
func (g *GC) Room(bytes uint64) (release func()) {
	if g == nil {
		return func() {}
	}
	g.more(bytes)
	return func() { g.more(-bytes) }
}

func (g *GC) more(bytes uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.room += bytes
	g.set()
}

// gcPercent is the percentage for so many bytes in use, and so much room for garbage beyond what is usual.
func gcPercent(live, room uint64) uint64 {
	usual := min(max(spareGarbage*100/max(live, 1), 100), 1000)
	return min(usual+room*100/max(live, 1<<20), 10_000)
}
