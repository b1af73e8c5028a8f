package admin

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"millrace/edge"
	"millrace/edge/cache"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/mesh/upstream"
)

// Counter is what the page metrics needs of the node.
type Counter interface {
	Status() Status
	// RouteStats returns the counts of every route, and CallStats those of the calls of every route with gather.
	RouteStats() []edge.RouteStats
	CallStats() []edge.RouteStats
	// MeshStats returns the counts of every service.
	MeshStats() []mesh.Stats
	// CacheStats returns the counts of the whole cache, and those by route.
	CacheStats() (kvcache.Stats, []cache.Stats)
	// LimitStats returns the counts of the limiter, and those of every limit.
	LimitStats() (limit.Stats, []limit.RuleStats)
}

// metricsPage serves the node's counters in the Prometheus format. They are collected at each request. Counting is done
// in edge, mesh and upstream, with a few atomic additions a request.
func metricsPage(node Counter) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{node}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("millrace_"+name, help, labels, nil)
}

var (
	descRequests = desc("http_requests_total", "Responses by route and status class.", "route", "class")
	descLatency  = desc("http_request_duration_seconds", "Time from request to response by route.", "route")
	descCalls    = desc("gather_calls_total", "Results of the calls of gathers, by call and status class.", "call",
		"class")
	descCallTime = desc("gather_call_duration_seconds", "Time from a call of a gather to its result.", "call")
	descInFlight = desc("http_requests_in_flight", "Requests that run at this moment.")
	descConns    = desc("http_connections", "Client connections at this moment.")
	descOverload = desc("http_requests_refused_total", "Requests that were one too many for the node.")
	descRejected = desc("http_connections_refused_total", "Connections that were one too many.")
	descBuffered = desc("http_buffered_bytes", "Bytes of requests and responses held at this moment.")
	descStreams  = desc("mesh_streams",
		"Ends of streamed exchanges, sockets too, at this moment: two for each that begins and ends in this process.")
	descNodes = desc("mesh_nodes", "Nodes of the mesh by state, as this one sees them.", "state")
	descReady = desc("ready", "1 when the node is ready to serve.")
	descLocal = desc("mesh_local_requests_total",
		"Requests handed to a member in this process without NATS, by service.", "service")
	descRetries = desc("mesh_second_tries_total", "Requests sent to a second member, by service.", "service")
	descRefused = desc("mesh_refusals_total", "Requests that no member took, by service and reason.", "service",
		"reason")
	descDropped = desc("mesh_replies_dropped_total", "Replies thrown away, by service and reason.", "service",
		"reason")
	descTries = desc("upstream_retries_total", "Tries on top of the first, by whether the budget allowed them.",
		"upstream", "allowed")
	descHedges = desc("upstream_hedges_total",
		"Requests that were sent to a second target too, since the first took long.", "upstream")
	descWaiting     = desc("upstream_requests_waiting", "Requests that wait for a target with room.", "upstream")
	descTargetsFull = desc("upstream_requests_refused_total", "Requests that no target had room for.", "upstream")
	descTargetMax   = desc("upstream_target_limit", "Requests that the target may get at once; 0 for any number.",
		"upstream", "target")
	descTargetLat = desc("upstream_target_mean_seconds", "Average time of the responses of the last ten seconds.",
		"upstream", "target")
	descTargetOut = desc("upstream_target_ejections_total", "Times that the target was let rest.", "upstream", "target")
	descTargetUp  = desc("upstream_target_up", "1 when requests may go to the target.", "upstream", "target")
	descTargetReq = desc("upstream_target_requests_total", "Requests sent to the target.", "upstream", "target")
	descTargetErr = desc("upstream_target_failures_total", "Requests that the target spoiled.", "upstream", "target")
	descTargetRun = desc("upstream_target_in_flight", "Requests that run at the target.", "upstream", "target")
)

var (
	descCacheServed = desc("cache_requests_total", "Requests to routes that cache, by route and what the cache did.",
		"route", "result")
	descCacheHit = desc("cache_hit_bytes_total", "Bytes of bodies served from memory without asking anybody.",
		"route")
	descCacheBytes   = desc("cache_bytes", "Bytes that the cache holds, by tier.", "tier")
	descCacheMax     = desc("cache_limit_bytes", "Bytes that the cache may hold, by tier.", "tier")
	descCacheEntries = desc("cache_entries", "Entries in memory.")
	descCacheLeft    = desc("cache_evictions_total", "Entries that left the memory for want of room.")
	descCacheReady   = desc("cache_ready", "1 while this node follows the purges and may serve stored responses.")
	descCacheBucket  = desc("cache_bucket_operations_total", "Reads and writes of the shared bucket, by result.",
		"result")
	descCachePurged = desc("cache_purge_duration_seconds", "Time from a purge on this node to its acknowledgement.")
	descCachePurges = desc("cache_purges", "Purges that are remembered.")
)

