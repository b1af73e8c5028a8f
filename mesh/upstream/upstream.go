package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// maxTries bounds retry.tries.
const maxTries = node.MaxTries

// Upstream is the member for one upstream: it answers upstream.NAME by asking a target.
type Upstream struct {
	name    string
	log     *slog.Logger
	changed func(kind, detail string)
	state   atomic.Pointer[state]
	service *mesh.Service

	set             Config
	queues          [2]waitQueue // for stable targets, and for canaries
	canary          canary
	hedges          atomic.Uint64
	allFailingUntil atomic.Int64 // since epoch: until then ejected targets are used like others; see allFailing

	mu              sync.Mutex // guards the order of changes
	ejecting        sync.Mutex // held while a target is ejected
	stopChecks      context.CancelFunc
	checks          sync.WaitGroup // health checks of the current state
	stopMaintenance context.CancelFunc
	maintenance     sync.WaitGroup // the goroutines of resolve and maintain
}

func (u *Upstream) queue(canary bool) *waitQueue {
	if canary {
		return &u.queues[1]
	}
	return &u.queues[0]
}

// wakeWaiting makes requests that wait for that kind of target try again. Those that wait for the other kind may use it
// too.
func (u *Upstream) wakeWaiting(canary bool) {
	u.queue(canary).wakeFirst()
	u.queue(!canary).wakeFirst()
}

// state is made from a configuration, and replaced as a whole when that changes.
type state struct {
	up      *Upstream
	cfg     node.Upstream
	names   names
	targets []*target
	budget  *mesh.Budget
}

func newUpstream(set Config, name string, cfg node.Upstream, found names) (*Upstream, error) {
	u := &Upstream{name: name, set: set, log: set.Log.With("upstream", name), changed: set.Changed}
	u.stopChecks = func() {}
	if err := u.apply(cfg, found); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	u.stopMaintenance = cancel
	u.maintenance.Go(func() { u.resolve(ctx) })
	u.maintenance.Go(func() { u.maintain(ctx) })
	service, err := set.Conn.NewService(mesh.ServiceConfig{
		Destination: set.Conn.Upstream(name), Handler: u,
		Limit: cfg.MaxRequests, Streams: true, Direct: true,
	})
	if err != nil {
		u.close()
		return nil, fmt.Errorf("make member for upstream %s: %w", name, err)
	}
	u.service = service
	return u, nil
}

// apply applies a new configuration with the addresses found for its names. Targets that stay keep their connections
// and state.
func (u *Upstream) apply(cfg node.Upstream, found names) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if old := u.state.Load(); old != nil {
		found = found.withFallback(old.names)
	}
	return u.change(cfg, found.only(cfg))
}

// change makes the state for a configuration and its addresses. The caller holds mu.
func (u *Upstream) change(cfg node.Upstream, found names) error {
	old := u.state.Load()
	next := &state{up: u, cfg: cfg, names: found, budget: mesh.NewBudget()}
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
	u.stopChecks()
	u.checks.Wait()
	u.state.Store(next)
	u.startChecks(next)
	u.wakeWaiting(false) // waiting requests may use the new targets
	if old != nil {
		for _, t := range old.targets {
			if !slices.Contains(next.targets, t) {
				t.pool.close()
			}
		}
	}
	return nil
}

// noAddress is for a target whose connections resolve its name themselves.
var noAddress = []netip.Addr{{}}

// target returns the target of that address. An existing one is configured and reused.
func (u *Upstream) target(old *state, cfg node.Upstream, tc node.UpstreamTarget, addr netip.Addr) (*target, error) {
	if old != nil {
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
	t := &target{
		up: u, url: tc.URL, addr: addr, hash: hashOf(string(tc.URL) + " " + addrText(addr)), canary: tc.Canary,
		pool: p, log: u.log, now: time.Now,
	}
	t.changed = func(kind, detail string) { u.changed(kind, u.name+" "+detail) }
	t.configure(cfg, tc)
	if old != nil { // it starts slowly beside warm ones
		t.returned.Store(sinceEpoch(t.now()))
	}
	return t, nil
}

// configure sets what a reload may change.
func (t *target) configure(cfg node.Upstream, tc node.UpstreamTarget) {
	t.weight.Store(int64(tc.Weight))
	t.pool.connectTimeout.Store(int64(cfg.ConnectTimeout))
	if cfg.Health == nil { // no check would bring it up again
		t.down.Store(false)
	}
	switch limit := cfg.Concurrency.Max; {
	case limit != node.LimitAuto:
		t.max.Store(int64(limit))
		t.adaptive.Store(nil)
	case t.adaptive.Load() == nil:
		t.adaptive.Store(newGradient(t.now))
	}
}

// startChecks starts the health checks of a state. stopChecks ends them.
func (u *Upstream) startChecks(s *state) {
	ctx, cancel := context.WithCancel(context.Background())
	u.stopChecks = cancel
	if s.cfg.Health == nil {
		return
	}
	for _, t := range s.targets {
		u.checks.Go(func() { t.checkHealth(ctx, *s.cfg.Health) })
	}
}

// Targets are compared each maintainEvery. Idle connections are checked each sweepEvery of that, for when no request
// does it.
const (
	maintainEvery = time.Second
	sweepEvery    = 5
)

// maintain ejects targets that are much slower than the others, and closes connections that are idle for too long,
// until ctx ends.
func (u *Upstream) maintain(ctx context.Context) {
	tick := time.NewTicker(maintainEvery)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s := u.state.Load()
		if s.cfg.Eject.Slow > 0 {
			for _, t := range s.slowTargets() {
				t.eject(errSlow)
			}
		}
		for _, t := range s.targets {
			if n%sweepEvery == 0 {
				t.pool.closeExpired()
			}
		}
	}
}

// Handle asks one target, and others if it fails and the request may be repeated.
func (u *Upstream) Handle(ctx context.Context, req *mesh.Request) (*mesh.Response, error) {
	s := u.state.Load()
	last := s.newCall(req, s.deadline(req)).run(ctx)
	if last.resp != nil && last.err == nil {
		return last.resp, nil
	}
	return nil, u.callError(ctx, req, last)
}

// deadline returns when the request must be answered: its own deadline, or an earlier one of the upstream.
func (s *state) deadline(req *mesh.Request) time.Time {
	if timeout := s.cfg.Timeout.Std(); timeout > 0 {
		if at := time.Now().Add(timeout); at.Before(req.Deadline) {
			return at
		}
	}
	return req.Deadline
}

// close ends the checks, the connections, and the running requests.
func (u *Upstream) close() {
	u.stopMaintenance()
	u.maintenance.Wait()
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stopChecks()
	u.checks.Wait()
	for _, t := range u.state.Load().targets {
		t.pool.close()
		t.pool.closeInUse()
	}
}
