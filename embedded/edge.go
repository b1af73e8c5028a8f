package embedded

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/mesh"
	"millrace/node"
)

// edgeServer is the HTTP listener for clients.
type edgeServer struct {
	cfg    *node.Config
	log    *slog.Logger
	memory *memory
	state  *stateFile
	mesh   *meshConn
	nodes  *nodes
	cache  *cache
	limits *limits
	sites  *sites

	server *edge.Server // nil before open
}

// open starts to serve clients. The first requests may arrive before the parts that open later are ready.
func (e *edgeServer) open(ctx context.Context) error {
	fitted := e.memory.fit(e.cfg)
	server, err := edge.New(edge.Config{
		Node: e.cfg.Node.Name, ID: e.state.identity.ID, Edge: fitted.Edge, Routes: e.cfg.Named(),
		Mesh: e.mesh.conn, Log: e.log,
		Cache: e.cache.kv, Limits: e.limits.limiter, Store: fitted.Cache, Peers: e.nodes.peers(),
		Sites: served{e.sites},
	})
	if err != nil {
		return fmt.Errorf("configure edge: %w", err)
	}
	if err := server.Open(ctx); err != nil {
		return fmt.Errorf("open edge (edge.listen): %w", err)
	}
	e.server = server
	return nil
}

// shutdown closes the listener and lets running requests finish.
func (e *edgeServer) shutdown(ctx context.Context) error {
	return e.server.Shutdown(ctx)
}

func (e *edgeServer) close() error {
	if e.server == nil {
		return nil
	}
	return e.server.Close()
}

func (e *edgeServer) change(_ context.Context, cfg *node.Config, routes []node.Route) (warnings []string) {
	e.server.SetRoutes(e.memory.fit(cfg).Edge, routes)
	return nil
}

// url is the address for HTTP clients.
func (e *edgeServer) url() string { return "http://" + node.Address(e.server.Addr().String()).Dial() }

// served returns the number of responses since the start.
func (e *edgeServer) served() (total uint64) {
	for _, r := range e.server.Stats() {
		for _, count := range r.Classes {
			total += count
		}
	}
	return total
}

// conditions reports overload (clients, processors, file descriptors) and clocks that differ.
func (e *edgeServer) conditions(f *conditionList) {
	f.add(e.clockCondition(), false)
	if e.server.Sheds() {
		f.add("the node sheds load: its processors can't follow; add nodes or processors", false)
	}
	if client, connections, ok := e.server.Crowded(); ok {
		text := "more client connections than edge.max_connections and max_client_share allow: idle ones are closed, " +
			"others refused"
		if client != "" {
			text += fmt.Sprintf("; the most, %d, were of %s (if that is a proxy of yours, name it in "+
				"edge.trusted_proxies)", connections, client)
		}
		f.add(text, false)
	}
	if e.server.Starved() {
		f.add("the system refuses further connections: raise the limit on open files, or lower edge.max_connections",
			false)
	}
}

// clockCondition reports that an origin's clock differs from this node's; "" if none does. A wrong clock stops caching,
// and no log would say so.
func (e *edgeServer) clockCondition() string {
	origin, by, ok := e.server.ClockSkewed()
	switch {
	case !ok:
		return ""
	case by < 0:
		by = by.Abs().Round(time.Second)
		return fmt.Sprintf("this node's clock is %s behind the Date of %s: let both follow a time server", by, origin)
	}
	return fmt.Sprintf("this node's clock is %s ahead of the Date of %s, so that its responses count as old when they "+
		"come and may not be cached: let both follow a time server; if that origin keeps responses itself, let it "+
		"send Age",
		by.Round(time.Second), origin)
}

func (e *edgeServer) status(st *admin.Status) {
	st.Edge, st.InFlight, st.Connections = e.url(), e.server.InFlight(), e.server.Connections()
	st.Refused, st.RefusedConnections = e.server.RefusedRequests(), e.server.RefusedConnections()
	st.Buffered = e.server.Buffered()
}

// fetches serves the requests of other nodes to fetch a response into the cache.
type fetches struct {
	state *stateFile
	mesh  *meshConn
	edge  *edgeServer

	service *mesh.Service // nil before open
}

// maxFetches bounds how many fetches run for other nodes at the same time.
const maxFetches = 4096

func (f *fetches) open(ctx context.Context) error {
	service, err := f.mesh.conn.NewService(mesh.ServiceConfig{
		Destination: f.mesh.conn.Node("cache", f.state.identity.ID),
		Limit:       maxFetches, Handler: mesh.HandlerFunc(f.edge.server.Fetch),
	})
	if err != nil {
		return fmt.Errorf("configure cache: %w", err)
	}
	if err := service.Open(ctx); err != nil {
		return fmt.Errorf("open cache: %w", err)
	}
	f.service = service
	return nil
}

func (f *fetches) close() error {
	if f.service == nil {
		return nil
	}
	return f.service.Close()
}
