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
	// ShortWay reports whether some route answers on the short way at this moment.
	ShortWay() bool
	// New makes an empty exchange.
	New() *exchange.Exchange
	// Enter checks the exchange's form and finds its route.
	Enter(x *exchange.Exchange)
	// Serve answers an exchange, which it enters if nobody has. It never fails: errors are responses.
	Serve(ctx context.Context, x *exchange.Exchange) *mesh.Response
	// Refuse counts and answers what can't become an exchange.
	Refuse(err error) *mesh.Response
	// Trusts reports whether an address is one of a trusted proxy.
	Trusts(addr netip.Addr) bool
}

// Config says what a Front works with.
type Config struct {
	Edge   node.Edge // as it was at the start
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
	served   chan struct{} // closed when the listener's loop has ended
	stopOnce sync.Once
	stopErr  error
}

// New makes the front; Open listens.
func New(cfg Config) *Front {
	f := &Front{cfg: cfg, core: cfg.Core, log: cfg.Log, served: make(chan struct{})}
	f.app = f.newApp()
	return f
}

// SetLimits changes what clients may take. The address and edge.write_timeout stay as they were at New.
func (f *Front) SetLimits(cfg node.Edge) {
	if f.listener != nil {
		f.listener.SetLimits(Limits(cfg))
	}
}

// Open listens and serves until Shutdown. It fails with ErrPortInUse if somebody else has the port.
func (f *Front) Open(ctx context.Context) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", string(f.cfg.Edge.Listen))
	if err != nil {
		if errors.Is(err, syscall.EADDRINUSE) {
			err = errors.Join(ErrPortInUse, err)
		}
		return fmt.Errorf("listen on %s for HTTP clients: %w", f.cfg.Edge.Listen, err)
	}
	if n := affordable(f.cfg.Edge.MaxConnections); n < f.cfg.Edge.MaxConnections {
		f.log.WarnContext(ctx, "fewer connections than edge.max_connections: the limit on open files allows no more",
			"connections", n, "open_files", descriptors())
	}
	f.listener = guard.New(l, guard.Config{
		Limits: Limits(f.cfg.Edge), Budget: f.cfg.Budget, Busy: exchange.BusyMessage(),
		Exempt: f.core.Trusts, Short: f.quick, Log: f.log,
	})
	go func() {
		defer close(f.served)
		if err := f.app.Listener(f.listener); err != nil && !errors.Is(err, net.ErrClosed) {
			f.log.ErrorContext(ctx, "edge stopped serving", "cause", err)
		}
	}()
	return nil
}

// Served is closed when the front has stopped serving.
func (f *Front) Served() <-chan struct{} { return f.served }

// Limits gives the guard's limits of a configuration.
func Limits(e node.Edge) guard.Limits {
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

// Addr is the address that the front listens on, with its real port. Nil before Open.
func (f *Front) Addr() net.Addr {
	if f.listener == nil {
		return nil
	}
	return f.listener.Addr()
}

// Connections is the number of client connections at this moment. 0 before Open.
func (f *Front) Connections() int {
	if f.listener == nil {
		return 0
	}
	return f.listener.Connections()
}

// RefusedConnections counts the connections that were one too many.
func (f *Front) RefusedConnections() uint64 {
	if f.listener == nil {
		return 0
	}
	return f.listener.Refused()
}

// Crowded reports whether connections had to be refused lately, or closed for others, and names the client that had the
// most of them. The name is empty if all are of trusted proxies.
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

// Starved reports whether the system has no descriptor or memory left for further connections.
func (f *Front) Starved() bool { return f.listener != nil && f.listener.Starved() }

// Drain makes every response from now on end its connection, so that clients move to another node.
func (f *Front) Drain() { f.draining.Store(true) }

// Shutdown stops listening, lets running requests finish, at most until ctx ends, and closes idle connections.
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
