package upstream

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// gradient is a limit of requests in flight that follows the target's latency. It grows as long as more requests don't
// make the target slower, and shrinks when requests queue inside the target. It needs no knowledge of the target
// (Netflix, concurrency-limits; Envoy, adaptive concurrency).
//
// Latencies are averaged over windows. base is the average without a queue: that of windows in which the limit was
// hardly used, or of the fastest window. A target that becomes slower would look like one with a queue forever. So from
// time to time the limit drops briefly, and base is measured again: that is a probe. Safe for concurrent use.
type gradient struct {
	limit atomic.Int64
	now   func() time.Time

	mu           sync.Mutex // guards the fields below
	base         float64    // nanoseconds; 0 until it is known
	exact        float64    // the limit before rounding
	sum          float64    // of the window's latencies, in nanoseconds
	n            int
	mostInFlight int64     // most requests in flight within the window
	began        time.Time // when the window began
	probeAt      time.Time // when to probe next
	probing      bool
	probeEnd     time.Time // when an unsuccessful probe ends
	probedAt     time.Time
	limitBefore  float64 // the limit before the probe
	peak         float64 // the highest limit since the last probe
	found        bool    // the latency has shown where the limit is; until then it grows fast
}

const (
	firstLimit = 20
	minLimit   = 1
	maxLimit   = 10_000

	windowLength  = 50 * time.Millisecond
	windowSamples = 10
	tolerance     = 1.1         // latencies up to this factor above base mean no queue
	firstProbe    = time.Second // the target may be busy already at its first requests
	probeEvery    = 30 * time.Second
	probeAgain    = 2 * time.Second // if the limit has halved: the target itself may have become slower
	probeFactor   = 10              // a probe lasts that many times base, at least minProbe
	minProbe      = 200 * time.Millisecond
)

func newGradient(now func() time.Time) *gradient {
	g := &gradient{now: now, exact: firstLimit, began: now(), probeAt: now().Add(firstProbe)}
	g.limit.Store(firstLimit)
	return g
}

// observe records the latency of one request, and how many were in flight as it ended, including itself.
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

// adjust ends a window and adjusts the limit. The caller holds mu.
func (g *gradient) adjust(now time.Time) {
	mean := g.sum / float64(g.n)
	switch {
	case g.probing:
		if g.mostInFlight <= int64(g.exact)+1 { // otherwise requests from before the probe still ran
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
	case unused && slope == 1: // nothing queues, and no more capacity is needed
		g.base += (mean - g.base) / 10
		g.probeAt = now.Add(probeEvery)
	case slope == 1 && !g.found:
		g.set(min(g.exact*1.5, maxLimit))
	default:
		g.found = true
		g.set(min(max(g.exact*slope+max(math.Sqrt(g.exact)/2, 1), minLimit), maxLimit)*0.3 + g.exact*0.7)
	}
}

// probed records the result of a probe. If the target has become slower, that may have been taken for a queue, so its
// limit is searched for again.
func (g *gradient) probed(mean float64, now time.Time) {
	g.found = g.found && mean < 1.5*g.base
	g.base, g.probing = mean, false
	g.peak = 0
	g.set(g.limitBefore)
	g.probedAt, g.probeAt = now, now.Add(probeEvery)
}

// endOverdueProbe ends a probe that takes too long because earlier requests hold all permits, and reports whether it
// did. It is called when a request finds no capacity.
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
