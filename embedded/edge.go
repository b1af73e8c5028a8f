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

// edgeServer is the HTTP listener.
type edgeServer struct {
	cfg    *node.Config
	log    *slog.Logger
	memory *memory
	state  *stateFile
	mesh   *meshConn
	nodes  *nodes
	cache  *cache
	limits *limits

	server *edge.Server // nil before open
}

// open begins to serve clients. What opens later isn't there yet for the first requests.
func (e *edgeServer) open(ctx context.Context) error {
	fitted := e.memory.fit(e.cfg)
	server, err := edge.New(edge.Config{
		Node: e.cfg.Node.Name, ID: e.state.identity.ID, Edge: fitted.Edge, Routes: e.cfg.Named(),
		Mesh: e.mesh.conn, Log: e.log,
		Cache: e.cache.kv, Limits: e.limits.limiter, Store: fitted.Cache, Peers: e.nodes.peers(),
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

// shutdown closes the listener and lets what runs finish.
func (e *edgeServer) shutdown(ctx context.Context) error {
	return e.server.Shutdown(ctx) //nolint:wrapcheck // it says what it was
}

func (e *edgeServer) close() error {
	if e.server == nil {
		return nil
	}
	return e.server.Close() //nolint:wrapcheck // the node says what it was
}

func (e *edgeServer) change(_ context.Context, cfg *node.Config, routes []node.Route) (warnings []string) {
	e.server.SetRoutes(e.memory.fit(cfg).Edge, routes)
	return nil
}

// url is where HTTP clients connect.
func (e *edgeServer) url() string { return "http://" + node.Address(e.server.Addr().String()).Dial() }

// served counts the responses since the start.
func (e *edgeServer) served() (total uint64) {
	for _, r := range e.server.Stats() {
		for _, count := range r.Classes {
			total += count
		}
	}
	return total
}

// conditions tells of too many clients, too few processors or descriptors, and of clocks.
func (e *edgeServer) conditions(f *found) {
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

// clockCondition says that the clock of an origin differs from this node's, since that stops caching without a word in
// any log; "" if none does.
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

// fetches let other nodes ask this one to fetch for them, into the cache.
type fetches struct {
	state *stateFile
	mesh  *meshConn
	edge  *edgeServer

	service *mesh.Service // nil before open
}

// maxFetches bounds the fetches that a node makes for others at once.
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
	return f.service.Close() //nolint:wrapcheck // the node says what it was
}
