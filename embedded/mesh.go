package embedded

import (
	"context"
	"fmt"
	"log/slog"

	"millrace/edge/admin"
	"millrace/embedded/natsserver"
	"millrace/mesh"
	"millrace/node"
)

// meshConn is the node's connection to the mesh.
type meshConn struct {
	cfg  *node.Config
	log  *slog.Logger
	nats *natsServer

	conn *mesh.Conn // nil before open
}

func (c *meshConn) open(ctx context.Context) error {
	m := c.cfg.Mesh
	cfg := mesh.Config{Name: c.cfg.Node.Name, URL: m.URL, Prefix: m.Prefix, Local: m.Local, Log: c.log}
	cfg.Leaf = m.Leaf != nil
	if server := c.nats.server; server != nil {
		cfg.InProcess, cfg.Interest = server, server
		cfg.User, cfg.Password = server.NodeCredential()
	}
	conn, err := mesh.New(cfg)
	if err != nil {
		return fmt.Errorf("configure mesh: %w", err)
	}
	if err := conn.Open(ctx); err != nil {
		return fmt.Errorf("open mesh (mesh.url): %w", err)
	}
	c.conn = conn
	if c.nats.server != nil {
		c.nats.server.OnGone(conn.MembersGone)
	}
	if m.URL != "" {
		if err := conn.Check(ctx); err != nil {
			return fmt.Errorf("open mesh (mesh.url): %w", err)
		}
	}
	return nil
}

func (c *meshConn) close() error {
	if c.conn == nil {
		return nil
	}
	return c.conn.Close()
}

func (c *meshConn) conditions(f *conditionList) {
	if !c.conn.Up() {
		f.add("the mesh connection is away: check that NATS runs and is reachable; the node reconnects by itself", true)
	}
}

func (c *meshConn) status(st *admin.Status) {
	st.Streams = c.conn.Streams()
	if server := c.nats.server; server != nil {
		st.NATS, st.JetStream = "nats://"+node.Address(server.Addr()).Dial(), string(server.Store())
	} else {
		st.NATS, st.JetStream = c.conn.NATS().ConnectedUrlRedacted(), string(natsserver.StoreRemote)
	}
}

// meshPrefix is the prefix of the mesh's subjects, with its final dot; "" without one.
func meshPrefix(m node.Mesh) string {
	if m.Prefix == "" {
		return ""
	}
	return m.Prefix + "."
}

// replicas is 3 if at least three nodes store, else 1. Only the list of a cluster's peers says how many store.
func replicas(m *node.Mesh) int {
	if m.Cluster.Enabled() && len(m.Cluster.Peers) >= 3 {
		return 3
	}
	return 1
}
