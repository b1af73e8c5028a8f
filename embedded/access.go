package embedded

import (
	"context"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	edgecache "millrace/edge/cache"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
)

// Mesh gives the node's connection, for Go programs that add services or make requests. Nil before Open.
func (n *Node) Mesh() *mesh.Conn { return n.parts.mesh.conn }

// Cache gives the node's cache, for Go programs that keep values of their own in it. Nil before Open.
func (n *Node) Cache() *kvcache.Cache { return n.parts.cache.kv }

// Limits gives the node's limiter, for Go programs that have limits of their own: Rule gives one of the configuration
// by name. Nil before Open.
func (n *Node) Limits() *limit.Limiter { return n.parts.limits.limiter }

// EdgeURL is where HTTP clients connect. Call it after Open.
func (n *Node) EdgeURL() string { return n.parts.edge.url() }

// AdminURL is where the operator connects. Call it after Open.
func (n *Node) AdminURL() string { return n.parts.admin.url() }

// ClientURL is where members connect, token included: keep it secret. With mesh.url it is that. Call it after Open.
func (n *Node) ClientURL() string { return n.parts.nats.url() }

// Ready reports whether every route can be served as it is configured. Call it after Open.
func (n *Node) Ready() bool {
	_, ready := n.parts.report.degraded()
	return ready
}

// AwaitReady waits until the node is ready, or ctx ends. Call it after Open.
func (n *Node) AwaitReady(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if n.Ready() {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err() //nolint:wrapcheck // the caller's own
		}
	}
}

// Status tells what the node is and what isn't as it should be. Call it after Open.
func (n *Node) Status() admin.Status { return n.pages.Status.Status() }

// Journal lists the newest events in the node's life.
func (n *Node) Journal(ctx context.Context) ([]admin.JournalEntry, error) {
	return n.pages.Status.Journal(ctx)
}

// Routes lists the routes that are served now.
func (n *Node) Routes() []edge.RouteInfo { return n.pages.Routes.Routes() }

// Explain says what would become of a request.
func (n *Node) Explain(method, target string, header mesh.Header) admin.Explanation {
	return n.pages.Routes.Explain(method, target, header)
}

// Purge makes stored responses invalid, or stale if it is soft. The error is admin.ErrPurge for one that can't be
// understood.
func (n *Node) Purge(ctx context.Context, req admin.Purge) (admin.Purged, error) {
	return n.pages.Purges.Purge(ctx, req)
}

// CacheStats gives what the cache holds and has done, and its counts by route.
func (n *Node) CacheStats() (kvcache.Stats, []edgecache.Stats) { return n.pages.Metrics.CacheStats() }

// LimitStats gives what the limiter holds and has done, and the counts of every limit.
func (n *Node) LimitStats() (limit.Stats, []limit.RuleStats) { return n.pages.Metrics.LimitStats() }

// LimitUsage says what is known of a client's key, for one limit or for all if name is empty. The error is
// admin.ErrNoLimit if there is none of the name.
func (n *Node) LimitUsage(ctx context.Context, name, key string) ([]admin.LimitUsage, error) {
	return n.pages.Limits.LimitUsage(ctx, name, key)
}

// ResetLimit makes it as if a client's key had asked for nothing, for one limit or for all if name is empty. It names
// the limits. The error is admin.ErrNoLimit if there is none of the name.
func (n *Node) ResetLimit(ctx context.Context, name, key string) ([]string, error) {
	return n.pages.Limits.ResetLimit(ctx, name, key)
}

// Tail passes on the events of every node of the mesh until ctx ends or emit returns false.
func (n *Node) Tail(ctx context.Context, emit func(event []byte) bool) error {
	return n.pages.Tail.Tail(ctx, emit)
}
