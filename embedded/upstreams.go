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

// leaveTime is how long a reload waits for the requests on an upstream that leaves.
const leaveTime = time.Minute

// upstreams are the members of this node that call HTTP upstreams.
type upstreams struct {
	cfg   *node.Config
	log   *slog.Logger
	state *stateFile
	mesh  *meshConn

	set       *upstream.Set   // nil before open
	leaveTime time.Duration   // the constant; tests have less time
	waits     context.Context //nolint:containedctx // ends what a reload waits for
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

// shutdown lets the members leave their groups and finish.
func (u *upstreams) shutdown(ctx context.Context) error {
	return u.set.Shutdown(ctx) //nolint:wrapcheck // it says what it was
}

func (u *upstreams) close() error {
	if u.set == nil {
		return nil
	}
	return u.set.Close() //nolint:wrapcheck // the node says what it was
}

// join lets the upstreams of a new configuration join those of the old one. If one can't start, all becomes as it was.
// It tells of requests that were cut off.
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

// leave lets the upstreams leave that a configuration, which has joined, doesn't have.
func (u *upstreams) leave(ctx context.Context, cfg *node.Config) (warnings []string) {
	warnings, err := u.apply(ctx, cfg.Upstreams)
	if err != nil { // nothing was left to start
		warnings = append(warnings, err.Error())
	}
	return warnings
}

// apply tells requests that were cut off, which can't be undone, from upstreams that can't be as configured.
func (u *upstreams) apply(ctx context.Context, upstreams map[string]node.Upstream) (cut []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, u.leaveTime)
	defer cancel()
	defer context.AfterFunc(u.waits, cancel)()
	if err = u.set.Apply(ctx, upstreams); errors.Is(err, upstream.ErrCutOff) {
		return []string{err.Error()}, nil
	}
	return nil, err //nolint:wrapcheck // the caller says what it was for
}

func (u *upstreams) status(st *admin.Status) { st.Upstreams = u.set.Status() }
