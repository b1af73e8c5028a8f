package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// maxTries bounds retry.tries.
const maxTries = node.MaxTries

// sweepEvery is how often idle connections are looked at when no request does.
const sweepEvery = 5 * time.Second

// Upstream is the member for one upstream: it answers upstream.NAME by asking a target.
type Upstream struct {
	name    string
	log     *slog.Logger
	changed func(kind, detail string)
	state   atomic.Pointer[state]
	service *mesh.Service

	resolver Resolver
	gate     gate
	canary   canary
	hedges   atomic.Uint64

	mu      sync.Mutex // guards the order of changes
	resting sync.Mutex // held while a target goes to rest
	stop    context.CancelFunc
	running sync.WaitGroup // health checks and the sweeper of the newest state
	end     context.CancelFunc
	ended   sync.WaitGroup // the resolver
}

// state is what a configuration made: replaced as a whole when it changes.
type state struct {
	up      *Upstream
	cfg     node.Upstream
	names   names
	targets []*target
	budget  *budget
}

func newUpstream(set Config, name string, cfg node.Upstream) (*Upstream, error) {
	u := &Upstream{name: name, log: set.Log.With("upstream", name), changed: set.Changed, resolver: set.Resolver, stop: func() {}}
	if err := u.apply(cfg); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.end = cancel
	u.ended.Go(func() { u.resolve(ctx) })
	service, err := set.Conn.NewService(mesh.ServiceConfig{Destination: set.Conn.Upstream(name), Handler: u, Limit: cfg.MaxRequests, Streams: true, Direct: true})
	if err != nil {
		u.close()
		return nil, fmt.Errorf("make member for upstream %s: %w", name, err)
	}
	u.service = service
	return u, nil
}

// apply takes a new configuration. Targets that stay keep their connections and what is known about them.
func (u *Upstream) apply(cfg node.Upstream) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var found names
	if cfg.Resolve > 0 {
		var before names
		if old := u.state.Load(); old != nil {
			before = old.names
		}
		found = u.lookUp(context.Background(), cfg.Targets, before)
	}
	return u.change(cfg, found)
}

// change makes the state for a configuration and the addresses of its names. The caller holds mu.
func (u *Upstream) change(cfg node.Upstream, found names) error {
	old := u.state.Load()
	next := &state{up: u, cfg: cfg, names: found, budget: newBudget()}
	if old != nil {
		next.budget = old.budget
	}
	for _, tc := range cfg.Targets {
		addrs := found[hostName(tc.URL)]
		if len(addrs) == 0 {
			addrs = noAddress
		}
		for _, addr := range addrs {
			t, err := u.target(old, cfg, tc, addr)
			if err != nil {
				return err
			}
			next.targets = append(next.targets, t)
		}
	}
	u.stop()
	u.running.Wait()
	u.state.Store(next)
	u.watch(next)
	if old != nil {
		for _, t := range old.targets {
			if !slices.Contains(next.targets, t) {
				t.pool.close()
			}
		}
	}
	return nil
}

// noAddress is that of a target whose connections find their way themselves.
var noAddress = []netip.Addr{{}}

// target gives the target of that address: the one that is there already, if only its surroundings changed.
func (u *Upstream) target(old *state, cfg node.Upstream, tc node.UpstreamTarget, addr netip.Addr) (*target, error) {
	if old != nil && old.cfg.ConnectTimeout == cfg.ConnectTimeout && reflect.DeepEqual(old.cfg.Health, cfg.Health) {
		for _, t := range old.targets {
			if t.url == tc.URL && t.addr == addr && t.canary == tc.Canary {
				t.configure(cfg, tc)
				return t, nil
			}
		}
	}
	p, err := newPool(tc.URL, addr, cfg.ConnectTimeout.Std(), time.Now)
	if err != nil {
		return nil, err
	}
	t := &target{up: u, url: tc.URL, addr: addr, hash: hashOf(string(tc.URL) + " " + addr.String()), canary: tc.Canary, pool: p, log: u.log, now: time.Now}
	t.changed = func(kind, detail string) { u.changed(kind, u.name+" "+detail) }
	t.configure(cfg, tc)
	return t, nil
}

// configure sets what a reload may change.
func (t *target) configure(cfg node.Upstream, tc node.UpstreamTarget) {
	t.weight.Store(int64(tc.Weight))
	switch limit := cfg.Concurrency.Max; {
	case limit != node.LimitAuto:
		t.max.Store(int64(limit))
		t.adaptive.Store(nil)
	case t.adaptive.Load() == nil:
		t.adaptive.Store(newGradient(t.now))
	}
}

// watch starts the health checks and the sweeper of a state; stop ends them.
func (u *Upstream) watch(s *state) {
	ctx, cancel := context.WithCancel(context.Background())
	u.stop = cancel
	u.running.Go(func() { sweep(ctx, s.targets) })
	if s.cfg.Eject.Slow > 0 {
		u.running.Go(func() { s.watchSlow(ctx) })
	}
	if s.cfg.Health == nil {
		return
	}
	for _, t := range s.targets {
		u.running.Go(func() { t.watch(ctx, *s.cfg.Health) })
	}
}

func sweep(ctx context.Context, targets []*target) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, t := range targets {
				t.pool.sweep()
			}
		}
	}
}

// Handle asks one target, and others if the first fails and the request may be repeated.
func (u *Upstream) Handle(ctx context.Context, req *mesh.Request) (*mesh.Response, error) {
	s := u.state.Load()
	deadline := time.Now().Add(s.cfg.Timeout.Std())
	if req.Deadline.Before(deadline) {
		deadline = req.Deadline
	}
	last := s.newAttempt(req, deadline).run(ctx)
	if last.resp != nil && last.err == nil {
		return last.resp, nil
	}
	return nil, u.failure(ctx, last.err)
}

// failure gives the last error its code. What a client may read names no address.
func (u *Upstream) failure(ctx context.Context, err error) error {
	if e, ok := errors.AsType[*node.Error](err); ok {
		return e
	}
	switch {
	case errors.Is(err, errBrokeOff) || errors.Is(ctx.Err(), context.Canceled):
		return node.Errorf(node.CodeCanceled, err, "the request was canceled")
	}
	u.log.WarnContext(ctx, "upstream request failed", "cause", err)
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return node.Errorf(node.CodeTimeout, err, "the upstream didn't answer in time")
	}
	return node.Errorf(node.CodeUpstream, err, "the upstream can't be reached or broke off")
}

// close ends checks, connections, and the requests that still run.
func (u *Upstream) close() {
	u.end()
	u.ended.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stop()
	u.running.Wait()
	for _, t := range u.state.Load().targets {
		t.pool.close()
		t.pool.cut()
	}
}
