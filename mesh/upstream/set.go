package upstream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"reflect"
	"slices"
	"sync"

	"millrace/mesh"
	"millrace/node"
)

// Config says what a Set works with.
type Config struct {
	Conn    *mesh.Conn
	Log     *slog.Logger
	Changed func(kind, detail string) // told when a target goes down, up, to rest or returns; may be nil

	Resolver Resolver // nil means the system's
}

// Set is the upstreams that this node serves, by name. It is safe for concurrent use.
type Set struct {
	cfg Config

	mu      sync.Mutex // guards what follows and the order of changes
	members map[string]*Upstream
	closed  bool // nothing joins any more
}

// New makes an empty set; Apply fills it.
func New(cfg Config) (*Set, error) {
	if cfg.Conn == nil || cfg.Log == nil {
		return nil, errors.New("configure upstreams: a mesh connection and a log are needed")
	}
	if cfg.Changed == nil {
		cfg.Changed = func(string, string) {}
	}
	if cfg.Resolver == nil {
		cfg.Resolver = net.DefaultResolver
	}
	return &Set{cfg: cfg, members: map[string]*Upstream{}}, nil
}

// ErrCutOff means that requests of an upstream that left didn't end in time. The set is as configured all the same.
var ErrCutOff = errors.New("requests were cut off")

// Apply brings the set to the configuration: new upstreams join the mesh, changed ones go on with their new targets,
// removed ones leave and finish what runs, all at the same time and at most until ctx ends. Remote upstreams are other
// nodes' work. Calls must not overlap. It fails with ErrCutOff if nothing but that went wrong; any other error means
// that an upstream isn't as configured.
func (s *Set) Apply(ctx context.Context, upstreams map[string]node.Upstream) error {
	left, err := s.change(ctx, upstreams, s.lookUp(ctx, upstreams))
	cut := shutdownAll(ctx, left)
	if err == nil && cut != nil {
		return fmt.Errorf("%w: %w", ErrCutOff, cut)
	}
	return errors.Join(err, cut)
}

// lookUp resolves the names of all upstreams that are new or changed, before anybody must wait for it.
func (s *Set) lookUp(ctx context.Context, upstreams map[string]node.Upstream) names {
	var all []string
	for name, cfg := range upstreams {
		if !cfg.Remote && !s.has(name, cfg) {
			all = append(all, hosts(cfg)...)
		}
	}
	slices.Sort(all)
	return s.cfg.lookUp(ctx, slices.Compact(all))
}

// has reports whether an upstream is configured like that.
func (s *Set) has(name string, cfg node.Upstream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.members[name]
	return u != nil && reflect.DeepEqual(u.state.Load().cfg, cfg)
}

// drain lets upstreams leave and finish what runs.
func shutdownAll(ctx context.Context, left []*Upstream) error {
	errs := make([]error, len(left))
	var leaving sync.WaitGroup
	for i, u := range left {
		leaving.Go(func() {
			errs[i] = u.service.Shutdown(ctx)
			u.close()
		})
	}
	leaving.Wait()
	return errors.Join(errs...)
}

// change starts and changes upstreams and gives those that must leave.
func (s *Set) change(ctx context.Context, upstreams map[string]node.Upstream,
	found names,
) (left []*Upstream, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errors.New("the upstreams are closed")
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(upstreams)) {
		if cfg := upstreams[name]; !cfg.Remote {
			errs = append(errs, s.put(ctx, name, cfg, found))
		}
	}
	for name, u := range s.members {
		if cfg, ok := upstreams[name]; !ok || cfg.Remote {
			delete(s.members, name)
			left = append(left, u)
		}
	}
	return left, errors.Join(errs...)
}

// put starts or changes one upstream.
func (s *Set) put(ctx context.Context, name string, cfg node.Upstream, found names) error {
	if u := s.members[name]; u != nil {
		if reflect.DeepEqual(u.state.Load().cfg, cfg) {
			return nil
		}
		u.service.SetLimit(cfg.MaxRequests)
		return u.apply(cfg, found)
	}
	u, err := newUpstream(s.cfg, name, cfg, found)
	if err != nil {
		return err
	}
	if err := u.service.Open(ctx); err != nil {
		u.close()
		return err //nolint:wrapcheck // it names the upstream already
	}
	s.members[name] = u
	return nil
}

// Shutdown lets every upstream leave the mesh and finish what runs, at most until ctx ends. Apply fails from then on.
func (s *Set) Shutdown(ctx context.Context) error {
	return shutdownAll(ctx, s.takeAll())
}

// Close ends every upstream at once. Apply fails from then on.
func (s *Set) Close() error {
	var errs []error
	for _, u := range s.takeAll() {
		errs = append(errs, u.service.Close())
		u.close()
	}
	return errors.Join(errs...)
}

// takeAll closes the set and gives what was in it.
func (s *Set) takeAll() []*Upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	all := slices.Collect(maps.Values(s.members))
	clear(s.members)
	return all
}

// Status is what is known about one upstream.
type Status struct {
	Name    string         `json:"name"`
	Active  int            `json:"active"`  // requests that run
	Retries uint64         `json:"retries"` // tries on top that the budget paid for
	Unpaid  uint64         `json:"retries_denied"`
	Hedges  uint64         `json:"hedges"`  // requests sent to a second target too
	Waiting int64          `json:"waiting"` // requests that wait for a target with room
	Refused uint64         `json:"refused"` // requests that no target had room for
	Targets []TargetStatus `json:"targets"`
	Timeout node.Duration  `json:"timeout,omitzero"` // of its own
	Next    string         `json:"next,omitempty"`   // of an explanation: which target the request would go to
}

// Status lists the upstreams ordered by name.
func (s *Set) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Status, 0, len(s.members))
	for _, name := range slices.Sorted(maps.Keys(s.members)) {
		u := s.members[name]
		st := Status{Name: name, Active: u.service.Active()}
		state := u.state.Load()
		st.Timeout = state.cfg.Timeout
		st.Retries, st.Unpaid = state.budget.Spent()
		st.Hedges = u.hedges.Load()
		for i := range u.queues {
			st.Waiting += u.queues[i].waiting.Load()
			st.Refused += u.queues[i].refused.Load()
		}
		for _, t := range state.targets {
			st.Targets = append(st.Targets, t.status())
		}
		out = append(out, st)
	}
	return out
}
