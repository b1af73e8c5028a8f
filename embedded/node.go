package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"millrace/edge/admin"
	"millrace/embedded/logs"
	"millrace/node"
)

// Options configure a Node.
type Options struct {
	Config     node.Config  // must have passed Validate
	ConfigText string       // the configuration as it was written, kept as history; may be empty
	ConfigPath string       // the file that Reload reads; empty if there is none
	Log        *slog.Logger // nil discards the log
	// Memory is how many bytes the node may use. 0 means what cgroups, process limits and the machine allow.
	Memory  int64
	Version string // of the binary, without spaces, for status and other nodes; empty means "unknown"
}

// Node is one Millrace node. Its methods are safe for concurrent use after Open.
type Node struct {
	opts  Options
	logs  *logs.Handler // the handler of log
	log   *slog.Logger
	parts *parts
	admin admin.Node // answers the operator; the exported methods of Node use it too

	order  []part // all parts, in the order in which they open
	opened []part // the parts of order that Open has tried to open

	stopOnce sync.Once
	stopErr  error
}

// part is one component of a node, as Open and Close use it.
type part struct {
	name  string // names the part in an error of close
	open  func(ctx context.Context) error
	close func() error // also called after open has failed; nil if there is nothing to close
}

// New checks the options and allocates the parts. It starts nothing.
func New(opts Options) (*Node, error) {
	if problems := opts.Config.Validate(); len(problems) > 0 {
		return nil, fmt.Errorf("configure node: %s", problems[0].Message)
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	opts.Version = cmp.Or(opts.Version, "unknown")
	n := &Node{opts: opts, logs: logs.New(opts.Log.Handler())}
	hideSecrets(n.logs.Secrets(), &opts.Config)
	n.log = slog.New(n.logs).With("node", opts.Config.Node.Name)
	n.parts = newParts(n)
	n.order = n.parts.order()
	return n, nil
}

// Open starts the node and returns when it serves requests. If a part fails to open, Open closes those that are open
// already. Errors that a caller may branch on: state.ErrNewer, state.ErrInUse, state.ErrForeign,
// natsserver.ErrPortInUse, natsserver.ErrClusterPortInUse, natsserver.ErrNameInUse, natsserver.ErrMode,
// edge.ErrPortInUse, admin.ErrPortInUse.
func (n *Node) Open(ctx context.Context) error {
	n.parts.life.started = time.Now()
	for i, p := range n.order {
		n.opened = n.order[:i+1]
		if err := p.open(ctx); err != nil {
			n.parts.state.record("start-failed", err.Error())
			return errors.Join(err, n.Close())
		}
	}
	n.parts.life.open.Store(true)
	return nil
}

// Shutdown ends the node without dropping a request:
//
//  1. readyz answers 503, and for the linger each response closes its connection.
//  2. The listener closes, and running requests finish.
//  3. A running reload finishes, and no other starts.
//  4. The upstream members leave their queue groups and finish.
//  5. Mesh, NATS, admin API and state close.
//
// When ctx ends, what still runs is canceled.
func (n *Node) Shutdown(ctx context.Context) error {
	n.parts.life.draining.Store(true)
	var errs []error
	if n.parts.life.open.Load() {
		for _, drain := range n.parts.drains() {
			errs = append(errs, drain(ctx))
		}
	}
	return errors.Join(append(errs, n.Close())...)
}

// Close stops the node at once. The parts close in the reverse order of opening. During a Shutdown, Close waits for it.
// Further calls return the result of the first.
func (n *Node) Close() error {
	n.parts.life.draining.Store(true)
	n.parts.upstreams.cutOff()
	_ = n.parts.reloads.shutdown(context.Background()) // always nil
	n.stopOnce.Do(func() {
		n.stopErr = closeAll(n.opened)
		n.logs.Close()
	})
	return n.stopErr
}

// closeAll closes parts in reverse order and joins their errors.
func closeAll(opened []part) error {
	var errs []error
	for _, p := range slices.Backward(opened) {
		if p.close == nil {
			continue
		}
		if err := p.close(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// EndLingerWhenIdle makes the linger of a Shutdown, running or still to come, end as soon as no client uses the node.
// The linger gives load balancers time to notice that a node goes away. Somebody who stops a node by hand need not wait
// for that.
func (n *Node) EndLingerWhenIdle() { n.parts.linger.endWhenIdle() }

// Waiting returns the number of requests that a Shutdown waits for: those that run and, once the listener is closed,
// those whose clients still send or read.
func (n *Node) Waiting() int { return n.parts.linger.waiting() }

// Reload reads the configuration file again and applies what can change while the node serves. If the file has
// mistakes, nothing changes and the error names all of them.
//
// A reload that has started is not canceled with ctx: half a configuration would be worse than the old or the new one.
// What was applied stays applied. The result has a warning for each warning of the file, for requests that had to be
// canceled, and for a configuration that could not be saved. A refused reload is also logged.
func (n *Node) Reload(ctx context.Context) (admin.Reloaded, error) {
	return n.parts.reloads.Reload(ctx)
}

// Reloadable reports whether the node has a configuration file that Reload can read.
func (n *Node) Reloadable() bool { return n.opts.ConfigPath != "" }

// UseGC lets reloads allow more garbage, so that the collector does not compete with requests. See TuneGC.
func (n *Node) UseGC(gc *GC) { n.parts.reloads.gc.Store(gc) }

// Log returns the node's logger.
func (n *Node) Log() *slog.Logger { return n.log }

// hideSecrets adds the secrets of a configuration to those that the log hides.
func hideSecrets(secrets *logs.Secrets, cfg *node.Config) {
	secrets.Add(cfg.Admin.Token, cfg.Mesh.Token, cfg.Mesh.Cluster.Token)
	if l := cfg.Mesh.Leaf; l != nil {
		secrets.Add(l.Token)
	}
	if l := cfg.Mesh.Leafs; l != nil {
		secrets.Add(l.Token)
	}
	for _, site := range cfg.Sites.Named {
		secrets.Add(site.Token)
	}
	u, err := url.Parse(cfg.Mesh.URL)
	if err != nil || u.User == nil {
		return
	}
	if password, ok := u.User.Password(); ok {
		secrets.Add(password)
		return
	}
	secrets.Add(u.User.Username()) // without a password, the user name is a token
}
