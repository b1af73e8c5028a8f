package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"millrace/edge/admin"
	"millrace/mesh/upstream"
	"millrace/node"
)

// leaveTime is how long a reload waits for the requests of an upstream that leaves.
const leaveTime = time.Minute

// upstreams are the members of this node that forward to HTTP upstreams.
type upstreams struct {
	cfg   *node.Config
	log   *slog.Logger
	state *stateFile
	mesh  *meshConn

	set       *upstream.Set   // nil before open
	leaveTime time.Duration   // the constant; shorter in tests
	waits     context.Context //nolint:containedctx // canceled by cutOff, to end the waits of reloads
	cutOff    context.CancelFunc
}

func newUpstreams(cfg *node.Config, log *slog.Logger, state *stateFile, mesh *meshConn) *upstreams {
	u := &upstreams{cfg: cfg, log: log, state: state, mesh: mesh, leaveTime: leaveTime}
	u.waits, u.cutOff = context.WithCancel(context.Background())
	return u
}

func (u *upstreams) open(ctx context.Context) error {
	set, err := upstream.New(upstream.Config{Conn: u.mesh.conn, Log: u.log, Changed: u.state.record})
	if err != nil {
		return fmt.Errorf("configure upstreams: %w", err)
	}
	u.set = set
	if err := set.Apply(ctx, u.cfg.Upstreams); err != nil {
		return fmt.Errorf("open upstreams: %w", err)
	}
	return nil
}

// shutdown lets the members leave their queue groups and finish.
func (u *upstreams) shutdown(ctx context.Context) error {
	return u.set.Shutdown(ctx)
}

func (u *upstreams) close() error {
	if u.set == nil {
		return nil
	}
	return u.set.Close()
}

// join starts the upstreams of a new configuration beside those of the old one. If one can't start, it restores the old
// ones. cut reports requests that were canceled.
func (u *upstreams) join(ctx context.Context, old, cfg *node.Config) (cut []string, err error) {
	both := map[string]node.Upstream{}
	maps.Copy(both, old.Upstreams)
	maps.Copy(both, cfg.Upstreams)
	cut, err = u.apply(ctx, both)
	if err != nil {
		_, back := u.apply(ctx, old.Upstreams)
		return nil, errors.Join(fmt.Errorf("apply upstreams: %w", err), back)
	}
	return cut, nil
}

// leave stops the upstreams that the configuration, whose upstreams have joined, doesn't have.
func (u *upstreams) leave(ctx context.Context, cfg *node.Config) (warnings []string) {
	warnings, err := u.apply(ctx, cfg.Upstreams)
	if err != nil { // unexpected: all upstreams of cfg have started
		warnings = append(warnings, err.Error())
	}
	return warnings
}

// apply sets the upstreams. cut reports requests that were canceled, which can't be undone; err reports upstreams that
// can't run as configured.
func (u *upstreams) apply(ctx context.Context, upstreams map[string]node.Upstream) (cut []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, u.leaveTime)
	defer cancel()
	defer context.AfterFunc(u.waits, cancel)()
	if err = u.set.Apply(ctx, upstreams); errors.Is(err, upstream.ErrCutOff) {
		return []string{err.Error()}, nil
	}
	return nil, err
}

func (u *upstreams) status(st *admin.Status) { st.Upstreams = u.set.Status() }
