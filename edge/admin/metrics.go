package admin

import (
	"net/http"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"millrace/edge"
	"millrace/mesh"
	"millrace/mesh/upstream"
)

// metricsHandler serves the node's counters in the Prometheus format. They are read when they are asked for; counting
// itself is the business of edge, mesh and upstream and costs a few atomic additions.
func metricsHandler(o Operator) http.Handler {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collector{o}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("millrace_"+name, help, labels, nil)
}

var (
	descRequests  = desc("http_requests_total", "Responses by route and status class.", "route", "class")
	descLatency   = desc("http_request_duration_seconds", "Time from request to response by route.", "route")
	descInFlight  = desc("http_requests_in_flight", "Requests that run at this moment.")
	descConns     = desc("http_connections", "Client connections at this moment.")
	descOverload  = desc("http_requests_refused_total", "Requests that were one too many for the node.")
	descRejected  = desc("http_connections_refused_total", "Connections that were one too many.")
	descBuffered  = desc("http_buffered_bytes", "Bytes of requests and responses held at this moment.")
	descStreams   = desc("mesh_streams", "Ends of streamed exchanges, sockets too, at this moment: two for each that begins and ends in this process.")
	descMembers   = desc("mesh_members", "Nodes of the mesh by state, as this one sees them.", "state")
	descReady     = desc("ready", "1 when the node is ready to serve.")
	descRetries   = desc("mesh_second_tries_total", "Requests sent to a second member, by service.", "service")
	descRefused   = desc("mesh_refusals_total", "Requests that no member took, by service and reason.", "service", "reason")
	descDropped   = desc("mesh_replies_dropped_total", "Replies thrown away, by service and reason.", "service", "reason")
	descTargetUp  = desc("upstream_target_up", "1 when requests may go to the target.", "upstream", "target")
	descTargetReq = desc("upstream_target_requests_total", "Requests sent to the target.", "upstream", "target")
	descTargetErr = desc("upstream_target_failures_total", "Requests that the target spoiled.", "upstream", "target")
	descTargetRun = desc("upstream_target_in_flight", "Requests that run at the target.", "upstream", "target")
)

type collector struct{ operator Operator }

// Describe names nothing, since routes and services come and go: the registry then checks at each collection.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads all counters.
func (c collector) Collect(out chan<- prometheus.Metric) {
	status := c.operator.Status()
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
	for _, m := range status.Members {
		states[m.State]++
	}
	for state, n := range states {
		gauge(descMembers, float64(n), string(state))
	}
	gauge(descReady, truth(status.Ready))
	for _, r := range c.operator.RouteStats() {
		collectRoute(out, counter, r)
	}
	for _, m := range c.operator.MeshStats() {
		counter(descRetries, m.Retries, m.Label)
		counter(descRefused, m.Busy, m.Label, "busy")
		counter(descRefused, m.NoMember, m.Label, "no_member")
		counter(descDropped, m.Late, m.Label, "late")
		counter(descDropped, m.Duplicate, m.Label, "duplicate")
		counter(descDropped, m.Malformed, m.Label, "malformed")
		counter(descDropped, m.Oversize, m.Label, "oversized")
	}
	for _, u := range status.Upstreams {
		collectUpstream(gauge, counter, u)
	}
}

func collectRoute(out chan<- prometheus.Metric, counter func(*prometheus.Desc, uint64, ...string), r edge.RouteStats) {
	for class, n := range r.Classes {
		if class >= 2 {
			counter(descRequests, n, r.Route, strconv.Itoa(class)+"xx")
		}
	}
	buckets, total := map[float64]uint64{}, uint64(0)
	for i, bound := range edge.Buckets {
		total += r.Buckets[i]
		buckets[bound.Seconds()] = total
	}
	total += r.Buckets[len(edge.Buckets)]
	out <- prometheus.MustNewConstHistogram(descLatency, total, r.Sum.Seconds(), buckets, r.Route)
}

func collectUpstream(gauge func(*prometheus.Desc, float64, ...string), counter func(*prometheus.Desc, uint64, ...string), u upstream.Status) {
	for _, t := range u.Targets {
		gauge(descTargetUp, truth(t.State == "up"), u.Name, t.URL)
		gauge(descTargetRun, float64(t.InFlight), u.Name, t.URL)
		counter(descTargetReq, t.Requests, u.Name, t.URL)
		counter(descTargetErr, t.Failures, u.Name, t.URL)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
