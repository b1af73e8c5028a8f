package embedded

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"millrace/node"
)

// lifecycle records whether a node is starting, open or draining.
type lifecycle struct {
	started  time.Time   // set before the first part opens
	open     atomic.Bool // every part has been opened
	draining atomic.Bool // the node shuts down, or has closed
}

// joinTime is how long after its start a node waits for JetStream to be current. After that it counts as ready without
// it: if other nodes are gone for good, the rest must serve what needs no storage.
const joinTime = 30 * time.Second

// starting reports whether joinTime hasn't passed yet. Until then conditions that usually resolve by themselves keep
// the node from being ready.
func (l *lifecycle) starting() bool { return time.Since(l.started) < joinTime }

func (l *lifecycle) conditions(f *conditionList) {
	if l.draining.Load() {
		f.add("the node is shutting down: send requests to another", true)
	}
}

// idleFor is how long no request may arrive or run before the node counts as idle.
const idleFor = 250 * time.Millisecond

// linger delays the end of listening, so that load balancers notice that the node goes away.
type linger struct {
	cfg  *node.Config
	edge *edgeServer

	idleEnds chan struct{} // closed by endWhenIdle
	once     sync.Once     // guards the close of idleEnds
	over     atomic.Bool   // the node has stopped listening, or is about to
}

// endWhenIdle implements Node.EndLingerWhenIdle.
func (l *linger) endWhenIdle() { l.once.Do(func() { close(l.idleEnds) }) }

// shutdown makes each response close its connection, and waits for the linger.
func (l *linger) shutdown(ctx context.Context) error {
	l.edge.server.Drain()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Edge.Linger.Std())
	defer cancel()
	select {
	case <-ctx.Done():
	case <-l.idleEnds:
		l.awaitIdle(ctx)
	}
	l.over.Store(true)
	return nil
}

// awaitIdle waits until the node has been idle for idleFor, or ctx ends.
func (l *linger) awaitIdle(ctx context.Context) {
	tick := time.NewTicker(idleFor / 5)
	defer tick.Stop()
	served, since := l.edge.served(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if s := l.edge.served(); s != served || l.edge.server.InFlight() > 0 {
				served, since = s, now
			}
			if now.Sub(since) >= idleFor {
				return
			}
		}
	}
}

// waiting implements Node.Waiting.
func (l *linger) waiting() int {
	server := l.edge.server
	switch {
	case server == nil:
		return 0
	case l.over.Load():
		return max(server.InFlight(), server.Connections())
	}
	return server.InFlight()
}
