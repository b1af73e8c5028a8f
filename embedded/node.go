package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/edge"
	"millrace/edge/admin"
	"millrace/embedded/logs"
	"millrace/embedded/machine"
	"millrace/embedded/memberapi"
	"millrace/embedded/natsserver"
	"millrace/kvcache"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/config"
	"millrace/node/state"
)

// Options say what a Node is made of.
type Options struct {
	Config     node.Config  // must have passed Validate
	ConfigText string       // the configuration as written, for its history; may be empty
	ConfigPath string       // file that Reload reads; empty if there is none
	Log        *slog.Logger // nil means that nobody reads it
	// bytes that the node may have; 0 means what cgroups, limits and the machine leave the process
	Memory  int64
	Version string // of the binary, without spaces, for status and other nodes; empty means unknown
}

// Node is one Millrace node. Its methods are safe for concurrent use after Open.
type Node struct {
	opts    Options
	log     *slog.Logger
	guard   *logs.Handler // of log
	started time.Time

	state     *state.Store
	identity  state.Identity
	nats      *natsserver.Server // nil with mesh.url
	mesh      *mesh.Conn
	members   atomic.Pointer[mesh.Members] // nil until they are open, which is after the edge serves
	cache     *kvcache.Cache
	limits    *limit.Limiter
	upstreams *upstream.Set
	edge      *edge.Server
	admin     *admin.Server
	storage   *storage
	sizes     sizes
	memory    machine.Memory
	scarce    atomic.Pointer[string] // what is to be said of memory; empty if nothing is

	closers  []closer // what is open, in the order of opening
	draining atomic.Bool
	roles    atomic.Pointer[[]string] // as other nodes are told
	joined   atomic.Bool              // JetStream has been current since the start
	cached   atomic.Bool              // the purges have been followed since the start
	limited  atomic.Bool              // the store of limits could be asked since the start

	purgesLost atomic.Pointer[time.Time] // when the log of purges was lost last; nil if it wasn't

	stopOnce sync.Once
	stopErr  error

	hurried   chan struct{} // closed by Hurry
	hurryOnce sync.Once
	lingered  atomic.Bool // Shutdown has stopped listening, or is about to

	rates   *rates
	refused atomic.Pointer[admin.RefusedReload] // nil unless the last reload was refused
	waiting atomic.Pointer[[]string]            // keys that wait for a restart; nil before the first reload

	waits     context.Context //nolint:containedctx // ends what a reload waits for
	stopWaits context.CancelFunc

	gc         atomic.Pointer[GC]          // nil unless the program gave it
	revision   atomic.Int64                // of the configuration that was saved last
	reloadTime time.Duration               // the constant; tests have less time
	reloading  sync.Mutex                  // held by a reload, whole; guards config
	config     node.Config                 // that is applied now
	applied    atomic.Pointer[node.Config] // the same, for whoever can't wait for a reload
}

// closer is one opened part: how to end it, under a name for errors.
type closer struct {
	name  string
	close func() error
}

// New checks the options. Open starts.
func New(opts Options) (*Node, error) {
	if problems := opts.Config.Validate(); len(problems) > 0 {
		return nil, fmt.Errorf("configure node: %s", problems[0].Message)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	opts.Version = cmp.Or(opts.Version, "unknown")
	n := &Node{opts: opts, config: opts.Config, reloadTime: reloadTime, hurried: make(chan struct{})}
	n.guardLog(opts.Log, &opts.Config)
	n.applied.Store(&n.opts.Config)
	n.waits, n.stopWaits = context.WithCancel(context.Background())
	return n, nil
}

// Open starts the node and returns when it serves. Errors that a caller may want to tell apart: state.ErrNewer,
// state.ErrInUse, state.ErrForeign, natsserver.ErrPortInUse, natsserver.ErrClusterPortInUse, natsserver.ErrNameInUse,
// natsserver.ErrMode, edge.ErrPortInUse, admin.ErrPortInUse.
func (n *Node) Open(ctx context.Context) error {
	n.started = time.Now()
	steps := []func(context.Context) error{
		n.measureMemory, n.openState, n.openNATS, n.openMesh, n.openUpstreams, n.measureDisk, n.openCache, n.openLimits,
		n.openEdge, n.openHome, n.openMemberAPI, n.awaitCache,
		n.awaitLimits, n.announce, n.openMembers, n.openStorage, n.openRates, n.openAdmin, n.tellRunning,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			if n.state != nil {
				n.record("start-failed", err.Error())
			}
			return errors.Join(err, n.Close())
		}
	}
	return nil
}

func (n *Node) opened(name string, closeIt func() error) {
	n.closers = append(n.closers, closer{name, closeIt})
}

