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

// Config is what a Listener is made with. All fields are required, except those for which nil has a meaning.
type Config struct {
	Limits Limits
	Budget *Budget // memory of all connections together
	Busy   []byte  // the whole response that a refused connection gets
	// Exempt reports whether an address may have any number of connections: that of a proxy, behind which there are
	// many clients. Nil exempts no address.
	Exempt func(netip.Addr) bool
	// Short may answer a request without a body, by Send, before the server sees it, and reports whether it has. It
	// runs in the goroutine that reads the connection. Nil answers none.
	Short func(*Conn) bool
	Log   *slog.Logger
}

// Limits are what a Listener allows. All fields are required.
type Limits struct {
	MaxConnections int           // open at once; one more closes an idle one, or else is refused
	MaxPerClient   int           // likewise from one IPv4 address or one IPv6 /64
	MaxHeader      int           // bytes of a request head
	ReadTimeout    time.Duration // for a head to arrive whole, and again for its body
	IdleTimeout    time.Duration // for the next request to begin
	WriteTimeout   time.Duration // for a response that streams, plus a second for every minRate bytes
}

// Listener accepts guarded connections. It is safe for concurrent use.
type Listener struct {
	net.Listener

	cfg     Config
	limits  atomic.Pointer[Limits]
	open    atomic.Int64
	refused atomic.Uint64
	starved atomic.Bool // the system has no descriptor or memory for another connection
	stopped atomic.Bool
	ended   chan struct{} // closed by Close, which ends a wait in Accept
	once    sync.Once

	mu      sync.Mutex // guards what follows
	conns   map[*Conn]struct{}
	clients map[netip.Prefix]map[*Conn]struct{} // without those that may have any number
	full    fullState
}

// New returns a listener that guards the connections of inner.
func New(inner net.Listener, cfg Config) *Listener {
	l := &Listener{
		Listener: inner, cfg: cfg, ended: make(chan struct{}), conns: map[*Conn]struct{}{},
		clients: map[netip.Prefix]map[*Conn]struct{}{},
	}
	l.SetLimits(cfg.Limits)
	return l
}

// SetLimits changes the limits. They apply to open connections from their next read on.
func (l *Listener) SetLimits(limits Limits) { l.limits.Store(&limits) }

// Connections returns the number of open connections.
func (l *Listener) Connections() int { return int(l.open.Load()) }

// Refused returns how many connections were refused because there were too many.
func (l *Listener) Refused() uint64 { return l.refused.Load() }

// Starved reports whether the system refuses further connections at this moment for lack of descriptors or memory.
func (l *Listener) Starved() bool { return l.starved.Load() }

// Accept waits for the next connection. It fails only with net.ErrClosed, when the listener is closed. After any other
// error it tries again, at most a second later.
func (l *Listener) Accept() (net.Conn, error) {
	const first, last = 5 * time.Millisecond, time.Second
	wait := first
	for {
		inner, err := l.Listener.Accept()
		switch {
		case err == nil:
			l.noteRecovered()
			if c := l.admit(inner); c != nil {
				return c, nil
			}
			l.refuse(inner)
		case errors.Is(err, net.ErrClosed) || l.stopped.Load():
			return nil, net.ErrClosed
		default:
			l.noteStarved(err)
			l.sleep(wait)
			wait = min(2*wait, last)
		}
	}
}

// Wrap returns a guarded connection, whatever the limits say.
func (l *Listener) Wrap(inner net.Conn) *Conn {
	c := &Conn{
		Conn: inner, l: l, client: l.clientOf(inner), account: account{budget: l.cfg.Budget},
		ended: make(chan struct{}),
	}
	c.buf.account = &c.account
	c.watch.init()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.add(c)
	return c
}

// refuse answers a connection that is one too many with Config.Busy and closes it. The answer fits the empty send
// buffer of a new connection, so this never waits.
func (l *Listener) refuse(inner net.Conn) {
	l.refused.Add(1)
	_ = inner.SetDeadline(time.Now().Add(time.Second)) // errors are ignored: a client that went away needs no answer
	_, _ = inner.Write(l.cfg.Busy)
	_ = inner.Close()
}

func (l *Listener) noteStarved(err error) {
	if !l.starved.Swap(true) {
		l.cfg.Log.Error("no further connections can be accepted; raise the limit on open files or lower "+
			"edge.max_connections", "cause", err, "connections", l.Connections())
	}
}

func (l *Listener) noteRecovered() {
	if l.starved.Load() && l.starved.Swap(false) {
		l.cfg.Log.Info("connections are accepted again", "connections", l.Connections())
	}
}

func (l *Listener) sleep(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.ended:
	}
}

func (l *Listener) drop(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(c)
}

// Wait waits until all connections have ended, or until ctx ends. Connections end by themselves once they are served
// and their clients have read the response.
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

// Cut resets the connections on which no whole request has arrived yet, or all of them, without waiting for anybody.
func (l *Listener) Cut(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if all || !c.used.Load() {
			c.reset()
		}
	}
}

// Close stops listening. Open connections stay open.
func (l *Listener) Close() error {
	l.stopped.Store(true)
	l.once.Do(func() { close(l.ended) })
	return l.Listener.Close()
}
