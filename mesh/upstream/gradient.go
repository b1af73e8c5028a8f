package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// gradient is a limit of requests in flight that follows the target's latency: as long as more of them don't make it
// slower the limit grows, and when they wait inside the target it shrinks. It needs no knowledge of the target
// (Netflix, concurrency-limits; Envoy, adaptive concurrency).
//
// Latencies are averaged over windows. base is the average without a queue: that of windows in which the limit was
// hardly used, or of the fastest. Since a target that gets slower would look like one with a queue for ever, the limit
// drops for a moment from time to time, and base is measured anew. Safe for concurrent use.
type gradient struct {
	limit atomic.Int64
	now   func() time.Time

	mu           sync.Mutex // guards what follows
	base         float64    // nanoseconds; 0 until it is known
	exact        float64    // the limit before it is rounded
	sum          float64    // of the window, nanoseconds
	n            int
	mostInFlight int64     // in flight within the window
	began        time.Time // the window
	probeAt      time.Time // when base is measured anew
	probing      bool
	probeEnd     time.Time // of a probe that nothing comes of
	probedAt     time.Time
	limitBefore  float64 // the limit before the probe
	peak         float64 // the highest since it
	found        bool    // latency has told where the limit is; until then it grows fast
}

const (
	firstLimit = 20
	minLimit   = 1
	maxLimit   = 10_000

	windowLength  = 50 * time.Millisecond
	windowSamples = 10
	tolerance     = 1.1         // latencies that much above base are no queue
	firstProbe    = time.Second // the target may be busy already when the first requests go there
	probeEvery    = 30 * time.Second
	probeAgain    = 2 * time.Second // when the limit has fallen to half: the target itself may have become slower
	probeFactor   = 10              // times base, and no shorter than leastProbe
	minProbe      = 200 * time.Millisecond
)

func newGradient(now func() time.Time) *gradient {
	g := &gradient{now: now, exact: firstLimit, began: now(), probeAt: now().Add(firstProbe)}
	g.limit.Store(firstLimit)
	return g
}

// observe takes the latency of one request, and how many were in flight as it ended, itself included.
func (g *gradient) observe(took time.Duration, inFlight int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sum += float64(took)
	g.n++
	g.mostInFlight = max(g.mostInFlight, inFlight)
	if now := g.now(); g.n >= windowSamples && now.Sub(g.began) >= windowLength {
		g.adjust(now)
		g.sum, g.n, g.mostInFlight, g.began = 0, 0, 0, now
	}
}

// adjust ends a window. The caller holds mu.
func (g *gradient) adjust(now time.Time) {
	mean := g.sum / float64(g.n)
	switch {
	case g.probing:
		if g.mostInFlight <= int64(g.exact)+1 { // or else requests from before the probe still ran
			g.probed(mean, now)
		}
		return
	case g.base == 0 || mean < g.base:
		g.base = mean
	case now.After(g.probeAt) || (g.exact < g.peak/2 && now.Sub(g.probedAt) > probeAgain):
		g.limitBefore, g.probing = g.exact, true
		g.probeEnd = now.Add(max(time.Duration(probeFactor*g.base), minProbe))
		g.set(max(g.exact/4, minLimit))
		return
	}
	unused, slope := float64(g.mostInFlight)*2 < g.exact, min(max(g.base*tolerance/mean, 0.5), 1)
	switch {
	case unused && slope == 1: // nothing waits, and nothing calls for more
		g.base += (mean - g.base) / 10
		g.probeAt = now.Add(probeEvery)
	case slope == 1 && !g.found:
		g.set(min(g.exact*1.5, maxLimit))
	default:
		g.found = true
		g.set(min(max(g.exact*slope+max(math.Sqrt(g.exact)/2, 1), minLimit), maxLimit)*0.3 + g.exact*0.7)
	}
}

// probed takes what a probe has found. A target that has become slower may have been taken for one with a queue, so its
// limit is looked for again.
func (g *gradient) probed(mean float64, now time.Time) {
	g.found = g.found && mean < 1.5*g.base
	g.base, g.probing = mean, false
	g.peak = 0
	g.set(g.limitBefore)
	g.probedAt, g.probeAt = now, now.Add(probeEvery)
}

// overdue ends a probe that lasts too long, since requests from before it hold all of its places, and reports whether
// it did. It is asked when a request finds no room.
func (g *gradient) endOverdueProbe() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if !g.probing || now.Before(g.probeEnd) {
		return false
	}
	g.probing = false
	g.set(g.limitBefore)
	g.probedAt, g.probeAt = now, now.Add(probeEvery)
	g.sum, g.n, g.mostInFlight, g.began = 0, 0, 0, now
	return true
}

func (g *gradient) set(limit float64) {
	g.exact = limit
	g.peak = max(g.peak, limit)
	g.limit.Store(int64(limit))
}
