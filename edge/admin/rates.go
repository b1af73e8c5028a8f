package admin

import (
	"time"

	"millrace/edge"
	"millrace/edge/cache"
	"millrace/node"
)

// RouteRates is what one route did in the last window, on this node.
type RouteRates struct {
	Route     string        `json:"route"`
	Host      string        `json:"host,omitempty"`
	Methods   []node.Method `json:"methods,omitempty"`
	Path      string        `json:"path,omitempty"` // pattern; empty for a route that a reload removed
	Requests  uint64        `json:"requests"`       // since the start
	PerSecond float64       `json:"requests_per_second"`
	Errors    float64       `json:"errors"`           // share of 5xx, from 0 to 1
	Refused   float64       `json:"refused"`          // share of 4xx
	Hits      *float64      `json:"hits,omitempty"`   // share that the cache answered; only of routes that cache
	P50       *float64      `json:"p50_ms,omitempty"` // times, estimated from a histogram; missing without requests
	P99       *float64      `json:"p99_ms,omitempty"` // likewise
}

// Counts holds the counts of a node's routes at one moment. Routes without a request may be missing.
type Counts struct {
	At     time.Time
	Routes map[string]edge.RouteStats
	Caches map[string]cache.Stats
}

// NewCounts returns the counts of the routes that had requests.
func NewCounts(at time.Time, routes []edge.RouteStats, caches []cache.Stats) Counts {
	out := Counts{At: at, Routes: map[string]edge.RouteStats{}, Caches: map[string]cache.Stats{}}
	for i := range routes {
		if requests(&routes[i]) > 0 {
			out.Routes[routes[i].Route] = routes[i]
		}
	}
	for i := range caches {
		if _, used := out.Routes[caches[i].Route]; used {
			out.Caches[caches[i].Route] = caches[i]
		}
	}
	return out
}

// Rates returns the rates of each route that had requests, from the counts of an earlier moment until at. They are in
// the order of routes.
func Rates(before Counts, at time.Time, routes []edge.RouteStats, caches []cache.Stats) []RouteRates {
	cached := map[string]cache.Stats{}
	for _, c := range caches {
		cached[c.Route] = c
	}
	seconds := max(at.Sub(before.At).Seconds(), 0.001)
	var out []RouteRates
	for i := range routes {
		now, was := &routes[i], before.Routes[routes[i].Route]
		total := requests(now)
		if total == 0 {
			continue
		}
		r := RouteRates{Route: now.Route, Requests: total}
		if n := float64(total - requests(&was)); n > 0 {
			r.PerSecond = n / seconds
			r.Errors, r.Refused = float64(now.Classes[5]-was.Classes[5])/n, float64(now.Classes[4]-was.Classes[4])/n
			r.P50, r.P99 = quantile(now, &was, 0.5), quantile(now, &was, 0.99)
			if c, ok := cached[now.Route]; ok {
				hits := min(float64(answered(c)-answered(before.Caches[now.Route]))/n, 1)
				r.Hits = &hits
			}
		}
		out = append(out, r)
	}
	return out
}

// answered returns how many requests a cache answered: the memory, the bucket, or that of another node.
func answered(c cache.Stats) uint64 { return c.Hits + c.Bucket + c.Home }

// requests returns how many requests a route had.
func requests(r *edge.RouteStats) (n uint64) {
	for _, class := range r.Classes {
		n += class
	}
	return n
}

// quantile estimates the q-quantile of the latencies between two moments, in milliseconds; nil without requests. Within
// a bucket of the histogram the latencies count as evenly spread, up to the longest latency. In the last bucket, which
// has no upper bound, the quantile is the lower bound if the longest latency isn't known.
func quantile(now, was *edge.RouteStats, q float64) *float64 {
	var n uint64
	for i := range now.Buckets {
		n += now.Buckets[i] - was.Buckets[i]
	}
	if n == 0 {
		return nil
	}
	rank, below, lower := q*float64(n), 0.0, time.Duration(0)
	for i := range now.Buckets {
		bound := max(now.Peak, lower) // of those beyond all bounds
		if i < len(edge.Buckets) {
			bound = edge.Buckets[i]
		}
		in := float64(now.Buckets[i] - was.Buckets[i])
		if below+in >= rank && in > 0 {
			lower += time.Duration((rank - below) / in * float64(bound-lower))
			break
		}
		below, lower = below+in, bound
	}
	if now.Peak > 0 {
		lower = min(lower, now.Peak)
	}
	return milliseconds(lower)
}

func milliseconds(d time.Duration) *float64 {
	ms := float64(d.Round(10*time.Microsecond).Microseconds()) / 1000
	return &ms
}
