package embedded

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
)

// minGarbage is how much garbage may accumulate at least before a collection. Go's default allows as much garbage as
// there is live memory: the small heap of a busy node would be collected many times a second, while a larger percentage
// would make a large cache need its size again.
const minGarbage = 64 << 20

// GC is the garbage collector as TuneGC has set it. A nil GC is valid: its methods do nothing. The methods are safe for
// concurrent use.
type GC struct {
	mu      sync.Mutex // guards what follows
	live    []metrics.Sample
	percent uint64
	extra   uint64 // bytes of garbage allowed beyond minGarbage
}

// TuneGC makes the garbage collector wait for at least 64 MiB of garbage. It changes the whole process, for good, so it
// is for programs that run a node and nothing else. If GOGC is set in the environment, TuneGC changes nothing and
// returns nil. A memory limit (GOMEMLIMIT) still holds.
func TuneGC() *GC {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	g := &GC{live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}, percent: 100}
	g.retune(new(byteSentinel))
	return g
}

// byteSentinel is garbage whose finalizer runs after each collection. Its pointer keeps the runtime from allocating it
// together with other small objects.
type byteSentinel struct{ _ *byte }

// retune sets the percentage again after each collection.
func (g *GC) retune(s *byteSentinel) {
	g.mu.Lock()
	g.set()
	g.mu.Unlock()
	runtime.SetFinalizer(s, g.retune)
}

// set computes and sets the percentage. The caller holds mu.
func (g *GC) set() {
	metrics.Read(g.live)
	p := gcPercent(g.live[0].Value.Uint64(), g.extra)
	if p > g.percent*11/10 || p < g.percent*9/10 { // a change stops the world for a moment, so small ones are skipped
		g.percent = p
		debug.SetGCPercent(int(p)) //nolint:gosec // G115: at most 10000
	}
}

// AllowGarbage allows that many more bytes of garbage until release is called. Without it, work that makes much garbage
// at once would run the collector again and again, and requests would wait for the processors that both use.
func (g *GC) AllowGarbage(bytes uint64) (release func()) {
	if g == nil {
		return func() {}
	}
	g.addExtra(bytes)
	return func() { g.addExtra(-bytes) }
}

func (g *GC) addExtra(bytes uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.extra += bytes
	g.set()
}

// gcPercent is the GOGC percentage for live bytes in use and extra bytes of garbage.
func gcPercent(live, extra uint64) uint64 {
	usual := min(max(minGarbage*100/max(live, 1), 100), 1000)
	return min(usual+extra*100/max(live, 1<<20), 10_000)
}