// openNATS starts the embedded server, unless an existing one is used.
func (n *Node) openNATS(ctx context.Context) error {
	m := n.opts.Config.Mesh
	if m.URL != "" {
		return nil
	}
	token := m.Token
	if token == "" {
		var err error
		if token, err = n.state.Secret(ctx, "mesh-token"); err != nil {
			return fmt.Errorf("make the member token: %w", err)
		}
	}
	if !m.Listen.Loopback() {
		n.log.WarnContext(ctx, "NATS listens beyond loopback without TLS: the token travels in clear; keep the "+
			"network private", "address", string(m.Listen))
	}
	server, err := natsserver.New(natsserver.Config{
		Name: n.opts.Config.Node.Name, Dir: filepath.Join(n.opts.Config.Node.Data, "jetstream"),
		Listen:      string(m.Listen),
		MemberToken: token, MemberSubjects: plainSubjects(n.opts.Config.Routes), Log: n.log,
		Cluster: n.clusterConfig(ctx), Rebuilt: []string{limit.StreamName(meshPrefix(m))}, Refused: newRefusals(n).tell,
	})
	if err != nil {
		return fmt.Errorf("configure NATS: %w", err)
	}
	if err := server.Open(ctx); err != nil {
		return openNATSError(err)
	}
	n.nats = server
	n.opened("NATS", server.Close)
	return nil
}

// plainSubjects lists what members may serve besides http.>: the subjects of nats: routes.
func plainSubjects(routes []node.Route) []string {
	var out []string
	for _, r := range routes {
		if r.To.Kind == node.KindNATS {
			out = append(out, r.To.Subject.Wildcard())
		}
	}
	return out
}

func (n *Node) openMesh(ctx context.Context) error {
	m := n.opts.Config.Mesh
	cfg := mesh.Config{Name: n.opts.Config.Node.Name, URL: m.URL, Prefix: m.Prefix, Local: m.Local, Log: n.log}
	if n.nats != nil {
		cfg.InProcess, cfg.Interest = n.nats, n.nats
		cfg.User, cfg.Password = n.nats.NodeCredential()
	}
	conn, err := mesh.New(cfg)
	if err != nil {
		return fmt.Errorf("configure mesh: %w", err)
	}
	if err := conn.Open(ctx); err != nil {
		return fmt.Errorf("open mesh (mesh.url): %w", err)
	}
	n.mesh = conn
	n.opened("mesh", conn.Close)
	if n.nats != nil {
		n.nats.OnGone(conn.MembersGone)
	}
	if m.URL != "" {
		if err := conn.Check(ctx); err != nil {
			return fmt.Errorf("open mesh (mesh.url): %w", err)
		}
	}
	return nil
}

func (n *Node) openUpstreams(ctx context.Context) error {
	set, err := upstream.New(upstream.Config{Conn: n.mesh, Log: n.log, Changed: n.record})
	if err != nil {
		return fmt.Errorf("configure upstreams: %w", err)
	}
	n.upstreams = set
	n.opened("upstreams", set.Close)
	if err := set.Apply(ctx, n.opts.Config.Upstreams); err != nil {
		return fmt.Errorf("open upstreams: %w", err)
	}
	return nil
}

func (n *Node) openEdge(ctx context.Context) error {
	fitted := n.fit(&n.opts.Config)
	server, err := edge.New(edge.Config{
		Node: n.opts.Config.Node.Name, ID: n.identity.ID, Edge: fitted.Edge, Routes: n.opts.Config.Named(),
		Mesh: n.mesh, Log: n.log,
		Cache: n.cache, Limits: n.limits, Store: fitted.Cache, Peers: n.edgePeers(),
	})
	if err != nil {
		return fmt.Errorf("configure edge: %w", err)
	}
	if err := server.Open(ctx); err != nil {
		return fmt.Errorf("open edge (edge.listen): %w", err)
	}
	n.edge = server
	n.opened("edge", server.Close)
	return nil
}

func (n *Node) openAdmin(ctx context.Context) error {
	server := admin.New(n.opts.Config.Admin, admin.Node{
		Status: n, Routes: n, Metrics: n, Purges: n, Limits: n, Reload: n, Tail: n,
	}, n.log)
	if err := server.Open(ctx); err != nil {
		return fmt.Errorf("open admin API (admin.listen): %w", err)
	}
	n.admin = server
	n.opened("admin API", server.Close)
	return nil
}

// openMemberAPI lets members use the node.
func (n *Node) openMemberAPI(ctx context.Context) error {
	server := memberapi.New(memberapi.Config{
		Conn: n.mesh, Values: n.cache.Values(), Limits: limitsAPI{n.limits}, Gather: gatherAPI{n.edge, n},
		Applied: n.applied.Load, Log: n.log,
	})
	n.opened("the members' API", server.Close)
	return server.Open(ctx) //nolint:wrapcheck // it says what it was
}

// gatherAPI is the edge as members see it.
type gatherAPI struct {
	*edge.Server
	n *Node
}

// FollowPurges makes the cache ready for calls that are cached.
func (g gatherAPI) FollowPurges(ctx context.Context) error { return g.n.followPurges(ctx) }

// meshPrefix is what the subjects of the mesh begin with, dot included.
func meshPrefix(m node.Mesh) string {
	if m.Prefix == "" {
		return ""
	}
	return m.Prefix + "."
}

