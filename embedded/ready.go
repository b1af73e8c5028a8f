package embedded

import (
	"context"
	"fmt"
	"slices"
	"time"

	"millrace/kvcache/limit"
	"millrace/node"
)

// Ready reports whether every route can be served as it is configured. Call it after Open.
func (n *Node) Ready() bool {
	_, ready := n.conditions()
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

// conditions lists what isn't as it should be, each with what to do, and reports whether the node is ready all the
// same: whether every route can be served as it is configured. The state of upstreams and services isn't part of it: a
// node whose upstream is down still answers for it better than no node, and nodes that waited for one another's would
// never come up.
func (n *Node) conditions() (degraded []string, ready bool) {
	var f found
	if n.draining.Load() {
		f.add("the node is shutting down: send requests to another", true)
	}
	if !n.mesh.Up() {
		f.add("the mesh connection is away: check that NATS runs and is reachable; the node reconnects by itself", true)
	}
	f.add(n.storeCondition())
	if n.storage != nil {
		n.storage.conditions(&f)
		f.add(n.roomCondition(), false)
	}
	if text := n.scarce.Load(); text != nil {
		f.add(*text, false)
	}
	f.add(n.cacheCondition())
	f.add(n.purgesCondition(), false)
	n.limitsConditions(&f)
	for _, text := range n.clusterConditions() {
		f.add(text, false)
	}
	if text := n.clockCondition(); text != "" {
		f.add(text, false)
	}
	if n.edge.Sheds() {
		f.add("the node sheds load: its processors can't follow; add nodes or processors", false)
	}
	if client, connections, ok := n.edge.Crowded(); ok {
		text := "more client connections than edge.max_connections and max_client_share allow: idle ones are closed, " +
			"others refused"
		if client != "" {
			text += fmt.Sprintf("; the most, %d, were of %s (if that is a proxy of yours, name it in "+
				"edge.trusted_proxies)",
				connections, client)
		}
		f.add(text, false)
	}
	if n.edge.Starved() {
		f.add("the system refuses further connections: raise the limit on open files, or lower edge.max_connections",
			false)
	}
	return append(append([]string{}, f.blocking...), f.other...), len(f.blocking) == 0
}

// starting reports whether the node still waits for what comes by itself when a mesh starts, and won't where other
// nodes are gone for good.
func (n *Node) starting() bool { return time.Since(n.started) < joinTime }

// cacheCondition tells what is wrong with the cache, and whether the node must not be used for it. Without news of
// purges it serves as cache.offline says: right, if slower. At the start that is waited for, so that not every cached
// response is validated at once.
func (n *Node) cacheCondition() (text string, blocks bool) {
	if !n.edge.Caches() || n.cache.Leased() {
		n.cached.Store(true)
		return "", false
	}
	return "this node can't hear of purges: cached responses are validated with their origin before use; JetStream " +
		"must be current", n.starting() && !n.cached.Load()
}

// limitsGrace is how long after its last write the store of limits may be away until the node isn't ready any more:
// longer than a new leader takes, for which all nodes wait at once, and for which no load balancer should take all of
// them out.
const limitsGrace = 10 * time.Second

// limitsConditions tells what is wrong with the limits of routes, and whether the node must not be used for it.
func (n *Node) limitsConditions(f *found) {
	if !n.edge.Limits() {
		return
	}
	ready := n.limits.Ready()
	if ready {
		n.limited.Store(true)
	}
	blocks := !ready && n.limitsBlock()
	for _, text := range n.limits.Conditions() {
		f.add(text, blocks)
	}
}

// limitsBlock reports whether a store of limits that can't be asked keeps the node from being ready.
func (n *Node) limitsBlock() bool {
	switch ago, _ := n.limits.Written(); {
	case n.limited.Load():
		return n.needsLimits() && (ago > limitsGrace || n.storage.failing())
	case n.needsLimits():
		return true
	}
	return n.starting()
}

// needsLimits reports whether a limit refuses requests while its store is away.
func (n *Node) needsLimits() bool {
	return slices.ContainsFunc(n.limits.Rules(), func(r *limit.Rule) bool {
		return r.Limit.StoreAway != node.StoreAwayOpen && !r.Limit.Shadow
	})
}
