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
	opts  Options
	logs  *logs.Handler // of log
	log   *slog.Logger
	parts *parts
	pages admin.Node // what the operator is answered from

	order  []part // of the parts, as they open
	opened []part // the beginning of order that Open has come to

	stopOnce sync.Once
	stopErr  error
}

// part is one component of a node, as Open and Close see it.
type part struct {
	name  string // as an error of close calls it
	open  func(ctx context.Context) error
	close func() error // also called when open has failed; nil if there is nothing to close
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
	n := &Node{opts: opts, logs: logs.New(opts.Log.Handler())}
	hideSecrets(n.logs.Secrets(), &opts.Config)
	n.log = slog.New(n.logs).With("node", opts.Config.Node.Name)
	n.parts = newParts(n)
	n.order = n.parts.order()
	return n, nil
}

// Open starts the node and returns when it serves. Errors that a caller may want to tell apart: state.ErrNewer,
// state.ErrInUse, state.ErrForeign, natsserver.ErrPortInUse, natsserver.ErrClusterPortInUse, natsserver.ErrNameInUse,
// natsserver.ErrMode, edge.ErrPortInUse, admin.ErrPortInUse.
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

// Shutdown ends the node without dropping a request, in this order: readyz answers 503 and each response ends its
// connection for the linger; the listener closes and what runs is finished; members leave their groups and finish;
// mesh, NATS, admin API and state close. A reload that runs ends before the members leave, and none begins. When ctx
// ends, what is left is cut off.
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

// Close ends the node at once, in the reverse order of its opening. While a Shutdown runs it waits for that.
func (n *Node) Close() error {
	n.parts.life.draining.Store(true)
	n.parts.upstreams.cutOff()
	_ = n.parts.reloads.shutdown(context.Background()) // it has no error
	n.stopOnce.Do(func() {
		n.stopErr = closeAll(n.opened)
		n.logs.Close()
	})
	return n.stopErr
}

// closeAll closes parts in the reverse order and gathers what goes wrong.
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

// Hurry lets a Shutdown, one that runs or the one to come, end its linger as soon as nobody uses the node. The linger
// is there for load balancers, which need time to see that a node goes away; a person who stops a node by hand needn't
// wait for them.
func (n *Node) Hurry() { n.parts.linger.hurry() }

// Waiting is the number of requests that a Shutdown waits for: those that run, and, once it doesn't listen any more,
// those whose clients still send or read.
func (n *Node) Waiting() int { return n.parts.linger.waiting() }

// Reload reads the configuration file again and applies what can change while the node serves. A file with mistakes
// changes nothing; the error names all of them. Once begun it isn't ended by the caller's going away: half a
// configuration would be worse than either. What is applied stays applied: if requests had to be cut off, or the
// configuration can't be saved, the result has a warning, as it has for what the file itself is warned about. The log
// tells of a refusal too, whoever asked.
func (n *Node) Reload(ctx context.Context) (admin.Reloaded, error) {
	return n.parts.reloads.Reload(ctx)
}

// Reloadable reports whether there is a configuration file to read again.
func (n *Node) Reloadable() bool { return n.opts.ConfigPath != "" }

// UseGC lets a reload make garbage without the collector at work beside it. See TuneGC.
func (n *Node) UseGC(gc *GC) { n.parts.reloads.gc.Store(gc) }

// Log is the node's logger.
func (n *Node) Log() *slog.Logger { return n.log }

// hideSecrets lets the secrets of a configuration be hidden from now on, besides those before.
func hideSecrets(secrets *logs.Secrets, cfg *node.Config) {
	secrets.Add(cfg.Admin.Token, cfg.Mesh.Token, cfg.Mesh.Cluster.Token)
	u, err := url.Parse(cfg.Mesh.URL)
	if err != nil || u.User == nil {
		return
	}
	if password, ok := u.User.Password(); ok {
		secrets.Add(password)
		return
	}
	secrets.Add(u.User.Username()) // a token stands there
}
