package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"millrace/embedded/natsserver"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/state"
)

// clusterConfig says how the embedded server joins others; nil if it stands alone.
func (n *Node) clusterConfig(ctx context.Context) *natsserver.Cluster {
	c := n.opts.Config.Mesh.Cluster
	if !c.Enabled() {
		return nil
	}
	if !c.Listen.Loopback() {
		n.log.WarnContext(ctx, "the cluster listens beyond loopback without TLS: requests and the token travel in "+
			"clear; keep the network private", "address", string(c.Listen))
	}
	return clusterOf(&c)
}

func clusterOf(c *node.Cluster) *natsserver.Cluster {
	out := &natsserver.Cluster{Name: c.Name, Listen: string(c.Listen), Token: c.Token, Store: c.Store}
	for _, p := range c.Peers {
		out.Peers = append(out.Peers, string(p))
	}
	return out
}

// openNATSError names the key of the configuration that an error is about.
func openNATSError(err error) error {
	switch {
	case errors.Is(err, natsserver.ErrClusterPortInUse):
		return fmt.Errorf("open NATS (mesh.cluster.listen): %w", err)
	case errors.Is(err, natsserver.ErrNameInUse):
		return fmt.Errorf("open NATS (node.name): %w", err)
	case errors.Is(err, natsserver.ErrMode):
		return fmt.Errorf("open NATS (node.data, node.name, mesh.cluster): %w", err)
	}
	return fmt.Errorf("open NATS (mesh.listen): %w", err)
}

// openMembers makes this node known to the others, and them to it.
func (n *Node) openMembers(ctx context.Context) error {
	n.roles.Store(n.rolesOf(n.opts.Config))
	members := n.mesh.NewMembers(mesh.MembersConfig{
		Self: mesh.Member{
			ID: n.identity.ID, Name: n.opts.Config.Node.Name, Incarnation: n.started.UnixMicro(),
			Version: n.opts.Version, Started: n.started,
		},
		Changes: func() (int64, []string) { return n.revision.Load(), *n.roles.Load() },
		Event:   n.memberChanged,
	})
	if err := members.Open(ctx); err != nil {
		return fmt.Errorf("open members: %w", err)
	}
	n.members.Store(members)
	n.opened("members", members.Close)
	return nil
}

// rolesOf lists what the node does for the mesh with this configuration, of which only a restart applies all: whether
// it stores is decided by the one that it was started with.
func (n *Node) rolesOf(cfg node.Config) *[]string {
	roles := []string{"edge"}
	if m := n.opts.Config.Mesh; m.URL == "" && (!m.Cluster.Enabled() || m.Cluster.Store) {
		roles = append(roles, "store")
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		if !cfg.Upstreams[name].Remote {
			roles = append(roles, "upstream:"+name)
		}
	}
	return &roles
}

// memberChanged writes down what became of another node.
func (n *Node) memberChanged(e mesh.MemberEvent) {
	m := e.Member
	detail := fmt.Sprintf("%s (%s), version %s", m.Name, m.ID, m.Version)
	switch e.Kind {
	case mesh.EventDouble:
		n.log.Error("two processes run as one node: give each its own node.name and node.data", "name", m.Name,
			"id", m.ID)
	case mesh.EventLost:
		n.log.Warn("a node fell silent", "name", m.Name, "id", m.ID)
	case mesh.EventReplaced:
		n.log.Info("a node came back under another id, as with an empty data directory", "name", m.Name, "id", m.ID)
		detail += ": it came back under another id"
	default:
		n.log.Info("the mesh has changed", "event", e.Kind, "name", m.Name, "id", m.ID)
	}
	n.record(e.Kind, detail)
}

// joinTime is how long after its start a node waits for JetStream to be current before it counts as ready all the same:
// when other nodes are gone for good, the rest must serve what needs no storage.
const joinTime = 30 * time.Second

// storeCondition tells what is wrong with JetStream, and whether the node must not be used for it.
func (n *Node) storeCondition() (text string, blocks bool) {
	if n.nats == nil {
		return "", false
	}
	switch st := n.nats.JetStreamState(); st.Store {
	case natsserver.StoreDisabled:
		return "JetStream is off, most often because its disk was full: what is limited, purged or kept can't be " +
			"stored; the node opens it again when its disk can be written", false
	case natsserver.StoreJoining:
		waiting := !n.joined.Load() && n.starting()
		return joining(&st, n.nats.Missing()), waiting
	case natsserver.StoreCurrent:
		n.joined.Store(true)
	case natsserver.StoreRemote:
	}
	return "", false
}

// joining tells what a node waits for whose JetStream isn't current, and which peers don't answer.
func joining(st *natsserver.JetStreamState, missing []string) string {
	needs := "it needs more than half of the storing nodes, and all of them where data directories are empty"
	if st.Empty && st.Leader == "" { // nats-server lets servers without data elect a leader only when all are there
		needs = "the first start needs all storing nodes"
	}
	peers := "start those that are missing (mesh.cluster.peers)"
	if len(missing) > 0 {
		peers = "start those of mesh.cluster.peers that don't answer: " + strings.Join(missing, ", ")
	}
	return "JetStream isn't current: " + needs + "; " + peers
}

// clusterConditions lists what isn't as it should be with the other nodes. None of it keeps this one from serving.
func (n *Node) clusterConditions() []string {
	var out []string
	if n.nats != nil && n.opts.Config.Mesh.Cluster.Enabled() && n.nats.Routes() == 0 {
		out = append(out, "no other node of the cluster is connected: check that they run under other names, and "+
			"mesh.cluster.peers and token")
	}
	self := n.opts.Config.Node.Name
	for i, m := range n.members.Load().List() {
		if i > 0 && m.Name == self && m.State == mesh.MemberAlive {
			out = append(out, fmt.Sprintf("another node is named %s, with the id %s: set node.name of one of them",
				self, m.ID))
		}
		if m.State == mesh.MemberLost {
			out = append(out, fmt.Sprintf("node %s is lost, last heard %s ago: start it again; the others serve on",
				m.Name, time.Since(m.Seen).Round(time.Second)))
		}
	}
	return out
}

// recordStart writes the start into the journal, and whether the run before it ended as it should.
func (n *Node) recordStart(ctx context.Context) {
	before := ""
	switch last, err := n.state.LastEvent(ctx, "start", "stop", "start-failed"); {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		n.log.WarnContext(ctx, "journal not read", "cause", err)
	case last.Kind == "start":
		before = "; the run before wasn't shut down"
	}
	n.record("start", "version "+n.opts.Version+before)
}
