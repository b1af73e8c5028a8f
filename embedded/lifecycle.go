package embedded

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"millrace/node"
)

// lifecycle is where a node stands between its start and its end.
type lifecycle struct {
	started  time.Time   // set before the first part opens
	open     atomic.Bool // every part has been opened
	draining atomic.Bool // the node ends, or has ended
}

// joinTime is how long after its start a node waits for JetStream to be current before it counts as ready all the same:
// when other nodes are gone for good, the rest must serve what needs no storage.
const joinTime = 30 * time.Second

// starting reports whether the node still waits for what comes by itself when a mesh starts, and won't where other
// nodes are gone for good.
func (l *lifecycle) starting() bool { return time.Since(l.started) < joinTime }

func (l *lifecycle) conditions(f *found) {
	if l.draining.Load() {
		f.add("the node is shutting down: send requests to another", true)
	}
}

// quietFor is how long no request may come and none run until a node counts as one that nobody uses.
const quietFor = 250 * time.Millisecond

// linger lets load balancers see that the node goes away, before it stops listening.
type linger struct {
	cfg  *node.Config
	edge *edgeServer

	hurried chan struct{} // closed by hurry
	once    sync.Once     // of hurry
	over    atomic.Bool   // the node has stopped listening, or is about to
}

// hurry is Node.Hurry.
func (l *linger) hurry() { l.once.Do(func() { close(l.hurried) }) }

// shutdown lets each response end its connection, and waits until load balancers have seen that the node goes away.
func (l *linger) shutdown(ctx context.Context) error {
	l.edge.server.Drain()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Edge.Linger.Std())
	defer cancel()
	select {
	case <-ctx.Done():
	case <-l.hurried:
		l.awaitQuiet(ctx)
	}
	l.over.Store(true)
	return nil
}

// awaitQuiet waits until nobody uses the node.
func (l *linger) awaitQuiet(ctx context.Context) {
	tick := time.NewTicker(quietFor / 5)
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
			if now.Sub(since) >= quietFor {
				return
			}
		}
	}
}

// waiting is Node.Waiting.
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
