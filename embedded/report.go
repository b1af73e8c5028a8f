package embedded

import (
	"context"

	"millrace/edge"
	"millrace/edge/admin"
	edgecache "millrace/edge/cache"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
)

// report answers status requests. It implements admin.Reporter.
type report struct {
	opts     *Options
	life     *lifecycle
	state    *stateFile
	rates    *rates
	services *services

	conditions []func(*conditionList) // of the parts, in the order of the report
	statuses   []func(*admin.Status)  // of the parts, each for fields of its own
}

// Status returns the node's state and its degraded conditions.
func (r *report) Status() admin.Status {
	st := admin.Status{Node: r.opts.Config.Node.Name, Version: r.opts.Version, Started: r.life.started}
	for _, fill := range r.statuses {
		fill(&st)
	}
	st.Degraded, st.Ready = r.degraded()
	return st
}

// degraded returns the conditions, each with what to do, and reports whether the node is ready: whether every route can
// be served as configured. Conditions that keep it from being ready come first.
//
// The state of upstreams and services doesn't count. A node answers requests for an upstream that is down better than
// no node would, and nodes that waited for one another's services would never become ready.
func (r *report) degraded() (conditions []string, ready bool) {
	var f conditionList
	for _, find := range r.conditions {
		find(&f)
	}
	return append(append([]string{}, f.blocking...), f.other...), len(f.blocking) == 0
}

// Journal returns the newest events of the node.
func (r *report) Journal(ctx context.Context) ([]admin.JournalEntry, error) {
	return r.state.journal(ctx)
}

// RouteRates returns the current rates of each route, on this node.
func (r *report) RouteRates() []admin.RouteRates { return r.rates.routes() }

// Services returns the services that routes forward to or members serve, with their members anywhere in the mesh.
func (r *report) Services(ctx context.Context) admin.Services { return r.services.list(ctx) }

// conditionList collects degraded conditions. Those in blocking keep the node from being ready.
type conditionList struct{ blocking, other []string }

// add adds a condition; an empty text is ignored.
func (f *conditionList) add(text string, blocks bool) {
	switch {
	case text == "":
	case blocks:
		f.blocking = append(f.blocking, text)
	default:
		f.other = append(f.other, text)
	}
}

// counts are those of the whole node. It implements admin.Counter.
type counts struct {
	report *report
	mesh   *meshConn
	cache  *cache
	limits *limits
	edge   *edgeServer
}

// Status returns the node's state and its degraded conditions.
func (c *counts) Status() admin.Status { return c.report.Status() }

// RouteStats returns the counts of each route.
func (c *counts) RouteStats() []edge.RouteStats { return c.edge.server.Stats() }

// CallStats returns the counts of the calls of each gather route.
func (c *counts) CallStats() []edge.RouteStats { return c.edge.server.CallStats() }

// MeshStats returns the counts of each service.
func (c *counts) MeshStats() []mesh.Stats { return c.mesh.conn.Stats() }

// CacheStats returns the cache's counts, and those of each route.
func (c *counts) CacheStats() (kvcache.Stats, []edgecache.Stats) {
	return c.cache.kv.Stats(), c.edge.server.CacheStats()
}

// LimitStats returns the limiter's counts, and those of each limit.
func (c *counts) LimitStats() (limit.Stats, []limit.RuleStats) {
	var rules []limit.RuleStats
	for _, r := range c.limits.limiter.Rules() {
		rules = append(rules, r.Stats())
	}
	return c.limits.limiter.Stats(), rules
}
