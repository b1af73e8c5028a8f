package edge

import (
	"math"
	"runtime"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

// admission bounds the requests in flight: by edge.max_requests, and by what the processors can follow. Requests beyond
// that would only make all of them slower, so they are refused while refusing is still cheap.
//
// The measure is how long goroutines that could run wait for a processor. It is the delay that a request meets several
// times on its way, and it rises when the processors are the bottleneck, and not when upstreams are slow. As long as it
// is high, the limit falls below what runs; when it is low, the limit grows again. (The idea is that of CoDel, RFC
// 8289: judge a queue by the time spent in it, not by its length.)
type admission struct {
	inFlight atomic.Int64
	limit    atomic.Int64 // of this moment, at most max
	max      atomic.Int64
	peak     atomic.Int64 // of inFlight since the last adjustment
	refused  atomic.Uint64
	lateRow  int // late adjustments in a row; only adjust uses it
}

const (
	adjustEvery = 50 * time.Millisecond
	lateTarget  = 2 * time.Millisecond // waiting longer than this means overload
	// adjustments in a row; requests that wake together make a late moment, not an overload.
	lateEnough = 2
)

// floor is what is always admitted, whatever the processors do.
func floor() int64 { return 64 * int64(runtime.GOMAXPROCS(0)) }

// setMax changes edge.max_requests. What the processors allow is found anew.
func (a *admission) setMax(limit int64) {
	if a.max.Swap(limit) != limit {
		a.limit.Store(limit)
	}
}

// enter admits one request, which must leave again, or refuses it.
func (a *admission) enter() bool {
	n := a.inFlight.Add(1)
	if n > a.limit.Load() {
		a.inFlight.Add(-1)
		return false
	}
	if n > a.peak.Load() {
		a.peak.Store(n) // of two at once the smaller may win, by one
	}
	return true
}

func (a *admission) leave() { a.inFlight.Add(-1) }

// full reports whether enter would refuse at this moment.
func (a *admission) full() bool { return a.inFlight.Load() >= a.limit.Load() }

// sheds reports whether the processors allow less than edge.max_requests.
func (a *admission) sheds() bool { return a.limit.Load() < a.max.Load() }

// adjust sets the limit by how late goroutines run. It is called every adjustEvery, by one goroutine.
func (a *admission) adjust(late time.Duration) {
	limit, peak, highest := a.limit.Load(), a.peak.Swap(a.inFlight.Load()), a.max.Load()
	if a.lateRow++; late <= lateTarget {
		a.lateRow = 0
	}
	switch {
	case !a.sheds() && a.lateRow > 0 && a.lateRow < lateEnough: // it may be over in a moment
	case late > 4*lateTarget:
		limit = min(limit, peak) * 2 / 3
	case late > lateTarget:
		limit = min(limit, peak) * 15 / 16
	case peak >= limit*7/8: // it is the limit that holds back: feel the way
		limit += max(1, limit/16)
	default:
		limit += max(1, limit/4)
	}
	a.limit.Store(min(max(limit, floor()), highest))
}

// watch adjusts until stop is closed.
func (a *admission) watch(stop <-chan struct{}) {
	tick := time.NewTicker(adjustEvery)
	defer tick.Stop()
	l := newLateness()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			a.adjust(l.next())
		}
	}
}

// lateness reads from the Go runtime how long goroutines waited for a processor.
type lateness struct {
	sample [1]metrics.Sample
	before []uint64
}

func newLateness() *lateness {
	l := &lateness{}
	l.sample[0].Name = "/sched/latencies:seconds"
	l.next()
	return l
}

// enough is how many waits are needed to judge by: a few late ones among few are chance.
const enough = 200

// next gives the 99th percentile of the waits since the last call.
func (l *lateness) next() time.Duration {
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
	for i := len(h.Counts) - 1; i >= 0 && total >= enough; i-- {
		if above += h.Counts[i] - l.before[i]; above*100 > total {
			late = seconds(h.Buckets[i])
			break
		}
	}
	copy(l.before, h.Counts)
	return late
}

// seconds makes a duration of a bucket's lower bound, which may be infinite.
func seconds(s float64) time.Duration {
	if math.IsInf(s, -1) {
		return 0
	}
	return time.Duration(s * float64(time.Second))
}
