package front

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

	"millrace/edge/exchange"
	"millrace/edge/guard"
	"millrace/mesh"
	"millrace/node"
)

// ErrPortInUse means that another process listens on the address.
var ErrPortInUse = errors.New("address is in use")

// Core answers exchanges. Its methods are called from many goroutines.
type Core interface {
	// ShortWay reports whether some route has a short way at this moment.
	ShortWay() bool
	// New returns an empty exchange.
	New() *exchange.Exchange
	// Enter checks the exchange's form and sets its route.
	Enter(x *exchange.Exchange)
	// Serve answers an exchange. It calls Enter first if the exchange has no route. Errors are responses too.
	Serve(ctx context.Context, x *exchange.Exchange) *mesh.Response
	// Refuse counts and answers a request that can't become an exchange.
	Refuse(err error) *mesh.Response
	// Trusts reports whether the address is that of a trusted proxy.
	Trusts(addr netip.Addr) bool
}

// Config is what New needs. All fields must be set.
type Config struct {
	Edge   node.Edge // at the start; SetLimits changes some of it later
	Core   Core
	Budget *guard.Budget // bytes of requests and responses
	Log    *slog.Logger
}

// Front is the HTTP listener of a node. It is safe for concurrent use.
type Front struct {
	cfg      Config
	core     Core
	log      *slog.Logger
	app      *fiber.App
	date     dateCache
	streams  streams
	draining atomic.Bool

	listener *guard.Listener
	served   chan struct{} // closed by Open's goroutine when it has stopped accepting connections
	stopOnce sync.Once
	stopErr  error
}

// New returns a front that doesn't listen yet; see Open.
func New(cfg Config) *Front {
	f := &Front{cfg: cfg, core: cfg.Core, log: cfg.Log, served: make(chan struct{})}
	f.app = f.newApp()
	return f
}

// SetLimits changes the limits on connections, heads and times. The address and edge.write_timeout stay as at New.
func (f *Front) SetLimits(cfg node.Edge) {
	if f.listener != nil {
		f.listener.SetLimits(Limits(cfg))
	}
}

// Open listens and serves until Shutdown. The error is ErrPortInUse if another process has the port.
func (f *Front) Open(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", string(f.cfg.Edge.Listen))
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = errors.Join(ErrPortInUse, err)
		}
		return fmt.Errorf("listen on %s for HTTP clients: %w", f.cfg.Edge.Listen, err)
	}
	if n := connectionLimit(f.cfg.Edge.MaxConnections); n < f.cfg.Edge.MaxConnections {
		f.log.WarnContext(ctx, "fewer connections than edge.max_connections: the limit on open files allows no more",
			"connections", n, "open_files", descriptors())
	}
	f.listener = guard.New(l, guard.Config{
		Limits: Limits(f.cfg.Edge), Budget: f.cfg.Budget, Busy: exchange.BusyMessage(),
		Exempt: f.core.Trusts, Short: f.serveShortWay, Log: f.log,
	})
	go func() {
		defer close(f.served)
		if err := f.app.Listener(f.listener); err != nil && !errors.Is(err, net.ErrClosed) {
			f.log.ErrorContext(ctx, "edge stopped serving", "cause", err)
		}
	}()
	return nil
}

// Served returns a channel that is closed when the front has stopped serving.
func (f *Front) Served() <-chan struct{} { return f.served }

// Limits returns the configuration's limits for guard.
func Limits(e node.Edge) guard.Limits {
	most := connectionLimit(e.MaxConnections)
	return guard.Limits{
		MaxConnections: most, MaxPerClient: max(most*e.MaxClientShare/100, 1), MaxHeader: int(e.MaxHeader),
		ReadTimeout: e.ReadTimeout.Std(), IdleTimeout: e.IdleTimeout.Std(),
		WriteTimeout: e.WriteTimeout.Std(),
	}
}

// connectionLimit returns how many client connections to allow: the configured number, but at most half of the open
// files that the system allows. The other half is for connections to upstreams and for the admin API.
func connectionLimit(connections int) int {
	if n := descriptors(); n > 0 && n/2 < connections {
		return max(n/2, 1)
	}
	return connections
}

// Addr returns the address that the front listens on, with its real port. It is nil before Open.
func (f *Front) Addr() net.Addr {
	if f.listener == nil {
		return nil
	}
	return f.listener.Addr()
}

// Connections returns the number of client connections at this moment. It is 0 before Open.
func (f *Front) Connections() int {
	if f.listener == nil {
		return 0
	}
	return f.listener.Connections()
}

// RefusedConnections returns how many connections were refused for edge.max_connections or edge.max_client_share.
func (f *Front) RefusedConnections() uint64 {
	if f.listener == nil {
		return 0
	}
	return f.listener.Refused()
}

// Crowded reports whether connections were refused, or closed in favor of others, within the last minute. client is the
// address or prefix with the most connections, or empty if all connections are those of trusted proxies.
func (f *Front) Crowded() (client string, connections int, ok bool) {
	if f.listener == nil {
		return "", 0, false
	}
	prefix, connections, ok := f.listener.Full()
	switch {
	case !prefix.IsValid():
		return "", 0, ok
	case prefix.IsSingleIP():
		return prefix.Addr().String(), connections, ok
	}
	return prefix.String(), connections, ok
}

// Starved reports whether the system refuses further connections for want of descriptors or memory.
func (f *Front) Starved() bool { return f.listener != nil && f.listener.Starved() }

// Drain closes each connection after its next response, so that clients move to another node.
func (f *Front) Drain() { f.draining.Store(true) }

// Shutdown stops listening, closes idle connections and waits for running requests, at most until ctx ends. It ends
// WebSockets and event streams. Further calls return the error of the first.
func (f *Front) Shutdown(ctx context.Context) error {
	f.Drain()
	f.stopOnce.Do(func() {
		if f.listener == nil {
			return
		}
		f.listener.Cut(false)
		f.streams.close()
		if err := f.app.ShutdownWithContext(ctx); err != nil && !errors.Is(err, net.ErrClosed) {
			f.stopErr = fmt.Errorf("shut the edge down: %w", err)
		}
		_ = f.listener.Close() // closed already, unless the shutdown failed before
		<-f.served
		f.listener.Wait(ctx)
		f.listener.Cut(true)
	})
	return f.stopErr
}
