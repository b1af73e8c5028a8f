package embedded

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"millrace/kvcache/limit"
	"millrace/node"
)

// cachedRoutes follows the purges as soon as a route caches.
type cachedRoutes struct {
	life  *lifecycle
	cache *cache
	edge  *edgeServer
	nodes *nodes

	followed atomic.Bool // the purges were followed at some time since the start
}

// cacheWait bounds the wait of a node that stands alone for its cache and its limits' store at the start. That takes
// milliseconds; then the first responses can be stored.
const cacheWait = 2 * time.Second

// open waits for the cache if a route needs it and there are no other nodes. In a cluster nodes start one after
// another; there readyz reports that the cache isn't ready.
func (c *cachedRoutes) open(ctx context.Context) error {
	if err := c.followPurges(ctx); err != nil {
		return err
	}
	if c.edge.server.Caches() && c.nodes.alone() {
		ctx, cancel := context.WithTimeout(ctx, cacheWait)
		defer cancel()
		_ = c.cache.kv.Await(ctx) // until it is ready, responses are validated before use
	}
	return nil
}

// followPurges starts to follow the purges if a route caches.
func (c *cachedRoutes) followPurges(ctx context.Context) error {
	if !c.edge.server.Caches() && c.nodes.opts.Config.Mesh.Leafs == nil { // leafs can't make the log
		return nil
	}
	return c.cache.FollowPurges(ctx)
}

func (c *cachedRoutes) change(ctx context.Context, _ *node.Config, _ []node.Route) (warnings []string) {
	if err := c.followPurges(ctx); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// lostShown is how long status reports that the log of purges was lost.
const lostShown = time.Hour

// conditions reports what is wrong with the cache.
//
// Without news of purges the cache serves as cache.offline says, which is correct but slower. At the start this keeps
// the node from being ready, so that it doesn't validate every cached response at once. After the log of purges was
// lost, each cached response must be fetched again.
func (c *cachedRoutes) conditions(f *conditionList) {
	if !c.edge.server.Caches() || c.cache.kv.Leased() {
		c.followed.Store(true)
	} else {
		f.add("this node can't hear of purges: cached responses are validated with their origin before use; JetStream "+
			"must be current", c.life.starting() && !c.followed.Load())
	}
	at := c.cache.purgesLost.Load()
	if at == nil || time.Since(*at) > lostShown || !c.edge.server.Caches() {
		return
	}
	f.add(fmt.Sprintf("the log of purges was lost %s ago, and all that was cached with it (see the log): "+
		"look for files that were deleted or damaged below the data directory's jetstream",
		time.Since(*at).Round(time.Second)), false)
}

// limitedRoutes reports whether requests can be limited as configured.
type limitedRoutes struct {
	life    *lifecycle
	limits  *limits
	edge    *edgeServer
	storage *storage

	storeAsked atomic.Bool // the store was ready at some time since the start
}

// limitsGrace is how long after its last write the limits' store may be away before the node isn't ready. It is longer
// than the election of a new leader. All nodes wait for that at the same time, and no load balancer should remove all
// of them.
const limitsGrace = 10 * time.Second

// conditions reports what is wrong with the limits of routes.
func (l *limitedRoutes) conditions(f *conditionList) {
	if !l.edge.server.Limits() {
		return
	}
	ready := l.limits.limiter.Ready()
	if ready {
		l.storeAsked.Store(true)
	}
	blocks := !ready && l.blocksReady()
	for _, text := range l.limits.limiter.Conditions() {
		f.add(text, blocks)
	}
}

// blocksReady reports whether the missing store keeps the node from being ready.
func (l *limitedRoutes) blocksReady() bool {
	switch ago, _ := l.limits.limiter.Written(); {
	case l.storeAsked.Load():
		return l.refusesWhenAway() && (ago > limitsGrace || l.storage.failing())
	case l.refusesWhenAway():
		return true
	}
	return l.life.starting()
}

// refusesWhenAway reports whether some limit refuses requests while its store is away.
func (l *limitedRoutes) refusesWhenAway() bool {
	return slices.ContainsFunc(l.limits.limiter.Rules(), func(r *limit.Rule) bool {
		return r.Limit.StoreAway != node.StoreAwayOpen && !r.Limit.Shadow
	})
}