var (
	descLimitRequests = desc("limit_requests_total", "Requests that limits have decided on, by limit and result.",
		"limit", "result")
	descLimitQueued = desc("limit_requests_queued_total", "Requests that waited for their turn, by limit.", "limit")
	descLimitStore  = desc("limit_store_operations_total", "Reads and writes of the store of limits, by kind.",
		"operation")
	descLimitRecalled = desc("limit_permits_recalled_total", "Permits that other nodes gave to this one.")
	descLimitKeys     = desc("limit_keys", "Keys that this node knows permits or refusals of.")
	descLimitReady    = desc("limit_ready", "1 while the store of limits can be asked.")
)

var (
	descSiteBytes    = desc("site_bytes", "Bytes of sites' files that this node holds, by tier.", "tier")
	descSiteMax      = desc("site_limit_bytes", "Bytes of sites' files that this node may hold, by tier.", "tier")
	descSiteFiles    = desc("site_files", "Files of sites on this node's disk.")
	descSiteBad      = desc("site_bad_digests_total", "Files and chunks of sites with wrong bytes.")
	descSiteFailed   = desc("site_fetch_failures_total", "Requests for chunks of sites' files that failed.")
	descSiteBehind   = desc("site_behind", "1 while this node doesn't serve yet what is live, by site.", "site")
	descSiteSince    = desc("site_live_timestamp_seconds", "When this node began to serve what it serves.", "site")
	descSiteDeploys  = desc("site_deploys", "Deploys of a site, and those of them that are on this node.", "site", "state")
	descSitePreviews = desc("site_previews", "Previews that this node serves, by site.", "site")
)

// collectSites collects the counts of sites, if this node follows their deploys. Requests to sites are counted by route.
func collectSites(
	gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string), s *SitesStatus,
) {
	if !s.Follows {
		return
	}
	gauge(descSiteBytes, float64(s.DiskBytes), "disk")
	gauge(descSiteBytes, float64(s.MemoryBytes), "memory")
	gauge(descSiteMax, float64(s.DiskMax), "disk")
	gauge(descSiteMax, float64(s.MemoryMax), "memory")
	gauge(descSiteFiles, float64(s.Files))
	counter(descSiteBad, uint64(max(s.BadDigests, 0)))
	counter(descSiteFailed, uint64(max(s.FetchErrors, 0)))
	for i := range s.List {
		one := &s.List[i]
		gauge(descSiteBehind, boolValue(one.Serves != one.Live), one.Site)
		gauge(descSiteDeploys, float64(one.Deploys), one.Site, "all")
		gauge(descSiteDeploys, float64(one.Staged), one.Site, "staged")
		gauge(descSitePreviews, float64(one.Previews), one.Site)
		if !one.Since.IsZero() {
			gauge(descSiteSince, float64(one.Since.Unix()), one.Site)
		}
	}
}

func collectLimits(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string),
	s limit.Stats, rules []limit.RuleStats,
) {
	for _, r := range rules {
		for result, n := range map[string]uint64{
			"allowed": r.Allowed, "denied": r.Denied - r.Shadowed,
			"shadowed": r.Shadowed, "unknown": r.Away,
		} {
			counter(descLimitRequests, n, r.Rule, result)
		}
		counter(descLimitQueued, r.Queued, r.Rule)
	}
	for operation, n := range map[string]uint64{
		"read": s.Reads, "write": s.Writes, "conflict": s.Conflicts,
		"failure": s.Failures, "recall": s.Recalls,
	} {
		counter(descLimitStore, n, operation)
	}
	counter(descLimitRecalled, s.Recalled)
	gauge(descLimitKeys, float64(s.Keys))
	gauge(descLimitReady, boolValue(s.Ready))
}

