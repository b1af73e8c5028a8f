package edge

import (
	"math"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// admission bounds the requests in flight by edge.max_requests, and by a limit that it finds itself: how many the
// processors can serve. Further requests would only make all of them slower, so they are refused while that is cheap.
//
// The limit follows the time that runnable goroutines wait for a processor. A request meets that delay several times on
// its way. It rises when the processors are the bottleneck, and not when upstreams are slow. While it is high, the
// limit is lowered below the number of requests in flight; while it is low, the limit is raised. The idea is that of
// CoDel (RFC 8289): judge a queue by the time spent in it, not by its length.
type admission struct {
	inFlight   atomic.Int64
	limit      atomic.Int64 // at this moment; at most max
	max        atomic.Int64 // edge.max_requests
	peak       atomic.Int64 // the most in flight since the last adjustment
	refused    atomic.Uint64
	lateInARow int // how many adjustments in a row found late goroutines; only adjust uses it
}

const (
	adjustEvery = 50 * time.Millisecond
	lateTarget  = 2 * time.Millisecond // waiting longer than this means overload
	// So many late adjustments in a row mean overload. A single one may come from requests that woke up together.
	minLateInARow = 2
)

// minLimit is the number of requests in flight that are always admitted.
func minLimit() int64 { return 64 * int64(runtime.GOMAXPROCS(0)) }

// setMax changes edge.max_requests. A changed value resets the limit.
func (a *admission) setMax(limit int64) {
	if a.max.Swap(limit) != limit {
		a.limit.Store(limit)
	}
}

// enter admits one request, which must call leave when it ends. It returns false if the request is refused.
func (a *admission) enter() bool {
	n := a.inFlight.Add(1)
	if n > a.limit.Load() {
		a.inFlight.Add(-1)
		return false
	}
	if n > a.peak.Load() {
		a.peak.Store(n) // of two concurrent stores the smaller may be last; that is close enough
	}
	return true
}

func (a *admission) leave() { a.inFlight.Add(-1) }

// full reports whether enter would return false at this moment.
func (a *admission) full() bool { return a.inFlight.Load() >= a.limit.Load() }

// overloaded reports whether the limit is below edge.max_requests.
func (a *admission) overloaded() bool { return a.limit.Load() < a.max.Load() }

// adjust sets the limit by how long goroutines waited for a processor. One goroutine calls it every adjustEvery.
func (a *admission) adjust(late time.Duration) {
	limit, peak, highest := a.limit.Load(), a.peak.Swap(a.inFlight.Load()), a.max.Load()
	if a.lateInARow++; late <= lateTarget {
		a.lateInARow = 0
	}
	switch {
	case !a.overloaded() && a.lateInARow > 0 && a.lateInARow < minLateInARow: // maybe a short burst
	case late > 4*lateTarget:
		limit = min(limit, peak) * 2 / 3
	case late > lateTarget:
		limit = min(limit, peak) * 15 / 16
	case peak >= limit*7/8: // the limit is in use: raise it in small steps
		limit += max(1, limit/16)
	default:
		limit += max(1, limit/4)
	}
	a.limit.Store(min(max(limit, minLimit()), highest))
}

// watch calls adjust until stop is closed.
func (a *admission) watch(stop <-chan struct{}) {
	tick := time.NewTicker(adjustEvery)
	defer tick.Stop()
	l := newSchedLatency()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			a.adjust(l.next())
		}
	}
}

// schedLatency reads from the Go runtime how long goroutines waited for a processor. It isn't safe for concurrent use.
type schedLatency struct {
	sample [1]metrics.Sample
	before []uint64
}

func newSchedLatency() *schedLatency {
	l := &schedLatency{}
	l.sample[0].Name = "/sched/latencies:seconds"
	l.next()
	return l
}

// minWaits is the number of waits below which next reports no latency: among few, a few late ones are chance.
const minWaits = 200

// next returns the 99th percentile of the waits since the last call, or 0 if there were fewer than minWaits.
func (l *schedLatency) next() time.Duration {
	metrics.Read(l.sample[:])
	h := l.sample[0].Value.Float64Histogram()
	if l.before == nil {
		l.before = make([]uint64, len(h.Counts))
	}
	total := uint64(0)
	for i, n := range h.Counts {
		total += n - l.before[i]
	}
	above, late := uint64(0), time.Duration(0)
	for i := len(h.Counts) - 1; i >= 0 && total >= minWaits; i-- {
		if above += h.Counts[i] - l.before[i]; above*100 > total {
			late = seconds(h.Buckets[i])
			break
		}
	}
	copy(l.before, h.Counts)
	return late
}

// seconds returns a bucket's lower bound as a duration; minus infinity becomes 0.
func seconds(s float64) time.Duration {
	if math.IsInf(s, -1) {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
