package guard

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what a Listener works with. All fields are needed but for those that say what nil means.
type Config struct {
	Limits Limits
	Budget *Budget // bytes of all connections together
	Busy   []byte  // the whole response for one connection too many
	// whose connections MaxPerClient doesn't bound: proxies, behind which are many clients; nil exempts nobody
	Exempt func(netip.Addr) bool
	// may answer a request without a body by Send before the server sees it; nil never does
	Quick func(*Conn) bool
	Log   *slog.Logger
}

// Limits are what a Listener allows. All fields are needed.
type Limits struct {
	MaxConnections int           // at once; for one more an idle one is closed, or it is answered Busy and closed
	MaxPerClient   int           // of them from one address, or one IPv6 network of 64 bits; likewise
	MaxHeader      int           // bytes of a request head
	ReadTimeout    time.Duration // for a head to arrive whole, and again for a body
	IdleTimeout    time.Duration // between requests
	WriteTimeout   time.Duration // for a response that streams, and a second more for every minRate bytes
}

// Listener hands out guarded connections. It is safe for concurrent use.
type Listener struct {
	net.Listener

	cfg     Config
	limits  atomic.Pointer[Limits]
	open    atomic.Int64
	refused atomic.Uint64
	starved atomic.Bool // the system has no descriptor or memory for another connection
	stopped atomic.Bool
	ended   chan struct{} // closed with the listener: it ends a wait in Accept
	once    sync.Once

	mu      sync.Mutex // guards what follows
	conns   map[*Conn]struct{}
	clients map[netip.Prefix]map[*Conn]struct{} // those that one of them may have a share of
	crowd   crowd
}

// New guards a listener.
func New(inner net.Listener, cfg Config) *Listener {
	l := &Listener{
		Listener: inner, cfg: cfg, ended: make(chan struct{}), conns: map[*Conn]struct{}{},
		clients: map[netip.Prefix]map[*Conn]struct{}{},
	}
	l.SetLimits(cfg.Limits)
	return l
}

// SetLimits changes the limits. Open connections go by them from their next read on.
func (l *Listener) SetLimits(limits Limits) { l.limits.Store(&limits) }

// Connections is the number of connections that are open.
func (l *Listener) Connections() int { return int(l.open.Load()) }

// Refused counts the connections that were one too many.
func (l *Listener) Refused() uint64 { return l.refused.Load() }

// Starved reports whether the system refuses further connections at this moment, for want of descriptors or memory.
func (l *Listener) Starved() bool { return l.starved.Load() }

// Accept waits for the next connection. It fails only when the listener is closed: what fails for want of resources is
// tried again, at most a second later.
func (l *Listener) Accept() (net.Conn, error) {
	const first, last = 5 * time.Millisecond, time.Second
	wait := first
	for {
		inner, err := l.Listener.Accept()
		switch {
		case err == nil:
			l.fed()
			if c := l.admit(inner); c != nil {
				return c, nil
			}
			l.refuse(inner)
		case errors.Is(err, net.ErrClosed) || l.stopped.Load():
			return nil, net.ErrClosed
		default:
			l.starve(err)
			l.pause(wait)
			wait = min(2*wait, last)
		}
	}
}

// Wrap guards a connection, whatever the limits say.
func (l *Listener) Wrap(inner net.Conn) *Conn {
	c := &Conn{
		Conn: inner, l: l, client: l.clientOf(inner), account: account{budget: l.cfg.Budget},
		ended: make(chan struct{}),
	}
	c.in.account = &c.account
	c.watch.begin()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(c)
	return c
}

// refuse answers one connection too many. The answer fits the empty send buffer of a new connection, so this never
// waits.
func (l *Listener) refuse(inner net.Conn) {
	l.refused.Add(1)
	_ = inner.SetDeadline(time.Now().Add(time.Second)) // a client that went away needs no answer
	_, _ = inner.Write(l.cfg.Busy)
	_ = inner.Close()
}

func (l *Listener) starve(err error) {
	if !l.starved.Swap(true) {
		l.cfg.Log.Error("no further connections can be accepted; raise the limit on open files or lower "+
			"edge.max_connections", "cause", err, "connections", l.Connections())
	}
}

func (l *Listener) fed() {
	if l.starved.Load() && l.starved.Swap(false) {
		l.cfg.Log.Info("connections are accepted again", "connections", l.Connections())
	}
}

func (l *Listener) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ended:
	}
}

func (l *Listener) leave(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(c)
}

// Wait waits until every connection has ended, at most until ctx ends. Connections end on their own once they are
// served and their clients have read the response.
func (l *Listener) Wait(ctx context.Context) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for l.Connections() > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Cut ends the connections on which no whole request has come yet, or all of them, without waiting for anybody.
func (l *Listener) Cut(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if all || !c.used.Load() {
			c.reset()
		}
	}
}

// Close stops listening. Connections stay open, but end without waiting for their clients.
func (l *Listener) Close() error {
	l.stopped.Store(true)
	l.once.Do(func() { close(l.ended) })
	return l.Listener.Close() //nolint:wrapcheck // a wrapped listener's errors are its own
}