func collectCache(out chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string),
	counter func(*prometheus.Desc, uint64, ...string), s kvcache.Stats, routes []cache.Stats,
) {
	for _, r := range routes {
		for result, n := range map[string]uint64{
			"hit": r.Hits, "fetch": r.Fetches, "bucket": r.Bucket, "home": r.Home, "validated": r.Validated,
			"refreshed": r.Refreshed, "stale_error": r.StaleErrors, "passed": r.Passed,
		} {
			counter(descCacheServed, n, r.Route, result)
		}
		counter(descCacheHit, r.HitBytes, r.Route)
	}
	gauge(descCacheBytes, float64(s.MemoryBytes), "memory")
	gauge(descCacheBytes, float64(s.BucketBytes), "bucket")
	gauge(descCacheMax, float64(s.MemoryMax), "memory")
	gauge(descCacheMax, float64(s.BucketMax), "bucket")
	gauge(descCacheEntries, float64(s.Entries))
	counter(descCacheLeft, s.Evicted)
	gauge(descCacheReady, boolValue(s.Ready))
	for result, n := range map[string]uint64{
		"hit": s.BucketHits, "miss": s.BucketMisses, "failed": s.BucketFailures, "written": s.BucketWritten,
		"left_out": s.BucketSkipped, "dropped": s.BucketDropped,
	} {
		counter(descCacheBucket, n, result)
	}
	gauge(descCachePurges, float64(s.Purges))
	out <- prometheus.MustNewConstSummary(descCachePurged, s.Purged, s.Purging.Seconds(), nil)
}

type collector struct{ node Counter }

// Describe sends nothing, because routes and services change. The registry then checks at each collection.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect sends all counters.
func (c collector) Collect(out chan<- prometheus.Metric) {
	status := c.node.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(descInFlight, float64(status.InFlight))
	gauge(descConns, float64(status.Connections))
	counter(descOverload, status.Refused)
	counter(descRejected, status.RefusedConnections)
	gauge(descBuffered, float64(status.Buffered))
	gauge(descStreams, float64(status.Streams))
	states := map[mesh.MemberState]int{mesh.MemberAlive: 0, mesh.MemberLost: 0, mesh.MemberLeft: 0}
	for _, m := range status.Nodes {
		states[m.State]++
	}
	for state, n := range states {
		gauge(descNodes, float64(n), string(state))
	}
	gauge(descReady, boolValue(status.Ready))
	for _, r := range c.node.RouteStats() {
		collectRoute(out, counter, r, descRequests, descLatency)
	}
	for _, r := range c.node.CallStats() {
		collectRoute(out, counter, r, descCalls, descCallTime)
	}
	for _, m := range c.node.MeshStats() {
		counter(descRetries, m.Retries, m.Label)
		counter(descLocal, m.Local, m.Label)
		counter(descRefused, m.Busy, m.Label, "busy")
		counter(descRefused, m.NoMember, m.Label, "no_member")
		counter(descDropped, m.Late, m.Label, "late")
		counter(descDropped, m.Duplicate, m.Label, "duplicate")
		counter(descDropped, m.Malformed, m.Label, "malformed")
		counter(descDropped, m.Oversize, m.Label, "oversized")
	}
	stats, routes := c.node.CacheStats()
	collectCache(out, gauge, counter, stats, routes)
	limits, rules := c.node.LimitStats()
	collectLimits(gauge, counter, limits, rules)
	collectSites(gauge, counter, &status.Sites)
	for _, u := range status.Upstreams {
		collectUpstream(gauge, counter, u)
	}
}

func collectRoute(out chan<- prometheus.Metric, counter func(*prometheus.Desc, uint64, ...string), r edge.RouteStats,
	requests, latency *prometheus.Desc,
) {
	for class, n := range r.Classes {
		if class >= 2 {
			counter(requests, n, r.Route, strconv.Itoa(class)+"xx")
		}
	}
	buckets, total := map[float64]uint64{}, uint64(0)
	for i, bound := range edge.Buckets {
		total += r.Buckets[i]
		buckets[bound.Seconds()] = total
	}
	total += r.Buckets[len(edge.Buckets)]
	out <- prometheus.MustNewConstHistogram(latency, total, r.Sum.Seconds(), buckets, r.Route)
}

func collectUpstream(gauge func(*prometheus.Desc, float64, ...string),
	counter func(*prometheus.Desc, uint64, ...string), u upstream.Status,
) {
	counter(descTries, u.Retries, u.Name, "yes")
	counter(descTries, u.Unpaid, u.Name, "no")
	counter(descHedges, u.Hedges, u.Name)
	gauge(descWaiting, float64(u.Waiting), u.Name)
	counter(descTargetsFull, u.Refused, u.Name)
	for _, t := range u.Targets {
		name := t.Name()
		gauge(descTargetUp, boolValue(t.State == "up" || t.State == "returning"), u.Name, name)
		gauge(descTargetRun, float64(t.InFlight), u.Name, name)
		gauge(descTargetMax, float64(t.Limit), u.Name, name)
		gauge(descTargetLat, float64(t.Mean)/1e6, u.Name, name)
		counter(descTargetReq, t.Requests, u.Name, name)
		counter(descTargetErr, t.Failures, u.Name, name)
		counter(descTargetOut, t.Ejected, u.Name, name)
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
