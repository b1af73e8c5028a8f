package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"

	"millrace/edge/admin"
	"millrace/node"
	"millrace/node/config"
)

// reloadTime is how long a removed upstream may take to finish what runs.
const reloadTime = time.Minute

// Reload reads the configuration file again and applies what can change while the node serves. A file with mistakes
// changes nothing; the error names all of them. Once begun it isn't ended by the caller's going away: half a
// configuration would be worse than either.
func (n *Node) Reload(ctx context.Context) (admin.Reloaded, error) {
	if n.opts.ConfigPath == "" {
		return admin.Reloaded{}, errors.New("the node was started without a configuration file: there is nothing to read again")
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), reloadTime)
	defer cancel()
	n.reloading.Lock() // reads too: the file that was read last must be the one that is applied last
	defer n.reloading.Unlock()
	cfg, text, err := config.Load(n.opts.ConfigPath)
	if err != nil {
		n.record("reload-refused", err.Error())
		return admin.Reloaded{}, fmt.Errorf("nothing was changed:\n%w", err)
	}
	if err := n.apply(ctx, cfg); err != nil {
		n.record("reload-refused", err.Error())
		return admin.Reloaded{}, err
	}
	done := admin.Reloaded{NeedsRestart: needsRestart(n.opts.Config, *cfg)}
	if done.Revision, err = n.saveConfig(ctx, *cfg, string(text)); err != nil {
		return done, err
	}
	n.revision.Store(done.Revision)
	n.members.Announce()
	n.record("reload", fmt.Sprintf("revision %d", done.Revision))
	n.log.InfoContext(ctx, "configuration reloaded", "revision", done.Revision, "needs_restart", done.NeedsRestart)
	return done, nil
}

// apply changes upstreams and routes so that no request meets a gap: first what is new joins, then the routes change,
// then what is gone leaves. The caller holds reloading.
func (n *Node) apply(ctx context.Context, cfg *node.Config) error {
	both := map[string]node.Upstream{}
	maps.Copy(both, n.config.Upstreams)
	maps.Copy(both, cfg.Upstreams)
	if err := n.upstreams.Apply(ctx, both); err != nil {
		back := n.upstreams.Apply(ctx, n.config.Upstreams)
		return errors.Join(fmt.Errorf("apply upstreams: %w", err), back)
	}
	if n.nats != nil {
		n.nats.SetMemberSubjects(plainSubjects(cfg.Routes))
	}
	n.edge.SetRoutes(cfg.Edge, cfg.Routes)
	n.config = *cfg
	n.roles.Store(rolesOf(*cfg))
	if err := n.upstreams.Apply(ctx, cfg.Upstreams); err != nil {
		n.log.WarnContext(ctx, "a removed upstream was cut off", "cause", err)
	}
	return nil
}

// needsRestart names the keys that differ and can't change while a node runs.
func needsRestart(old, cfg node.Config) []string {
	keys := []struct {
		name   string
		differ bool
	}{
		{"node", old.Node != cfg.Node},
		{"admin", old.Admin != cfg.Admin},
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
