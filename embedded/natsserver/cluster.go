package natsserver

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// Cluster configures how a server joins others.
type Cluster struct {
	Name   string
	Listen string   // host:port for the other servers
	Peers  []string // host:port of the servers that store; this one may be among them
	Token  string   // secret among the servers; may be empty on loopback
	Store  bool     // this server runs JetStream
}

// check refuses an address without a fixed port. The other servers couldn't know such a port, and nats-server would run
// without the cluster: JetStream would stand alone in a directory that is marked as the cluster's.
func (c *Cluster) check() error {
	_, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("cluster address: %w", err)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("cluster address %s: name a port that the other servers know", c.Listen)
	}
	return nil
}

// stores reports whether this server runs JetStream.
func (s *Server) stores() bool { return s.cfg.stores() }

func (c *Config) stores() bool { return c.Leaf == nil && (c.Cluster == nil || c.Cluster.Store) }

// A server that vanished without closing its connections is noticed after three times routePing, since two pings may go
// unanswered.
const routePing, routePings = "1s", 2

// text is the cluster section of the server's configuration.
func (c *Cluster) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "cluster {\n  name: %q\n  listen: %q\n", c.Name, c.Listen)
	fmt.Fprintf(&b, "  ping_interval: %q\n  ping_max: %d\n", routePing, routePings)
	credential := ""
	if c.Token != "" {
		fmt.Fprintf(&b, "  authorization { user: %q, password: %q, timeout: 5 }\n", nodeUser, c.Token)
		credential = nodeUser + ":" + c.Token + "@"
	}
	b.WriteString("  routes: [\n")
	for _, peer := range c.Peers {
		fmt.Fprintf(&b, "    %q\n", "nats-route://"+credential+peer)
	}
	b.WriteString("  ]\n}\n")
	return b.String()
}

// Store is the state of JetStream as this server sees it.
type Store string

// The states of Store.
const (
	StoreCurrent  Store = "current"  // it runs, has caught up with the cluster, and has heard from its leader lately
	StoreJoining  Store = "joining"  // it has no leader, or has not caught up yet
	StoreRemote   Store = "remote"   // other nodes store
	StoreDisabled Store = "disabled" // it is off after a failure
)

// Store returns the current state of JetStream.
func (s *Server) Store() Store { return s.JetStreamState().Store }

// Routes returns the number of other servers that this one is connected to.
func (s *Server) Routes() int {
	srv := s.current.Load()
	if srv == nil {
		return 0
	}
	routes, err := srv.Routez(nil)
	if err != nil {
		return 0
	}
	remote := map[string]bool{}
	for _, r := range routes.Routes {
		remote[r.RemoteID] = true
	}
	return len(remote)
}
