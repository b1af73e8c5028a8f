package admin_test

import (
	"math"
	"testing"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/edge/cache"
)

// Rates count only the requests of the window. Only the total counts those before it.
func TestRatesCountTheWindowAlone(t *testing.T) {
	start := time.Unix(1000, 0)
	var was, now edge.RouteStats
	was.Route, was.Classes = "a", [6]uint64{2: 1000, 5: 1000}
	was.Buckets[14] = 2000 // up to 30 s
	now = was
	now.Classes[2] += 170
	now.Classes[4] += 20
	now.Classes[5] += 10
	now.Buckets[1] += 100 // 0.5 to 1 ms
	now.Buckets[4] += 98  // 5 to 10 ms
	now.Buckets[15] += 2  // over 30 s
	idle := edge.RouteStats{Route: "idle", Classes: [6]uint64{2: 5}}
	caches := func(hits uint64) []cache.Stats {
		return []cache.Stats{{Route: "a", Hits: hits, Bucket: 3}, {Route: "idle"}}
	}
	before := admin.NewCounts(start, []edge.RouteStats{was, idle, {Route: "never"}}, caches(7))
	got := admin.Rates(before, start.Add(20*time.Second), []edge.RouteStats{now, idle, {Route: "never"}}, caches(157))
	if len(got) != 2 || got[0].Route != "a" || got[1].Route != "idle" {
		t.Fatalf("got %+v", got)
	}
	near := func(what string, got *float64, want float64) {
		t.Helper()
		if got == nil || math.Abs(*got-want) > 0.001 {
			t.Errorf("%s is %v, want %v", what, got, want)
		}
	}
	near("requests a second", &got[0].PerSecond, 10)
	near("errors", &got[0].Errors, 0.05)
	near("refused", &got[0].Refused, 0.1)
	near("hits", got[0].Hits, 0.75)
	near("p50", got[0].P50, 1)
	near("p99", got[0].P99, 10)
	if got[0].Requests != 2200 || got[1].Requests != 5 || got[1].PerSecond != 0 ||
		got[1].P50 != nil || got[1].Hits != nil {
		t.Errorf("got %+v", got)
	}
	slow := []edge.RouteStats{{Route: "b", Classes: [6]uint64{2: 4}, Buckets: [16]uint64{15: 4}}}
	got = admin.Rates(admin.Counts{At: start}, start.Add(time.Second), slow, nil)
	near("beyond the last bound", got[0].P99, 30_000)
	near("without a cache", &got[0].PerSecond, 4)
	slow[0].Peak = 42 * time.Second
	got = admin.Rates(admin.Counts{At: start}, start.Add(time.Second), slow, nil)
	near("up to the longest", got[0].P99, 41_880)
	one := []edge.RouteStats{{
		Route: "c", Classes: [6]uint64{2: 1}, Buckets: [16]uint64{13: 1},
		Peak: 6060 * time.Millisecond,
	}}
	got = admin.Rates(admin.Counts{At: start}, start.Add(time.Second), one, nil)
	near("p50 of one request", got[0].P50, 6060)
	near("p99 of one request", got[0].P99, 6060)
	if got[0].Hits != nil {
		t.Errorf("a route without a cache has hits: %v", *got[0].Hits)
	}
}
