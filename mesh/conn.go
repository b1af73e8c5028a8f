package mesh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"

	"millrace/node"
)

// Config configures how a Conn reaches NATS. Exactly one of URL and InProcess must be set.
type Config struct {
	Name      string                     // name of the node, shown by NATS tools
	URL       string                     // a NATS URL
	InProcess nats.InProcessConnProvider // the embedded server
	User      string                     // credential for InProcess
	Password  string
	Leaf      bool   // this node is a leaf of others
	Prefix    string // put before every subject; tokens joined by dots, or empty
	// Local says when a request to a member in this process may skip NATS. Streams may in every mode but LocalNATS.
	// Empty means LocalNATS.
	Local       node.Local
	MaxInFlight int      // requests that may wait for a reply at once; 0 means 16384
	Interest    Interest // reports who subscribes; nil means learn it by publishing
	Log         *slog.Logger
}

// Interest reports who subscribes to a subject, this node included: whether anybody does (Interested), and whether
// exactly one subscription exists (Alone). It is called for each event and request, and must be fast.
type Interest interface {
	Interested(subject string) bool
	Alone(subject string) bool
	// Anybody reports whether anybody subscribes, as the server knows it right now. It is called rarely.
	Anybody(subject string) bool
}

// Conn is a node's connection to the mesh. It is safe for concurrent use.
type Conn struct {
	cfg          Config
	id           string // of this connection; ends the inbox
	inbox        string
	mux          *mux
	streams      *bodyStreams
	localMembers localMembers
	pauses       pauses
	waiting      *waitingCalls
	stats        counters
	silent       *silentSubjects // used if Config.Interest is nil

	members    atomic.Pointer[Members] // the list of nodes, once it is open
	nc         *nats.Conn
	announcing sync.WaitGroup // the goroutine of announceDepartures
	closed     atomic.Bool
	closeOnce  sync.Once
}

// The NATS client pings a server elsewhere each pingEvery. It leaves the server when the next ping is due and pingsOut
// are unanswered.
const (
	pingEvery = 3 * time.Second
	pingsOut  = 2
)

// inboxRoot is the prefix of node inboxes. Members may subscribe below _INBOX_<their own name>, and whoever a node asks
// learns the rest of its inbox. So the root must be one that no member's name can produce. It is a token of its own, so
// that permissions can name all inboxes of nodes.
const inboxRoot = "_NODE_."

// leafRoot is inboxRoot of leaf nodes. They may read the replies to one another, and not those to other nodes.
const leafRoot = "_LEAF_."

// New checks the configuration. Open connects.
func New(cfg Config) (*Conn, error) {
	if (cfg.URL == "") == (cfg.InProcess == nil) {
		return nil, errors.New("configure mesh: set exactly one of URL and InProcess")
	}
	if cfg.Log == nil {
		return nil, errors.New("configure mesh: Log is missing")
	}
	if cfg.MaxInFlight == 0 {
		cfg.MaxInFlight = 16384
	}
	if cfg.Prefix != "" {
		cfg.Prefix += "."
	}
	c := &Conn{cfg: cfg, id: nuid.Next()}
	if c.inbox = inboxRoot + c.id; cfg.Leaf {
		c.inbox = leafRoot + c.id
	}
	c.stats.log = cfg.Log
	if cfg.Local == "" {
		cfg.Local = node.LocalNATS
	}
	c.localMembers.mode, c.localMembers.interest = cfg.Local, cfg.Interest
	c.waiting = newWaitingCalls()
	c.streams = newBodyStreams(cfg.Prefix, cfg.Local != node.LocalNATS, cfg.Log)
	c.mux = newMux(c.inbox+".r", cfg.MaxInFlight, c.stats.countDropped)
	return c, nil
}

// Open connects and subscribes to the inbox. The connection then reconnects forever, until Close.
func (c *Conn) Open(ctx context.Context) error {
	if c.closed.Load() {
		return errors.New("connect to NATS: the connection is closed for good")
	}
	if err := c.open(ctx); err != nil {
		return errors.Join(err, c.Close())
	}
	return nil
}

