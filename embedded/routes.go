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

// cachedRoutes follow the purges as soon as a route caches.
type cachedRoutes struct {
	life  *lifecycle
	cache *cache
	edge  *edgeServer
	nodes *nodes

	followed atomic.Bool // the purges have been, since the start
}

// cacheWait is how long a node that is alone waits at its start for its own purges, which takes milliseconds, so that
// its first responses are kept.
const cacheWait = 2 * time.Second

// open lets the cache come up before the node says that it is ready, if a route needs it. Several nodes come up one by
// one: there readyz tells.
func (c *cachedRoutes) open(ctx context.Context) error {
	if err := c.use(ctx); err != nil {
		return err
	}
	if c.edge.server.Caches() && c.nodes.peers() == nil {
		ctx, cancel := context.WithTimeout(ctx, cacheWait)
		defer cancel()
		_ = c.cache.kv.Await(ctx) // without it responses are validated before use
	}
	return nil
}

// use begins to follow the purges if a route caches.
func (c *cachedRoutes) use(ctx context.Context) error {
	if !c.edge.server.Caches() {
		return nil
	}
	return c.cache.FollowPurges(ctx)
}

func (c *cachedRoutes) change(ctx context.Context, _ *node.Config, _ []node.Route) (warnings []string) {
	if err := c.use(ctx); err != nil {
		return []string{err.Error()}
	}
	return nil
}

// lostShown is for how long status tells that the log of purges was lost.
const lostShown = time.Hour

// conditions tells what is wrong with the cache. Without news of purges it serves as cache.offline says: right, if
// slower. At the start that is waited for, so that not every cached response is validated at once. A log of purges that
// was lost costs each cached response a fetch.
func (c *cachedRoutes) conditions(f *found) {
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

// limitedRoutes say whether requests can be limited as configured.
type limitedRoutes struct {
	life    *lifecycle
	limits  *limits
	edge    *edgeServer
	storage *storage

	asked atomic.Bool // the store could be, since the start
}

// limitsGrace is how long after its last write the store of limits may be away until the node isn't ready any more:
// longer than a new leader takes, for which all nodes wait at once, and for which no load balancer should take all of
// them out.
const limitsGrace = 10 * time.Second

// conditions tells what is wrong with the limits of routes.
func (l *limitedRoutes) conditions(f *found) {
	if !l.edge.server.Limits() {
		return
	}
	ready := l.limits.limiter.Ready()
	if ready {
		l.asked.Store(true)
	}
	blocks := !ready && l.block()
	for _, text := range l.limits.limiter.Conditions() {
		f.add(text, blocks)
	}
}

// block reports whether a store of limits that can't be asked keeps the node from being ready.
func (l *limitedRoutes) block() bool {
	switch ago, _ := l.limits.limiter.Written(); {
	case l.asked.Load():
		return l.needed() && (ago > limitsGrace || l.storage.failing())
	case l.needed():
		return true
	}
	return l.life.starting()
}

// needed reports whether a limit refuses requests while its store is away.
func (l *limitedRoutes) needed() bool {
	return slices.ContainsFunc(l.limits.limiter.Rules(), func(r *limit.Rule) bool {
		return r.Limit.StoreAway != node.StoreAwayOpen && !r.Limit.Shadow
	})
}
