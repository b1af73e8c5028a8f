package edge

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Buckets are the upper bounds of the latency histogram, in ascending order.
var Buckets = [...]time.Duration{
	500 * time.Microsecond, time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond,
	25 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond,
	500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second,
}

// RouteStats holds the counts of one route since the start of the node.
type RouteStats struct {
	Route   string
	Classes [6]uint64                // responses by status class; index 2 is 2xx
	Buckets [len(Buckets) + 1]uint64 // responses by latency, not cumulative; the last is beyond all bounds
	Sum     time.Duration            // of all latencies
	Peak    time.Duration            // the longest latency since the call of TurnPeaks before the last one
}

// routeStats counts the responses of one route, with a few atomic additions each. It is safe for concurrent use.
type routeStats struct {
	classes    [6]atomic.Uint64
	buckets    [len(Buckets) + 1]atomic.Uint64
	sum        atomic.Int64
	peak       atomic.Int64 // the longest latency since TurnPeaks
	peakBefore atomic.Int64 // of the span before
}

// record counts a response.
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

// statsByRoute holds the counts of all routes across reloads. A route that a reload removed keeps its counts, because
// counters must never fall. Routes come from the configuration, so their number is bounded.
type statsByRoute struct {
	mu     sync.Mutex // guards routes
	routes map[string]*routeStats
}

// of returns the counts of a route, and adds them if they are missing.
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

// TurnPeaks starts another span for the routes' longest latencies. RouteStats.Peak covers this span and the one before.
func (s *Server) TurnPeaks() {
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	for _, r := range s.stats.routes {
		r.peakBefore.Store(r.peak.Swap(0))
	}
}

// Stats returns the counts of all routes, ordered by route.
func (s *Server) Stats() []RouteStats { return s.stats.list() }

// CallStats returns the counts of gathers' calls, ordered by name, which is ROUTE.CALL.
func (s *Server) CallStats() []RouteStats { return s.callStats.list() }

// list returns all counts, ordered by route.
func (s *statsByRoute) list() []RouteStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]RouteStats, 0, len(s.routes))
	for id, r := range s.routes {
		rs := RouteStats{Route: id, Sum: time.Duration(r.sum.Load())}
		rs.Peak = time.Duration(max(r.peak.Load(), r.peakBefore.Load()))
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