// announce writes down that the node runs: the members' URL, the configuration as a good one, and the journal. A node
// whose disk is full serves all the same.
func (n *Node) announce(ctx context.Context) error {
	if n.nats != nil {
		path := filepath.Join(n.opts.Config.Node.Data, "client.url")
		if err := writePrivate(path, n.nats.ClientURL()+"\n"); err != nil {
			n.log.ErrorContext(ctx, "the members' URL can't be written: members that read it may not find the node",
				"file", path, "cause", err)
		}
	}
	revision, err := n.saveConfig(ctx, n.opts.Config, n.opts.ConfigText)
	if err != nil {
		n.log.ErrorContext(ctx, "the configuration can't be saved", "cause", err)
	}
	n.revision.Store(revision)
	n.recordStart(ctx)
	return nil
}

func (n *Node) saveConfig(ctx context.Context, cfg node.Config, text string) (int64, error) {
	if text == "" {
		b, err := config.Marshal(&cfg)
		if err != nil {
			return 0, fmt.Errorf("write the configuration down: %w", err)
		}
		text = string(b)
	}
	source := n.opts.ConfigPath
	if source == "" {
		source = "command line"
	}
	saved, err := n.state.SaveConfig(ctx, text, source)
	if err != nil {
		return 0, fmt.Errorf("save the configuration: %w", err)
	}
	return saved.Revision, nil
}

// writePrivate replaces a file whole, readable by its owner only. One that has the text already is left as it is.
func writePrivate(path, text string) error {
	if before, err := os.ReadFile(path); err == nil && string(before) == text {
		return os.Chmod(path, 0o600) //nolint:wrapcheck // the caller says what was written
	}
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o600); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	return os.Rename(temp, path) //nolint:wrapcheck // see above
}

// record writes an event into the journal. A journal that can't be written must not stop a node that serves.
func (n *Node) record(kind, detail string) {
	detail = n.guard.Secrets().Hide(detail)
	if err := n.state.Record(context.Background(), kind, detail); err != nil {
		n.log.Warn("journal not written", "kind", kind, "cause", err)
	}
}

// Shutdown ends the node without dropping a request, in this order: readyz answers 503 and each response ends its
// connection for the linger; the listener closes and what runs is finished; members leave their groups and finish;
// mesh, NATS, admin API and state close. A reload that runs ends before the members leave, and none begins. When ctx
// ends, what is left is cut off.
func (n *Node) Shutdown(ctx context.Context) error {
	n.draining.Store(true)
	if n.edge != nil && n.admin != nil {
		n.record("stop", "draining")
		n.edge.Drain()
		n.linger(ctx)
		n.lingered.Store(true)
	}
	var errs []error
	if n.edge != nil {
		errs = append(errs, n.edge.Shutdown(ctx))
	}
	n.awaitReload(ctx)
	if n.upstreams != nil {
		errs = append(errs, n.upstreams.Shutdown(ctx))
	}
	return errors.Join(append(errs, n.Close())...)
}

// awaitReload waits for the reload that runs. What that waits for itself is cut off when ctx ends. The caller has set
// draining, so none follows.
func (n *Node) awaitReload(ctx context.Context) {
	defer context.AfterFunc(ctx, n.stopWaits)()
	n.reloading.Lock()
	defer n.reloading.Unlock()
}

// Close ends the node at once, in the reverse order of its opening. While a Shutdown runs it waits for that.
func (n *Node) Close() error {
	n.draining.Store(true)
	n.stopWaits()
	n.awaitReload(context.Background())
	n.stopOnce.Do(func() {
		var errs []error
		for _, c := range slices.Backward(n.closers) {
			if err := c.close(); err != nil {
				errs = append(errs, fmt.Errorf("close %s: %w", c.name, err))
			}
		}
		n.stopErr = errors.Join(errs...)
		n.guard.Close()
	})
	return n.stopErr
}

// Mesh gives the node's connection, for Go programs that add services or make requests. Nil before Open.
func (n *Node) Mesh() *mesh.Conn { return n.mesh }

// EdgeURL is where HTTP clients connect. Call it after Open.
func (n *Node) EdgeURL() string { return "http://" + node.Address(n.edge.Addr().String()).Dial() }

// AdminURL is where the operator connects. Call it after Open.
func (n *Node) AdminURL() string { return "http://" + node.Address(n.admin.Addr()).Dial() }

// ClientURL is where members connect, token included: keep it secret. With mesh.url it is that. Call it after Open.
func (n *Node) ClientURL() string {
	if n.nats == nil {
		return n.opts.Config.Mesh.URL
	}
	return n.nats.ClientURL()
}

// UseGC lets a reload make garbage without the collector at work beside it. See TuneGC.
func (n *Node) UseGC(gc *GC) { n.gc.Store(gc) }

// Log is the node's logger.
func (n *Node) Log() *slog.Logger { return n.log }

// Reloadable reports whether there is a configuration file to read again.
func (n *Node) Reloadable() bool { return n.opts.ConfigPath != "" }