func (c *Conn) open(ctx context.Context) (err error) {
	if c.nc, err = c.connect("", c.mux.connectionLost); err != nil {
		return err
	}
	if err := c.subscribeInbox(ctx, c.nc, c.mux.prefix+".>", c.mux.deliver, c.cfg.MaxInFlight*2, -1); err != nil {
		return err
	}
	if c.streams.nc, err = c.connect(" (streams)", c.streams.connectionLost); err != nil {
		return err
	}
	go c.streams.probeLoop()
	err = c.subscribeInbox(ctx, c.streams.nc, c.streams.prefix+".>", c.streams.deliver, -1, 2*windowPool)
	if err != nil {
		return err
	}
	if err := c.subscribeInbox(ctx, c.nc, c.cfg.Prefix+leavingSubject, c.handleLeaving, -1, -1); err != nil {
		return err
	}
	if err := c.subscribeInbox(ctx, c.nc, c.cfg.Prefix+goneSubject, c.handleGone, -1, -1); err != nil {
		return err
	}
	c.announcing.Go(c.announceDepartures)
	if c.silent, err = newSilentSubjects(c.nc, c.inbox); err != nil {
		return fmt.Errorf("subscribe to the inbox: %w", err)
	}
	return nil
}

// connect makes one of the two connections. It calls lost when the connection breaks.
func (c *Conn) connect(suffix string, onLost func()) (*nats.Conn, error) {
	opts := []nats.Option{
		nats.Name("millrace node " + c.cfg.Name + suffix), nats.CustomInboxPrefix(c.inbox), nats.MaxReconnects(-1),
		nats.ReconnectWait(100 * time.Millisecond), nats.ReconnectBufSize(-1), nats.PermissionErrOnSubscribe(true),
		nats.SkipSubjectValidation(), // every subject is built from checked names
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(err, onLost) }),
		nats.ReconnectHandler(c.reconnected), nats.ErrorHandler(c.asyncError),
	}
	if c.cfg.InProcess != nil {
		opts = append(opts, nats.InProcessServer(c.cfg.InProcess), nats.UserInfo(c.cfg.User, c.cfg.Password))
	} else {
		opts = append(opts, nats.PingInterval(pingEvery), nats.MaxPingsOutstanding(pingsOut))
	}
	nc, err := nats.Connect(c.cfg.URL, opts...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return nc, nil
}

// subscribeInbox subscribes and waits until the server knows the subscription, which also warms up the connection.
func (c *Conn) subscribeInbox(ctx context.Context, nc *nats.Conn, subject string, deliver nats.MsgHandler, messages,
	bytes int,
) error {
	sub, err := nc.Subscribe(subject, deliver)
	if err == nil {
		err = sub.SetPendingLimits(messages, bytes)
	}
	if err == nil {
		err = flush(ctx, nc)
	}
	if err != nil {
		return fmt.Errorf("subscribe to the inbox: %w", err)
	}
	return nil
}

// NATS returns the NATS connection, for checks and for what mesh doesn't cover. It is nil before Open.
func (c *Conn) NATS() *nats.Conn { return c.nc }

// Up reports whether NATS is connected.
func (c *Conn) Up() bool { return c.nc != nil && c.nc.IsConnected() }

// SetStreamIdle sets how long a stream may be without a byte in either direction before it is ended; 0 means forever.
func (c *Conn) SetStreamIdle(d time.Duration) { c.streams.idle.Store(int64(d)) }

// Streams returns the number of body streams.
func (c *Conn) Streams() int { return c.streams.count() }

// Close closes the connection and fails every waiting call. Shut services down first. It may be called again.
func (c *Conn) Close() error {
	c.closed.Store(true)
	c.closeOnce.Do(func() {
		if c.nc == nil {
			return
		}
		if c.nc.IsConnected() {
			_ = c.nc.FlushTimeout(time.Second) // flush pending replies; a broken connection has none
		}
		c.waiting.close()
		c.nc.Close()
		c.mux.connectionLost()
		c.announcing.Wait()
		if c.streams.nc == nil {
			return
		}
		c.streams.close()
		c.streams.nc.Close()
	})
	return nil
}

func (c *Conn) disconnected(err error, onLost func()) {
	if !c.closed.Load() {
		c.cfg.Log.Warn("mesh connection lost", "cause", err)
	}
	onLost()
}

func (c *Conn) reconnected(*nats.Conn) {
	c.cfg.Log.Info("mesh connection restored")
}

// asyncError logs an asynchronous error of a subscription: a slow consumer or a refused permission.
func (c *Conn) asyncError(_ *nats.Conn, sub *nats.Subscription, err error) {
	subject := ""
	if sub != nil {
		subject = sub.Subject
	}
	c.cfg.Log.Error("mesh subscription failed", "subject", subject, "cause", err)
}

// flush waits until the server has processed what was sent, for at most ten seconds, since NATS requires a deadline.
func flush(ctx context.Context, nc *nats.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return nc.FlushWithContext(ctx)
}
