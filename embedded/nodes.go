package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"millrace/edge/admin"
	edgecache "millrace/edge/cache"
	"millrace/mesh"
	"millrace/node"
)

// nodes are the nodes of the mesh, this one included. It implements edgecache.Peers.
type nodes struct {
	opts  *Options
	log   *slog.Logger
	life  *lifecycle
	state *stateFile
	nats  *natsServer
	mesh  *meshConn

	known atomic.Pointer[mesh.Members] // nil before open; the edge opens earlier and may read it
	roles atomic.Pointer[[]string]     // of this node, as announced to the others
}

// The roles of nodes that serve clients.
const (
	roleEdge = "edge"
	roleLeaf = "leaf"
)

// open announces this node to the others and starts to track them.
func (n *nodes) open(ctx context.Context) error {
	n.roles.Store(n.rolesOf(&n.opts.Config))
	known := n.mesh.conn.NewMembers(mesh.MembersConfig{
		Self: mesh.Member{
			ID: n.state.identity.ID, Name: n.opts.Config.Node.Name, Incarnation: n.life.started.UnixMicro(),
			Version: n.opts.Version, Started: n.life.started,
		},
		Changes: func() (int64, []string) { return n.state.revision.Load(), *n.roles.Load() },
		Event:   n.changed,
	})
	if err := known.Open(ctx); err != nil {
		return fmt.Errorf("open members: %w", err)
	}
	n.known.Store(known)
	return nil
}

func (n *nodes) close() error {
	if known := n.known.Load(); known != nil {
		return known.Close()
	}
	return nil
}

// rolesOf returns the roles of this node under a configuration. Whether it stores changes only with a restart, so that
// comes from the configuration at the start.
func (n *nodes) rolesOf(cfg *node.Config) *[]string {
	started := n.opts.Config.Mesh
	roles := []string{roleEdge}
	if started.Leaf != nil { // the others don't fetch by way of a node that is far away
		roles[0] = roleLeaf
	}
	if started.Stores() {
		roles = append(roles, "store")
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		if !cfg.Upstreams[name].Remote {
			roles = append(roles, "upstream:"+name)
		}
	}
	return &roles
}

func (n *nodes) change(_ context.Context, cfg *node.Config, _ []node.Route) (warnings []string) {
	n.roles.Store(n.rolesOf(cfg))
	return nil
}

// announce sends the current roles and revision to the others at once.
func (n *nodes) announce() { n.known.Load().Announce() }

// Alive returns the nodes that are alive and no leafs, this one included; none before open.
func (n *nodes) Alive() []string {
	known := n.known.Load()
	if known == nil {
		return nil
	}
	return known.Alive(roleEdge)
}

// Seen returns when a node was last heard of; the zero time before open.
func (n *nodes) Seen(node string) time.Time {
	known := n.known.Load()
	if known == nil {
		return time.Time{}
	}
	return known.Seen(node)
}

// peers returns the nodes that fetch for one another; nil if there can be no others. A leaf fetches for itself.
func (n *nodes) peers() edgecache.Peers {
	if m := n.opts.Config.Mesh; m.Alone() || m.Leaf != nil {
		return nil
	}
	return n
}

// alone reports whether the configuration allows no other nodes.
func (n *nodes) alone() bool { return n.opts.Config.Mesh.Alone() }

// holders is the number of nodes that may hold permits: at least 2, since a node that doesn't see the others, yet or
// any more, must still ask the store.
func (n *nodes) holders() int {
	const others = 2
	leafs := 0
	if known := n.known.Load(); known != nil {
		leafs = len(known.Alive(roleLeaf))
	}
	return max(len(n.Alive())+leafs, others)
}

// changed logs and records a change of another node's state.
func (n *nodes) changed(e mesh.MemberEvent) {
	other := e.Member
	detail := fmt.Sprintf("%s (%s), version %s", other.Name, other.ID, other.Version)
	switch e.Kind {
	case mesh.EventDouble:
		n.log.Error("two processes run as one node: give each its own node.name and node.data", "name", other.Name,
			"id", other.ID)
	case mesh.EventLost:
		n.log.Warn("a node fell silent", "name", other.Name, "id", other.ID)
	case mesh.EventReplaced:
		n.log.Info("a node came back under another id, as with an empty data directory", "name", other.Name,
			"id", other.ID)
		detail += ": it came back under another id"
	default:
		n.log.Info("the mesh has changed", "event", e.Kind, "name", other.Name, "id", other.ID)
	}
	n.state.record(e.Kind, detail)
}

// conditions reports what is wrong with the other nodes. None of it keeps this node from being ready.
func (n *nodes) conditions(f *conditionList) {
	if n.nats.server != nil && n.opts.Config.Mesh.Cluster.Enabled() && n.nats.server.Routes() == 0 {
		f.add("no other node of the cluster is connected: check that they run under other names, and "+
			"mesh.cluster.peers and token", false)
	}
	self := n.opts.Config.Node.Name
	for i, other := range n.known.Load().List() {
		if i > 0 && other.Name == self && other.State == mesh.MemberAlive {
			f.add(fmt.Sprintf("another node is named %s, with the id %s: set node.name of one of them", self,
				other.ID), false)
		}
		if other.State == mesh.MemberLost {
			f.add(fmt.Sprintf("node %s is lost, last heard %s ago: start it again; the others serve on", other.Name,
				time.Since(other.Seen).Round(time.Second)), false)
		}
	}
}

func (n *nodes) status(st *admin.Status) { st.Nodes = n.known.Load().List() }
