package edge

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Buckets are the upper bounds of the latency histogram.
var Buckets = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// RouteStats is what one route has served since the start.
type RouteStats struct {
	Route   string
	Classes [6]uint64                // responses by status class; index 2 is 2xx
	Buckets [len(Buckets) + 1]uint64 // responses by latency, not cumulated; the last is beyond all bounds
	Sum     time.Duration            // of all latencies
	Peak    time.Duration            // the longest latency since TurnPeaks was called the time before last
}

// routeStats counts with a few atomic additions a request; what reads it adds up.
type routeStats struct {
	classes [6]atomic.Uint64
	buckets [len(Buckets) + 1]atomic.Uint64
	sum     atomic.Int64
	peak    atomic.Int64 // the longest of this span
	before  atomic.Int64 // of the span before
}

func (r *routeStats) record(status int, took time.Duration) {
	r.classes[min(status/100, 5)].Add(1)
	i := 0
	for i < len(Buckets) && took > Buckets[i] {
		i++
	}
	r.buckets[i].Add(1)
	r.sum.Add(int64(took))
	for peak := r.peak.Load(); int64(took) > peak; peak = r.peak.Load() {
		if r.peak.CompareAndSwap(peak, int64(took)) {
			break
		}
	}
}

// statsByRoute keeps the counts of a route across reloads. Routes come from the configuration, so they are few; those
// that a reload removed keep their counts, as counters must never fall.
type statsByRoute struct {
	mu     sync.Mutex
	routes map[string]*routeStats
}

func (s *statsByRoute) of(id string) *routeStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.routes == nil {
		s.routes = map[string]*routeStats{}
	}
	if s.routes[id] == nil {
		s.routes[id] = &routeStats{}
	}
	return s.routes[id]
}

// TurnPeaks begins another span of the routes' longest latencies: those of the one before the last are forgotten.
func (s *Server) TurnPeaks() {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	for _, r := range s.stats.routes {
		r.before.Store(r.peak.Swap(0))
	}
}

// Stats lists the routes' counts ordered by route.
func (s *Server) Stats() []RouteStats { return s.stats.list() }

// CallStats lists the counts of the calls of gathers, ordered by route: a call's is named ROUTE.CALL.
func (s *Server) CallStats() []RouteStats { return s.callStats.list() }

func (s *statsByRoute) list() []RouteStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]RouteStats, 0, len(s.routes))
	for id, r := range s.routes {
		rs := RouteStats{Route: id, Sum: time.Duration(r.sum.Load())}
		rs.Peak = time.Duration(max(r.peak.Load(), r.before.Load()))
		for i := range r.classes {
			rs.Classes[i] = r.classes[i].Load()
		}
		for i := range r.buckets {
			rs.Buckets[i] = r.buckets[i].Load()
		}
		out = append(out, rs)
	}
	slices.SortFunc(out, func(a, b RouteStats) int { return strings.Compare(a.Route, b.Route) })
	return out
}
