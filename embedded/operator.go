package embedded

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

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
		Node: n.opts.Config.Node.Name, ID: n.identity.ID, Version: n.opts.Version, Started: n.started, Revision: n.revision.Load(),
		Edge: n.EdgeURL(), InFlight: n.edge.InFlight(), Connections: n.edge.Connections(), RefusedConnections: n.edge.RefusedConnections(),
		Refused: n.edge.RefusedRequests(), Buffered: n.edge.Buffered(), Streams: n.mesh.Streams(), Upstreams: n.upstreams.Status(), Members: n.members.List(),
	}
	cache := n.cache.Stats()
	st.Cache = admin.CacheStatus{
		Ready: cache.Ready, Entries: cache.Entries, MemoryBytes: cache.MemoryBytes, MemoryMax: cache.MemoryMax, BucketBytes: cache.BucketBytes,
		BucketMax: cache.BucketMax, Purges: cache.Purges,
	}
	st.Degraded, st.Ready = n.conditions()
	if n.nats != nil {
		st.NATS, st.JetStream = "nats://"+node.Address(n.nats.Addr()).Dial(), string(n.nats.Store())
	} else {
		st.NATS, st.JetStream = n.mesh.NATS().ConnectedUrlRedacted(), string(natsserver.StoreRemote)
	}
	return st
}

// conditions lists what isn't as it should be, each with what to do, and tells whether the node is ready all the same.
// The state of upstreams isn't part of it: a node whose upstream is down still answers for it better than no node.
func (n *Node) conditions() (degraded []string, ready bool) {
	blocking := []string{}
	if n.draining.Load() {
		blocking = append(blocking, "the node is shutting down: send requests to another")
	}
	if !n.mesh.Up() {
		blocking = append(blocking, "the mesh connection is away: check that NATS runs and is reachable; the node reconnects by itself")
	}
	other := n.clusterConditions()
	if n.nats != nil {
		if text, blocks := n.storeCondition(); blocks {
			blocking = append(blocking, text)
		} else if text != "" {
			other = append(other, text)
		}
	}
	if n.edge.Caches() && !n.cache.Leased() {
		const text = "this node can't hear of purges: cached responses are validated with their origin before use; JetStream must be current"
		if time.Since(n.started) < joinTime && !n.cached.Load() {
			blocking = append(blocking, text)
		} else {
			other = append(other, text)
		}
	} else {
		n.cached.Store(true)
	}
	if n.edge.Limits() {
		other = append(other, n.limits.Conditions()...)
	}
	if n.edge.Sheds() {
		other = append(other, "the node sheds load: its processors can't follow; add nodes or processors")
	}
	if n.edge.Starved() {
		other = append(other, "the system refuses further connections: raise the limit on open files, or lower edge.max_connections")
	}
	return append(blocking, other...), len(blocking) == 0
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

// Explain says what would become of a request.
func (n *Node) Explain(method, target string, header mesh.Header) admin.Explanation {
	e := admin.Explanation{Explanation: n.edge.Explain(method, target, header)}
	for _, u := range n.upstreams.Status() {
		if slices.Contains(e.Asked(), "upstream:"+u.Name) {
			if len(e.Calls) == 0 { // calls have paths and hosts of their own
				asked := e.Path
				if i := strings.IndexByte(e.Asks, '/'); i >= 0 { // behind the host
					asked = e.Asks[i:]
				}
				u.Next = n.upstreams.Foresee(u.Name, &mesh.Request{Method: method, Target: asked, Header: header})
			}
			e.Upstreams = append(e.Upstreams, u)
		}
	}
	return e
}

// RouteStats gives the counts of every route.
func (n *Node) RouteStats() []edge.RouteStats { return n.edge.Stats() }

// CallStats gives the counts of the calls of every route that gathers.
func (n *Node) CallStats() []edge.RouteStats { return n.edge.CallStats() }

// MeshStats gives the counts of every service.
func (n *Node) MeshStats() []mesh.Stats { return n.mesh.Stats() }

// Tail passes on the events of every node of the mesh until ctx ends or emit returns false.
func (n *Node) Tail(ctx context.Context, emit func(event []byte) bool) error {
	events := make(chan *nats.Msg, tailBuffer) // NATS drops what doesn't fit; the subscription's end stops the sender
	sub, err := n.mesh.NATS().ChanSubscribe(meshPrefix(n.opts.Config.Mesh)+"event.>", events)
	if err != nil {
		return fmt.Errorf("subscribe to events: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
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
