package edge

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"

	"millrace/edge/cache"
	"millrace/edge/exchange"
	"millrace/edge/front"
	"millrace/edge/guard"
	"millrace/edge/ratelimit"
	"millrace/edge/site"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
)

// ErrPortInUse means that another process listens on the address.
var ErrPortInUse = front.ErrPortInUse

// Config is what New needs.
type Config struct {
	Node   string // name of the node, for events
	ID     string // unique id of the node, for Via
	Edge   node.Edge
	Routes []node.Route
	Mesh   *mesh.Conn
	Cache  *kvcache.Cache // nil if no route caches
	Limits *limit.Limiter // nil if no route has limits; must have the routes' rules before New and SetRoutes
	Store  node.CacheStore
	Peers  cache.Peers // nodes that fetch for one another; nil for a single node
	Sites  site.Sites  // nil if the node serves none
	Log    *slog.Logger
}

// Server is the HTTP edge of a node. It is safe for concurrent use.
type Server struct {
	cfg       Config
	log       *slog.Logger
	mesh      *mesh.Conn
	front     *front.Front
	settings  atomic.Pointer[settings]
	stats     statsByRoute
	callStats statsByRoute     // of gathers' calls
	seen      seenNames        // services that somebody has served, for edge.expose "*"
	cache     *cache.Cache     // nil if no route caches
	sites     *site.Room       // nil if the node serves none
	limits    ratelimit.Config // its Limiter is nil if no route has limits
	admission admission
	buffered  *guard.Budget                           // bytes of requests and responses
	via       string                                  // this node's name in Via
	chain     func(*exchange.Route) []exchange.Policy // policies; tests replace it
}

// New returns a server with its routes and policies. It doesn't listen yet; see Open.
func New(cfg Config) (*Server, error) {
	if cfg.Mesh == nil || cfg.Log == nil {
		return nil, errors.New("configure edge: a mesh connection and a log are needed")
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, mesh: cfg.Mesh, via: "millrace-" + cfg.ID, buffered: guard.NewBudget(0),
		limits: ratelimit.Config{Limiter: cfg.Limits, Node: cfg.Node, Mesh: cfg.Mesh},
	}
	s.chain = s.policies
	if cfg.Cache != nil {
		s.cache = cache.New(cache.Config{
			Store: cfg.Cache, Memory: int64(cfg.Store.Memory), Node: cfg.ID, Mesh: cfg.Mesh, Peers: cfg.Peers,
			OfflineServes: cfg.Store.Offline == node.OfflineServe, PurgeClients: cfg.Store.PurgeClients,
			Settings: func() *exchange.Settings { return &s.settings.Load().Settings }, Log: cfg.Log,
		})
	}
	if cfg.Sites != nil {
		s.sites = site.New(cfg.Sites)
	}
	s.front = front.New(front.Config{Edge: cfg.Edge, Core: core{s}, Budget: s.buffered, Log: cfg.Log})
	s.SetRoutes(cfg.Edge, cfg.Routes)
	return s, nil
}

// SetRoutes replaces routes, exposed services, trusted proxies, default limits and the access log's switch while
// serving: requests that run finish under the old ones. The address and edge.write_timeout stay as they were at New.
// The routes must have passed node.Config.Validate.
func (s *Server) SetRoutes(cfg node.Edge, routes []node.Route) {
	s.settings.Store(s.newSettings(cfg, routes))
	s.buffered.SetMax(int64(cfg.MaxBuffered))
	s.admission.setMax(int64(cfg.MaxRequests))
	s.mesh.SetStreamIdle(cfg.StreamIdle.Std())
	s.front.SetLimits(cfg)
}

// Open listens and serves until Shutdown or Close. The error is ErrPortInUse if another process has the port.
func (s *Server) Open(ctx context.Context) error {
	if err := s.front.Open(ctx); err != nil {
		return err
	}
	go s.admission.watch(s.front.Served())
	return nil
}

// Addr returns the address that the server listens on, with its real port. It is nil before Open.
func (s *Server) Addr() net.Addr { return s.front.Addr() }

