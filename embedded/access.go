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

// Mesh returns the node's mesh connection, for Go programs that add services or send requests. It is nil before Open.
func (n *Node) Mesh() *mesh.Conn { return n.parts.mesh.conn }

// Cache returns the node's cache, for Go programs that store values of their own. It is nil before Open.
func (n *Node) Cache() *kvcache.Cache { return n.parts.cache.kv }

// Limits returns the node's limiter, for Go programs that take permits; its Rule method returns a configured limit by
// name. It is nil before Open.
func (n *Node) Limits() *limit.Limiter { return n.parts.limits.limiter }

// EdgeURL is the URL for HTTP clients. Call it after Open.
func (n *Node) EdgeURL() string { return n.parts.edge.url() }

// AdminURL is the URL of the admin API. Call it after Open.
func (n *Node) AdminURL() string { return n.parts.admin.url() }

// ClientURL is the URL for members. It holds the token: keep it secret. With mesh.url it is that. Call it after Open.
func (n *Node) ClientURL() string { return n.parts.nats.url() }

// Ready reports whether every route can be served as it is configured. Call it after Open.
func (n *Node) Ready() bool {
	_, ready := n.parts.report.degraded()
	return ready
}

// AwaitReady waits until the node is ready. If ctx ends first, it returns the error of ctx. Call it after Open.
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
			return ctx.Err()
		}
	}
}

// Status returns the node's state and its degraded conditions. Call it after Open.
func (n *Node) Status() admin.Status { return n.admin.Status.Status() }

// Journal returns the newest events of the node.
func (n *Node) Journal(ctx context.Context) ([]admin.JournalEntry, error) {
	return n.admin.Status.Journal(ctx)
}

// Routes returns the routes that are served now.
func (n *Node) Routes() []edge.RouteInfo { return n.admin.Routes.Routes() }

// Explain returns what would become of a request.
func (n *Node) Explain(method, target string, header mesh.Header) admin.Explanation {
	return n.admin.Routes.Explain(method, target, header)
}

// Purge makes stored responses invalid or, if req.Soft is set, stale. The error wraps admin.ErrPurge if req can't be
// understood.
func (n *Node) Purge(ctx context.Context, req admin.Purge) (admin.Purged, error) {
	return n.admin.Purges.Purge(ctx, req)
}

// CacheStats returns the cache's counts, and those of each route.
func (n *Node) CacheStats() (kvcache.Stats, []edgecache.Stats) { return n.admin.Metrics.CacheStats() }

// LimitStats returns the limiter's counts, and those of each limit.
func (n *Node) LimitStats() (limit.Stats, []limit.RuleStats) { return n.admin.Metrics.LimitStats() }

// LimitUsage returns what is known of a client's key, for the named limit, or for all if name is empty. The error wraps
// admin.ErrNoLimit if there is no such limit.
func (n *Node) LimitUsage(ctx context.Context, name, key string) ([]admin.LimitUsage, error) {
	return n.admin.Limits.LimitUsage(ctx, name, key)
}

// ResetLimit deletes what a client's key has used of the named limit, or of all if name is empty. It returns the names
// of the limits. The error wraps admin.ErrNoLimit if there is no such limit.
func (n *Node) ResetLimit(ctx context.Context, name, key string) ([]string, error) {
	return n.admin.Limits.ResetLimit(ctx, name, key)
}

// Tail passes the events of all nodes of the mesh to emit, until ctx ends or emit returns false.
func (n *Node) Tail(ctx context.Context, emit func(event []byte) bool) error {
	return n.admin.Tail.Tail(ctx, emit)
}
