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

// report says what the node is, and what isn't as it should be. It is admin.Reporter.
type report struct {
	opts     *Options
	life     *lifecycle
	state    *stateFile
	rates    *rates
	services *services

	conditions []func(*found)        // of the parts, in the order in which they are told
	statuses   []func(*admin.Status) // likewise, each with fields of its own
}

// Status tells what the node is and what isn't as it should be.
func (r *report) Status() admin.Status {
	st := admin.Status{Node: r.opts.Config.Node.Name, Version: r.opts.Version, Started: r.life.started}
	for _, fill := range r.statuses {
		fill(&st)
	}
	st.Degraded, st.Ready = r.degraded()
	return st
}

// degraded lists what isn't as it should be, each with what to do, and reports whether the node is ready all the same:
// whether every route can be served as it is configured. The state of upstreams and services isn't part of it: a node
// whose upstream is down still answers for it better than no node, and nodes that waited for one another's would never
// come up.
func (r *report) degraded() (conditions []string, ready bool) {
	var f found
	for _, find := range r.conditions {
		find(&f)
	}
	return append(append([]string{}, f.blocking...), f.other...), len(f.blocking) == 0
}

// Journal lists the newest events in the node's life.
func (r *report) Journal(ctx context.Context) ([]admin.JournalEntry, error) {
	return r.state.journal(ctx)
}

// RouteRates says what each route does of late, on this node.
func (r *report) RouteRates() []admin.RouteRates { return r.rates.routes() }

// Services lists the services that routes ask or members serve, with their members anywhere in the mesh.
func (r *report) Services(ctx context.Context) admin.Services { return r.services.list(ctx) }

// found gathers what isn't as it should be.
type found struct{ blocking, other []string }

// add notes a condition; an empty text is none.
func (f *found) add(text string, blocks bool) {
	switch {
	case text == "":
	case blocks:
		f.blocking = append(f.blocking, text)
	default:
		f.other = append(f.other, text)
	}
}

// counts are those of the whole node. It is admin.Counter.
type counts struct {
	report *report
	mesh   *meshConn
	cache  *cache
	limits *limits
	edge   *edgeServer
}

// Status tells what the node is and what isn't as it should be.
func (c *counts) Status() admin.Status { return c.report.Status() }

// RouteStats gives the counts of every route.
func (c *counts) RouteStats() []edge.RouteStats { return c.edge.server.Stats() }

// CallStats gives the counts of the calls of every route that gathers.
func (c *counts) CallStats() []edge.RouteStats { return c.edge.server.CallStats() }

// MeshStats gives the counts of every service.
func (c *counts) MeshStats() []mesh.Stats { return c.mesh.conn.Stats() }

// CacheStats gives what the cache holds and has done.
func (c *counts) CacheStats() (kvcache.Stats, []edgecache.Stats) {
	return c.cache.kv.Stats(), c.edge.server.CacheStats()
}

// LimitStats gives what the limiter holds and has done, and the counts of every limit.
func (c *counts) LimitStats() (limit.Stats, []limit.RuleStats) {
	var rules []limit.RuleStats
	for _, r := range c.limits.limiter.Rules() {
		rules = append(rules, r.Stats())
	}
	return c.limits.limiter.Stats(), rules
}