// InFlight returns the number of requests in flight at this moment. Requests whose body streams aren't counted.
func (s *Server) InFlight() int { return int(s.admission.inFlight.Load()) }

// Connections returns the number of client connections at this moment. It is 0 before Open.
func (s *Server) Connections() int { return s.front.Connections() }

// RefusedConnections returns how many connections were refused for edge.max_connections or edge.max_client_share.
func (s *Server) RefusedConnections() uint64 { return s.front.RefusedConnections() }

// Crowded reports whether connections were refused, or closed in favor of others, within the last minute. client is the
// address or prefix with the most connections, or empty if all connections are those of trusted proxies.
func (s *Server) Crowded() (client string, connections int, ok bool) { return s.front.Crowded() }

// Starved reports whether the system refuses further connections for want of descriptors or memory.
func (s *Server) Starved() bool { return s.front.Starved() }

// Sheds reports whether the node is overloaded, so that it admits fewer requests than edge.max_requests.
func (s *Server) Sheds() bool { return s.admission.overloaded() }

// Caches reports whether some route caches.
func (s *Server) Caches() bool { return s.settings.Load().Caches }

// Limits reports whether some route has limits.
func (s *Server) Limits() bool { return s.settings.Load().Limits }

// RefusedRequests returns how many requests were refused for overload.
func (s *Server) RefusedRequests() uint64 { return s.admission.refused.Load() }

// Buffered returns the bytes of requests and responses that count against edge.max_buffered at this moment.
func (s *Server) Buffered() int64 { return s.buffered.Used() }

// Drain closes each connection after its next response, so that clients move to another node.
func (s *Server) Drain() { s.front.Drain() }

// Shutdown stops listening, closes idle connections and waits for running requests, at most until ctx ends.
func (s *Server) Shutdown(ctx context.Context) error {
	return s.front.Shutdown(ctx)
}

// Close is Shutdown without waiting for requests.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// Serve answers one exchange that a front has filled. Errors are responses too.
func (s *Server) Serve(ctx context.Context, x *exchange.Exchange) *mesh.Response {
	return core{s}.Serve(ctx, x)
}

// core implements front.Core.
type core struct{ *Server }

// request is an exchange in one allocation with what most exchanges need.
type request struct {
	exchange.Exchange

	grants ratelimit.Grants
}

// New returns an empty exchange.
func (core) New() *exchange.Exchange {
	r := &request{}
	ratelimit.Attach(&r.Exchange, &r.grants)
	return &r.Exchange
}

// ShortWay reports whether some route has a short way.
func (c core) ShortWay() bool {
	set := c.settings.Load()
	return set.Caches || set.Sites
}

// Trusts reports whether the address is that of a trusted proxy.
func (c core) Trusts(addr netip.Addr) bool { return c.settings.Load().Trusts(addr) }

// Serve answers an exchange. It calls Enter first if the exchange has no route.
func (c core) Serve(ctx context.Context, x *exchange.Exchange) *mesh.Response {
	if x.Route == nil {
		c.Enter(x)
	}
	resp, _ := x.Route.Handler(ctx, x) // with the policy problems, an error has a response too
	return resp
}

// Enter applies the current settings to the exchange and sets its route.
func (c core) Enter(x *exchange.Exchange) {
	set := c.settings.Load()
	x.Accept(&set.Settings)
	switch {
	case x.Outcome.Refusal != nil:
		x.Route = set.unmatched
	case x.Path == "*":
		x.Route = set.asterisk
	case x.Method == "PURGE" && set.purge != nil:
		x.Route = set.purge
	default:
		x.Route = set.find(x)
		chooseProtocol(x)
	}
}

// Refuse answers a request that can't become an exchange. Like a response that passed the policies it is counted and
// has an id.
func (c core) Refuse(err error) *mesh.Response {
	id := exchange.NewID()
	resp := exchange.ProblemResponse(err, id)
	resp.Header.Add("X-Request-Id", id)
	exchange.Of[*observed](c.settings.Load().unmatched).stats.record(resp.Status, 0)
	return resp
}
