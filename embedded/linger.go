package embedded

import (
	"context"
	"time"
)

// quietFor is how long no request may come and none run until a node counts as one that nobody uses.
const quietFor = 250 * time.Millisecond

// Hurry lets a Shutdown, one that runs or the one to come, end its linger as soon as nobody uses the node. The linger
// is there for load balancers, which need time to see that a node goes away; a person who stops a node by hand needn't
// wait for them.
func (n *Node) Hurry() { n.hurryOnce.Do(func() { close(n.hurried) }) }

// linger waits until load balancers have seen that the node goes away.
func (n *Node) linger(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, n.opts.Config.Edge.Linger.Std())
	defer cancel()
	select {
	case <-ctx.Done():
	case <-n.hurried:
		n.awaitQuiet(ctx)
	}
}

// awaitQuiet waits until nobody uses the node.
func (n *Node) awaitQuiet(ctx context.Context) {
	tick := time.NewTicker(quietFor / 5)
	defer tick.Stop()
	served, since := n.served(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if s := n.served(); s != served || n.edge.InFlight() > 0 {
				served, since = s, now
			}
			if now.Sub(since) >= quietFor {
				return
			}
		}
	}
}

// served counts the responses since the start.
func (n *Node) served() (total uint64) {
	for _, r := range n.edge.Stats() {
		for _, count := range r.Classes {
			total += count
		}
	}
	return total
}

// Waiting is the number of requests that a Shutdown waits for: those that run, and, once it doesn't listen any more,
// those whose clients still send or read.
func (n *Node) Waiting() int {
	if n.edge == nil {
		return 0
	}
	if n.lingered.Load() {
		return max(n.edge.InFlight(), n.edge.Connections())
	}
	return n.edge.InFlight()
}
