package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/gofiber/fiber/v2"

	"millrace/edge/guard"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
)

// ErrPortInUse means that another process listens on the address.
var ErrPortInUse = errors.New("address is in use")

// Config says what a Server works with.
type Config struct {
	Node   string // name of the node, for events
	ID     string // unique id of the node, for Via
	Edge   node.Edge
	Routes []node.Route
	Mesh   *mesh.Conn
	Cache  *kvcache.Cache // nil if no route caches
	Limits *limit.Limiter // nil if no route has limits; it must know the rules before New and SetRoutes
	Store  node.CacheStore
	Peers  Peers // nodes that fetch for one another; nil alone
	Log    *slog.Logger
}

// Server is the HTTP listener of a node. It is safe for concurrent use.
type Server struct {
	cfg       Config
	log       *slog.Logger
	mesh      *mesh.Conn
	app       *fiber.App
	settings  atomic.Pointer[settings]
	stats     statsByRoute
	callStats statsByRoute // of the calls of gathers
	seen      seenNames    // services that were served, for edge.expose "*"
	origins   origins      // that clients asked for
	date      dateCache

	cacheStats cacheStatsByRoute
	flights    kvcache.Flights[fetched]
	filling    filling
	clocks     clocks
	varying    sync.Mutex // held while what is known of a URL's variants changes
	shunned    shunned
	via        string // this node's name in Via

	admission admission
	draining  atomic.Bool
	streams   streams
	buffered  *guard.Budget // bytes of requests and responses

	listener *guard.Listener
	served   chan struct{} // closed when the listener's loop has ended
	stopOnce sync.Once
	stopErr  error
}

// New makes routes and policies ready; Open listens.
func New(cfg Config) (*Server, error) {
	if cfg.Mesh == nil || cfg.Log == nil {
		return nil, errors.New("configure edge: a mesh connection and a log are needed")
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, mesh: cfg.Mesh, via: "millrace-" + cfg.ID, served: make(chan struct{}),
		buffered: guard.NewBudget(0),
	}
	s.filling.max, s.filling.endsWithin = int64(cfg.Store.Memory)/4, endsWithin
	s.SetRoutes(cfg.Edge, cfg.Routes)
	s.app = s.newApp()
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
	if s.listener != nil {
		s.listener.SetLimits(limits(cfg))
	}
}

// Open listens and serves until Shutdown or Close. It fails with ErrPortInUse if somebody else has the port.
func (s *Server) Open(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", string(s.cfg.Edge.Listen))
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = errors.Join(ErrPortInUse, err)
		}
		return fmt.Errorf("listen on %s for HTTP clients: %w", s.cfg.Edge.Listen, err)
	}
	if n := affordable(s.cfg.Edge.MaxConnections); n < s.cfg.Edge.MaxConnections {
		s.log.WarnContext(ctx, "fewer connections than edge.max_connections: the limit on open files allows no more",
			"connections", n, "open_files", descriptors())
	}
	s.listener = guard.New(l, guard.Config{
		Limits: limits(s.cfg.Edge), Budget: s.buffered, Busy: busyResponse(),
		Exempt: s.trusts, Quick: s.quick, Log: s.log,
	})
	go s.admission.watch(s.served)
	go func() {
		defer close(s.served)
		if err := s.app.Listener(s.listener); err != nil && !errors.Is(err, net.ErrClosed) {
			s.log.ErrorContext(ctx, "edge stopped serving", "cause", err)
		}
	}()
	return nil
}

func limits(e node.Edge) guard.Limits {
	most := affordable(e.MaxConnections)
	return guard.Limits{
		MaxConnections: most, MaxPerClient: max(most*e.MaxClientShare/100, 1), MaxHeader: int(e.MaxHeader),
		ReadTimeout: e.ReadTimeout.Std(), IdleTimeout: e.IdleTimeout.Std(),
		WriteTimeout: e.WriteTimeout.Std(),
	}
}

