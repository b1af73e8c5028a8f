package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/edge/admin"
	"millrace/embedded/logs"
	"millrace/node"
	"millrace/node/config"
)

// saveTime bounds how long a reload waits for the state. Each wait of a reload has a bound of its own, so a slow
// request can't use up the time of what follows.
const saveTime = 10 * time.Second

// change lets a part apply another configuration while it serves. routes are those of cfg, all with names. The warnings
// say what couldn't be applied.
type change func(ctx context.Context, cfg *node.Config, routes []node.Route) (warnings []string)

// reloads applies the configuration file again while the node serves. It implements admin.Reloader.
type reloads struct {
	opts      *Options // Config is the configuration at the start
	log       *slog.Logger
	secrets   *logs.Secrets
	applied   *atomic.Pointer[node.Config] // the configuration that is applied now
	life      *lifecycle
	state     *stateFile
	upstreams *upstreams
	nodes     *nodes
	changes   []change // of the parts, in the order in which they run

	gc           atomic.Pointer[GC]                  // nil unless UseGC was called
	refused      atomic.Pointer[admin.RefusedReload] // nil unless the last reload was refused
	needsRestart atomic.Pointer[[]string]            // keys that only a restart applies; nil before the first reload
	mu           sync.Mutex                          // held for a whole reload; guards writes of applied
}

// Reload implements Node.Reload.
func (r *reloads) Reload(ctx context.Context) (done admin.Reloaded, err error) {
	defer func() {
		if err != nil {
			r.log.ErrorContext(ctx, "reload refused", "cause", err)
		}
	}()
	if r.opts.ConfigPath == "" {
		return admin.Reloaded{},
			errors.New("the node was started without a configuration file: there is nothing to read again")
	}
	ctx = context.WithoutCancel(ctx)
	r.mu.Lock() // before the file is read: the text that was read last must be applied last
	defer r.mu.Unlock()
	if r.life.draining.Load() { // applying would start the upstreams again
		return admin.Reloaded{}, errors.New("nothing was changed: the node is shutting down")
	}
	defer func() { r.recordOutcome(&done, err) }()
	defer r.gc.Load().AllowGarbage(reloadGarbage(r.opts.ConfigPath))()
	file, err := config.Read(r.opts.ConfigPath)
	if err != nil {
		r.state.record("reload-refused", err.Error())
		return admin.Reloaded{}, fmt.Errorf("nothing was changed:\n%w", err)
	}
	hideSecrets(r.secrets, file.Config)
	warnings, err := r.apply(ctx, file.Config)
	if err != nil {
		r.state.record("reload-refused", err.Error())
		return admin.Reloaded{}, err
	}
	return r.saveAndReport(ctx, &file, warnings), nil
}

// apply changes upstreams and routes so that each request finds the upstream of its route:
//
//  1. New upstreams join.
//  2. Limits, routes and the rest change.
//  3. Removed upstreams leave.
//
// If an upstream can't start, the old upstreams are restored and nothing else changes. The caller holds mu.
func (r *reloads) apply(ctx context.Context, cfg *node.Config) (warnings []string, err error) {
	cut, err := r.upstreams.join(ctx, r.applied.Load(), cfg)
	if err != nil {
		return nil, err
	}
	routes := cfg.Named()
	for _, change := range r.changes {
		warnings = append(warnings, change(ctx, cfg, routes)...)
	}
	r.applied.Store(cfg)
	return slices.Concat(warnings, cut, r.upstreams.leave(ctx, cfg)), nil
}

// saveAndReport saves an applied configuration and tells the journal, the log and the other nodes, even if it can't be
// saved.
func (r *reloads) saveAndReport(ctx context.Context, file *config.File, warnings []string) (done admin.Reloaded) {
	done = admin.Reloaded{
		Revision: r.state.revision.Load(), NeedsRestart: needsRestart(&r.opts.Config, file.Config), Warnings: warnings,
	}
	for _, w := range file.Warnings {
		done.Warnings = append(done.Warnings, w.Place()+": "+w.Message)
	}
	save, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	revision, err := r.state.save(save, file.Config, string(file.Text))
	detail := fmt.Sprintf("revision %d", revision)
	if err != nil {
		detail = fmt.Sprintf("applied, but not saved: %s", err)
		done.Warnings = append(done.Warnings, detail)
	} else {
		r.state.revision.Store(revision)
		done.Revision = revision
	}
	r.nodes.announce()
	r.state.record("reload", detail)
	for _, w := range done.Warnings {
		r.log.WarnContext(ctx, "configuration reloaded with a warning", "warning", w)
	}
	r.log.InfoContext(ctx, "configuration reloaded", "revision", done.Revision, "needs_restart", done.NeedsRestart)
	return done
}

// recordOutcome keeps the outcome of a reload for status.
func (r *reloads) recordOutcome(done *admin.Reloaded, err error) {
	if err != nil {
		r.refused.Store(&admin.RefusedReload{Since: time.Now(), Error: err.Error()})
		return
	}
	r.refused.Store(nil)
	r.needsRestart.Store(&done.NeedsRestart)
}

func (r *reloads) status(st *admin.Status) {
	st.RefusedReload, st.NeedsRestart = r.refused.Load(), []string{}
	if waiting := r.needsRestart.Load(); waiting != nil {
		st.NeedsRestart = *waiting
	}
}

// shutdown waits for a running reload. When ctx ends, it cancels what the reload waits for. The caller has set
// draining, so no other reload starts.
func (r *reloads) shutdown(ctx context.Context) error {
	defer context.AfterFunc(ctx, r.upstreams.cutOff)()
	r.mu.Lock()
	defer r.mu.Unlock()
	return nil
}

// reloadGarbage estimates the garbage of reading and applying a file: some hundred times its size.
func reloadGarbage(path string) uint64 {
	const times, most = 300, 256 << 20
	info, err := os.Stat(path)
	if err != nil { // reading the file returns the error
		return 0
	}
	return min(times*uint64(max(info.Size(), 0)), most)
}

// needsRestart returns the keys that differ and can't change while a node runs.
func needsRestart(old, cfg *node.Config) []string {
	keys := []struct {
		name   string
		differ bool
	}{
		{"node", old.Node != cfg.Node},
		{"admin", old.Admin != cfg.Admin},
		{"cache", !reflect.DeepEqual(old.Cache, cfg.Cache)},
		{"mesh", !reflect.DeepEqual(old.Mesh, cfg.Mesh)},
		{"edge.listen", old.Edge.Listen != cfg.Edge.Listen},
		{"edge.write_timeout", old.Edge.WriteTimeout != cfg.Edge.WriteTimeout},
		{"edge.linger", old.Edge.Linger != cfg.Edge.Linger},
	}
	out := []string{}
	for _, k := range keys {
		if k.differ {
			out = append(out, k.name)
		}
	}
	return out
}
