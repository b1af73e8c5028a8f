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

// saveTime bounds how long a reload waits for the state. Each wait of a reload has its whole time: what one has used up
// isn't missing in the next, so a slow request can cost no more than itself.
const saveTime = 10 * time.Second

// change lets a part apply another configuration while it serves. The routes are those of cfg, each with a name. The
// warnings say what couldn't be applied.
type change func(ctx context.Context, cfg *node.Config, routes []node.Route) (warnings []string)

// reloads apply the configuration file anew while the node serves. It is admin.Reloader.
type reloads struct {
	opts      *Options // with the configuration that the node was started with
	log       *slog.Logger
	secrets   *logs.Secrets
	applied   *atomic.Pointer[node.Config] // the configuration that is applied now
	life      *lifecycle
	state     *stateFile
	upstreams *upstreams
	nodes     *nodes
	changes   []change // of the parts, in the order in which they are made

	gc      atomic.Pointer[GC]                  // nil unless the program gave it
	refused atomic.Pointer[admin.RefusedReload] // nil unless the last reload was refused
	waiting atomic.Pointer[[]string]            // keys that wait for a restart; nil before the first reload
	mu      sync.Mutex                          // held by a reload, whole; guards writes of applied
}

// Reload is Node.Reload.
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
	r.mu.Lock() // reads too: the file that was read last must be the one that is applied last
	defer r.mu.Unlock()
	if r.life.draining.Load() { // or the upstreams would come back to life
		return admin.Reloaded{}, errors.New("nothing was changed: the node is shutting down")
	}
	defer func() { r.note(&done, err) }()
	defer r.gc.Load().Room(reloadGarbage(r.opts.ConfigPath))()
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
	return r.tell(ctx, &file, warnings), nil
}

// apply changes upstreams and routes so that no request meets a gap: first what is new joins, then the routes change,
// then what is gone leaves. If an upstream can't start, all becomes as it was. The caller holds mu.
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

// tell saves a configuration that is applied and tells of it: the journal, the log and the other nodes hear of it even
// if it can't be saved.
func (r *reloads) tell(ctx context.Context, file *config.File, warnings []string) (done admin.Reloaded) {
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

// note remembers for status what came of a reload.
func (r *reloads) note(done *admin.Reloaded, err error) {
	if err != nil {
		r.refused.Store(&admin.RefusedReload{Since: time.Now(), Error: err.Error()})
		return
	}
	r.refused.Store(nil)
	r.waiting.Store(&done.NeedsRestart)
}

func (r *reloads) status(st *admin.Status) {
	st.RefusedReload, st.NeedsRestart = r.refused.Load(), []string{}
	if waiting := r.waiting.Load(); waiting != nil {
		st.NeedsRestart = *waiting
	}
}

// shutdown waits for the reload that runs. What that waits for itself is cut off when ctx ends. The caller has set
// draining, so none follows.
func (r *reloads) shutdown(ctx context.Context) error {
	defer context.AfterFunc(ctx, r.upstreams.cutOff)()
	r.mu.Lock()
	defer r.mu.Unlock()
	return nil
}

// reloadGarbage estimates what reading a file and applying it leaves behind: some hundred times the file.
func reloadGarbage(path string) uint64 {
	const times, most = 300, 256 << 20
	info, err := os.Stat(path)
	if err != nil { // reading it will tell
		return 0
	}
	return min(times*uint64(max(info.Size(), 0)), most)
}

// needsRestart names the keys that differ and can't change while a node runs.
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