// affordable is how many client connections fit the system's limit on open files: half of them, since each request may
// need another connection to its upstream, and the operator must get in too.
func affordable(connections int) int {
	if n := descriptors(); n > 0 && n/2 < connections {
		return max(n/2, 1)
	}
	return connections
}

// Addr is the address that the server listens on, with its real port. Nil before Open.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// InFlight is the number of requests that run at this moment.
func (s *Server) InFlight() int { return int(s.admission.inFlight.Load()) }

// Connections is the number of client connections at this moment. 0 before Open.
func (s *Server) Connections() int {
	if s.listener == nil {
		return 0
	}
	return s.listener.Connections()
}

// RefusedConnections counts the connections that were one too many.
func (s *Server) RefusedConnections() uint64 {
	if s.listener == nil {
		return 0
	}
	return s.listener.Refused()
}

// Crowded reports whether connections had to be refused lately, or closed for others, and names the client that had the
// most of them. The name is empty if all are of trusted proxies.
func (s *Server) Crowded() (client string, connections int, ok bool) {
	if s.listener == nil {
		return "", 0, false
	}
	prefix, connections, ok := s.listener.Crowded()
	switch {
	case !prefix.IsValid():
		return "", 0, ok
	case prefix.IsSingleIP():
		return prefix.Addr().String(), connections, ok
	}
	return prefix.String(), connections, ok
}

func (s *Server) trusts(addr netip.Addr) bool { return s.settings.Load().trusts(addr) }

// Sheds reports whether the processors can't follow, so that fewer requests than edge.max_requests are admitted.
func (s *Server) Sheds() bool { return s.admission.sheds() }

// Caches reports whether some route caches.
func (s *Server) Caches() bool { return s.settings.Load().caches }

// Limits reports whether some route has limits.
func (s *Server) Limits() bool { return s.settings.Load().limits }

// RefusedRequests counts the requests that were one too many.
func (s *Server) RefusedRequests() uint64 { return s.admission.refused.Load() }

// Starved reports whether the system has no descriptor or memory left for further connections.
func (s *Server) Starved() bool { return s.listener != nil && s.listener.Starved() }

// Buffered is the number of bytes of requests and responses that count against edge.max_buffered at this moment.
func (s *Server) Buffered() int64 { return s.buffered.Used() }

// Serve answers one exchange that a front has filled. It never fails: errors are responses.
func (s *Server) Serve(ctx context.Context, x *Exchange) *mesh.Response {
	if x.route == nil {
		s.enter(x)
	}
	resp, _ := x.route.handler(ctx, x) // the policy problems has turned the error into the response
	return resp
}

// enter puts the exchange under the settings of this moment and finds its route.
func (s *Server) enter(x *Exchange) {
	set := s.settings.Load()
	x.enter(set, s.via)
	switch {
	case x.refusal != nil:
		x.route = set.unmatched
	case x.Path == "*":
		x.route = set.whole
	case x.Method == "PURGE" && set.purge != nil:
		x.route = set.purge
	default:
		x.route = set.route(x)
		x.chooseProtocol()
	}
}

func (s *Server) offlineServes() bool { return s.cfg.Store.Offline == node.OfflineServe }

// Drain makes every response from now on end its connection, so that clients move to another node.
func (s *Server) Drain() { s.draining.Store(true) }

// Shutdown stops listening, lets running requests finish, at most until ctx ends, and closes idle connections.
func (s *Server) Shutdown(ctx context.Context) error {
	s.Drain()
	s.stopOnce.Do(func() {
		if s.listener == nil {
			return
		}
		s.listener.Cut(false)
		s.streams.close()
		if err := s.app.ShutdownWithContext(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			s.stopErr = fmt.Errorf("shut the edge down: %w", err)
		}
		_ = s.listener.Close() // closed already, unless the shutdown failed before
		<-s.served
		s.listener.Wait(ctx)
		s.listener.Cut(true)
	})
	return s.stopErr
}

// Close stops listening and doesn't wait for requests.
func (s *Server) Close() error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
