package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"time"

	"millrace/edge/admin"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/config"
)

// Bounds on what a reload waits for. Each wait has its whole time: what one has used up isn't missing in the next, so a
// slow request can cost no more than itself.
const (
	reloadTime = time.Minute      // for requests on an upstream that leaves
	saveTime   = 10 * time.Second // for the state
)

// Reload reads the configuration file again and applies what can change while the node serves. A file with mistakes
// changes nothing; the error names all of them. Once begun it isn't ended by the caller's going away: half a
// configuration would be worse than either. What is applied stays applied: if requests had to be cut off, or the
// configuration can't be saved, the result has a warning, as it has for what the file itself is warned about. The log
// tells of a refusal too, whoever asked.
func (n *Node) Reload(ctx context.Context) (done admin.Reloaded, err error) {
	defer func() {
		if err != nil {
			n.log.ErrorContext(ctx, "reload refused", "cause", err)
		}
	}()
	if n.opts.ConfigPath == "" {
		return admin.Reloaded{},
			errors.New("the node was started without a configuration file: there is nothing to read again")
	}
	ctx = context.WithoutCancel(ctx)
	n.reloading.Lock() // reads too: the file that was read last must be the one that is applied last
	defer n.reloading.Unlock()
	if n.draining.Load() { // or the upstreams would come back to life
		return admin.Reloaded{}, errors.New("nothing was changed: the node is shutting down")
	}
	defer func() { n.noteReload(&done, err) }()
	defer n.gc.Load().Room(reloadGarbage(n.opts.ConfigPath))()
	file, err := config.Read(n.opts.ConfigPath)
	if err != nil {
		n.record("reload-refused", err.Error())
		return admin.Reloaded{}, fmt.Errorf("nothing was changed:\n%w", err)
	}
	cfg := file.Config
	n.hideSecrets(cfg)
	warnings, err := n.apply(ctx, cfg)
	if err != nil {
		n.record("reload-refused", err.Error())
		return admin.Reloaded{}, err
	}
	done = admin.Reloaded{
		Revision: n.revision.Load(), NeedsRestart: needsRestart(n.opts.Config, *cfg),
		Warnings: warnings,
	}
	for _, w := range file.Warnings {
		done.Warnings = append(done.Warnings, w.Place()+": "+w.Message)
	}
	n.tellReload(ctx, &done, *cfg, string(file.Text))
	return done, nil
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

// tellReload saves a configuration that is applied and tells of it: the journal, the log and the other nodes hear of it
// even if it can't be saved.
func (n *Node) tellReload(ctx context.Context, done *admin.Reloaded, cfg node.Config, text string) {
	save, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	revision, err := n.saveConfig(save, cfg, text)
	detail := fmt.Sprintf("revision %d", revision)
	if err != nil {
		detail = fmt.Sprintf("applied, but not saved: %s", err)
		done.Warnings = append(done.Warnings, detail)
	} else {
		n.revision.Store(revision)
		done.Revision = revision
	}
	n.members.Load().Announce()
	n.record("reload", detail)
	for _, w := range done.Warnings {
		n.log.WarnContext(ctx, "configuration reloaded with a warning", "warning", w)
	}
	n.log.InfoContext(ctx, "configuration reloaded", "revision", done.Revision, "needs_restart", done.NeedsRestart)
}

// apply changes upstreams and routes so that no request meets a gap: first what is new joins, then the routes change,
// then what is gone leaves. If an upstream can't start, all becomes as it was. The caller holds reloading.
func (n *Node) apply(ctx context.Context, cfg *node.Config) (warnings []string, err error) {
	both := map[string]node.Upstream{}
	maps.Copy(both, n.config.Upstreams)
	maps.Copy(both, cfg.Upstreams)
	cut, err := n.applyUpstreams(ctx, both)
	if err != nil {
		_, back := n.applyUpstreams(ctx, n.config.Upstreams)
		return nil, errors.Join(fmt.Errorf("apply upstreams: %w", err), back)
	}
	if n.nats != nil {
		n.nats.SetMemberSubjects(plainSubjects(cfg.Routes))
	}
	routes := cfg.Named()
	n.limits.SetRules(rulesOf(cfg.Limits, routes))
	if err := n.awaitLimits(ctx); err != nil { // before requests need them
		warnings = append(warnings, err.Error())
	}
	n.edge.SetRoutes(n.fit(cfg).Edge, routes)
	if err := n.useCache(ctx); err != nil {
		warnings = append(warnings, err.Error())
	}
	if text := n.compareMemory(cfg); text != "" {
		warnings = append(warnings, text)
	}
	n.config = *cfg
	n.applied.Store(cfg)
	n.roles.Store(n.rolesOf(*cfg))
	more, err := n.applyUpstreams(ctx, cfg.Upstreams)
	if err != nil { // nothing was left to start
		more = append(more, err.Error())
	}
	return append(append(warnings, cut...), more...), nil
}

// applyUpstreams tells requests that were cut off, which can't be undone, from upstreams that can't be as configured.
func (n *Node) applyUpstreams(ctx context.Context, upstreams map[string]node.Upstream) (cut []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, n.reloadTime)
	defer cancel()
	defer context.AfterFunc(n.waits, cancel)()
	if err = n.upstreams.Apply(ctx, upstreams); errors.Is(err, upstream.ErrCutOff) {
		return []string{err.Error()}, nil
	}
	return nil, err //nolint:wrapcheck // apply says what it was for
}

// needsRestart names the keys that differ and can't change while a node runs.
func needsRestart(old, cfg node.Config) []string {
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
