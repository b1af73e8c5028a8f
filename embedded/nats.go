package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"

	"millrace/embedded/natsserver"
	"millrace/kvcache/limit"
	"millrace/node"
)

// natsServer is the embedded NATS server. With mesh.url there is none.
type natsServer struct {
	cfg   *node.Config
	log   *slog.Logger
	life  *lifecycle
	state *stateFile

	server *natsserver.Server // nil before open and with mesh.url
	joined atomic.Bool        // JetStream has been current, or the hub connected, since the start
	hub    hubWatch           // when the hub of a leaf was lost
}

func (s *natsServer) open(ctx context.Context) error {
	m := s.cfg.Mesh
	if m.URL != "" {
		return nil
	}
	token := m.Token
	if token == "" {
		var err error
		if token, err = s.state.store.Secret(ctx, "mesh-token"); err != nil {
			return fmt.Errorf("make the member token: %w", err)
		}
	}
	if !m.Listen.Loopback() {
		s.log.WarnContext(ctx, "NATS listens beyond loopback without TLS: the token travels in clear; keep the "+
			"network private", "address", string(m.Listen))
	}
	server, err := natsserver.New(natsserver.Config{
		Name: s.cfg.Node.Name, Dir: filepath.Join(s.cfg.Node.Data, "jetstream"), Listen: string(m.Listen),
		MemberToken: token, MemberSubjects: plainSubjects(s.cfg.Routes), Log: s.log,
		Cluster: s.cluster(ctx), Leaf: leafOf(&m), Leafs: s.leafs(ctx),
		Rebuilt: []string{limit.StreamName(meshPrefix(m))},
		Refused: newRefusals(s.log, s.state.record).report,
	})
	if err != nil {
		return fmt.Errorf("configure NATS: %w", err)
	}
	if err := server.Open(ctx); err != nil {
		return openNATSError(err)
	}
	s.server = server
	return nil
}

func (s *natsServer) close() error {
	if s.server == nil {
		return nil
	}
	return s.server.Close()
}

// cluster returns how the server joins the others; nil if it stands alone.
func (s *natsServer) cluster(ctx context.Context) *natsserver.Cluster {
	c := s.cfg.Mesh.Cluster
	if !c.Enabled() {
		return nil
	}
	if !c.Listen.Loopback() {
		s.log.WarnContext(ctx, "the cluster listens beyond loopback without TLS: requests and the token travel in "+
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

// openNATSError adds the configuration key that an error is about.
func openNATSError(err error) error {
	switch {
	case errors.Is(err, natsserver.ErrClusterPortInUse):
		return fmt.Errorf("open NATS (mesh.cluster.listen): %w", err)
	case errors.Is(err, natsserver.ErrLeafsPortInUse):
		return fmt.Errorf("open NATS (mesh.leafs.listen): %w", err)
	case errors.Is(err, natsserver.ErrNameInUse):
		return fmt.Errorf("open NATS (node.name): %w", err)
	case errors.Is(err, natsserver.ErrMode):
		return fmt.Errorf("open NATS (node.data, node.name, mesh.cluster): %w", err)
	}
	return fmt.Errorf("open NATS (mesh.listen): %w", err)
}

// plainSubjects lists the subjects of nats: routes. Members may serve these besides http.>.
func plainSubjects(routes []node.Route) []string {
	var out []string
	for _, r := range routes {
		if to := r.Origin(); to.Kind == node.KindNATS {
			out = append(out, to.Subject.Wildcard())
		}
	}
	return out
}

func (s *natsServer) change(_ context.Context, cfg *node.Config, _ []node.Route) (warnings []string) {
	if s.server != nil {
		s.server.SetMemberSubjects(plainSubjects(cfg.Routes))
	}
	return nil
}

// url is the URL for members, with the token; with mesh.url it is that.
func (s *natsServer) url() string {
	if s.server == nil {
		return s.cfg.Mesh.URL
	}
	return s.server.ClientURL()
}

// servers is the number of NATS servers in the mesh; 0 if this node can't know it.
func (s *natsServer) servers() int {
	if s.server == nil {
		return 0
	}
	return 1 + s.server.Routes()
}

// current reports whether JetStream runs in this process and is current.
func (s *natsServer) current() bool {
	return s.server != nil && s.server.Store() == natsserver.StoreCurrent
}

// yieldLimits gives up the leadership of the limits' stream. The limiter calls it while this node's clock is off.
func (s *natsServer) yieldLimits() {
	if s.server == nil {
		return
	}
	if err := s.server.YieldStream(limit.StreamName(meshPrefix(s.cfg.Mesh))); err != nil {
		s.log.Warn("the stream of limits stays with this node, whose clock is off", "cause", err)
	}
}

// conditions reports that JetStream is off, or not current.
func (s *natsServer) conditions(f *conditionList) {
	if s.server == nil {
		return
	}
	if s.cfg.Mesh.Leaf != nil {
		s.hubCondition(f)
	}
	switch st := s.server.JetStreamState(); st.Store {
	case natsserver.StoreDisabled:
		f.add("JetStream is off, most often because its disk was full: what is limited, purged or kept can't be "+
			"stored; the node opens it again when its disk can be written", false)
	case natsserver.StoreJoining:
		waiting := !s.joined.Load() && s.life.starting()
		f.add(joiningCondition(&st, s.server.Missing()), waiting)
	case natsserver.StoreCurrent:
		s.joined.Store(true)
	case natsserver.StoreRemote:
	}
}

// joiningCondition says what a node waits for whose JetStream isn't current, and which peers don't answer.
func joiningCondition(st *natsserver.JetStreamState, missing []string) string {
	needs := "it needs more than half of the storing nodes, and all of them where data directories are empty"
	// nats-server elects a leader among servers without data only when all of them are connected.
	if st.Empty && st.Leader == "" {
		needs = "the first start needs all storing nodes"
	}
	peers := "start those that are missing (mesh.cluster.peers)"
	if len(missing) > 0 {
		peers = "start those of mesh.cluster.peers that don't answer: " + strings.Join(missing, ", ")
	}
	return "JetStream isn't current: " + needs + "; " + peers
}
