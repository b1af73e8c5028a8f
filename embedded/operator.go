package embedded

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/embedded/natsserver"
	"millrace/mesh"
	"millrace/node"
)

// journalShown is how many events status shows.
const journalShown = 20

// tailBuffer bounds the events that wait for a slow reader; more are dropped.
const tailBuffer = 1024

// Status tells what the node is and what isn't as it should be. Call it after Open.
func (n *Node) Status() admin.Status {
	st := admin.Status{
		Node: n.opts.Config.Node.Name, ID: n.identity.ID, Version: n.opts.Version, Started: n.started,
		Revision: n.revision.Load(),
		Edge:     n.EdgeURL(), InFlight: n.edge.InFlight(), Connections: n.edge.Connections(),
		RefusedConnections: n.edge.RefusedConnections(),
		Refused:            n.edge.RefusedRequests(), Buffered: n.edge.Buffered(), Streams: n.mesh.Streams(),
		Upstreams: n.upstreams.Status(), Nodes: n.members.Load().List(),
		RefusedReload: n.refused.Load(), NeedsRestart: []string{},
	}
	if waiting := n.waiting.Load(); waiting != nil {
		st.NeedsRestart = *waiting
	}
	cache := n.cache.Stats()
	st.Cache = admin.CacheStatus{
		Ready: cache.Ready, Entries: cache.Entries, MemoryBytes: cache.MemoryBytes, MemoryMax: cache.MemoryMax,
		BucketBytes: cache.BucketBytes,
		BucketMax:   cache.BucketMax, Purges: cache.Purges,
	}
	st.Disk = n.diskStatus()
	st.Degraded, st.Ready = n.conditions()
	if n.nats != nil {
		st.NATS, st.JetStream = "nats://"+node.Address(n.nats.Addr()).Dial(), string(n.nats.Store())
	} else {
		st.NATS, st.JetStream = n.mesh.NATS().ConnectedUrlRedacted(), string(natsserver.StoreRemote)
	}
	return st
}

// Journal lists the newest events in the node's life.
func (n *Node) Journal(ctx context.Context) ([]admin.JournalEntry, error) {
	events, err := n.state.Events(ctx, journalShown)
	if err != nil {
		return nil, fmt.Errorf("read the journal: %w", err)
	}
	out := make([]admin.JournalEntry, 0, len(events))
	for _, e := range events {
		out = append(out, admin.JournalEntry{Time: e.Time, Kind: e.Kind, Detail: e.Detail})
	}
	return out, nil
}

// Routes lists the routes that are served now.
func (n *Node) Routes() []edge.RouteInfo { return n.edge.Routes() }

// RouteStats gives the counts of every route.
func (n *Node) RouteStats() []edge.RouteStats { return n.edge.Stats() }

// CallStats gives the counts of the calls of every route that gathers.
func (n *Node) CallStats() []edge.RouteStats { return n.edge.CallStats() }

// MeshStats gives the counts of every service.
func (n *Node) MeshStats() []mesh.Stats { return n.mesh.Stats() }

// Tail passes on the events of every node of the mesh until ctx ends or emit returns false.
func (n *Node) Tail(ctx context.Context, emit func(event []byte) bool) error {
	events := make(chan *nats.Msg, tailBuffer) // NATS drops what doesn't fit; the subscription's end stops the sender
	for _, subject := range [...]string{edge.TailSubject, "event.limit.>"} {
		sub, err := n.mesh.NATS().ChanSubscribe(meshPrefix(n.opts.Config.Mesh)+subject, events)
		if err != nil {
			return fmt.Errorf("subscribe to events: %w", err)
		}
		defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case msg := <-events:
			if !emit(msg.Data) {
				return nil
			}
		}
	}
}
