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

// Config configures a Set.
type Config struct {
	Conn    *mesh.Conn
	Log     *slog.Logger
	Changed func(kind, detail string) // called when a target goes down or up, is ejected or returns; may be nil

	Resolver Resolver // nil means net.DefaultResolver
}

// Set holds the upstreams that this node serves, by name. It is safe for concurrent use.
type Set struct {
	cfg Config

	mu      sync.Mutex // guards the fields below and the order of changes
	members map[string]*Upstream
	closed  bool // nothing can be added any more
}

// New makes an empty set. Apply fills it.
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

// ErrCutOff means that requests of a removed upstream didn't end in time. The set is as configured nevertheless.
var ErrCutOff = errors.New("requests were cut off")

// Apply changes the set to the configuration, concurrently and at most until ctx ends. New upstreams join the mesh.
// Changed ones continue with their new targets. Removed ones leave and finish their requests. Remote upstreams are left
// to other nodes. Calls must not overlap. If only requests were cut off, the error is ErrCutOff. Any other error means
// that an upstream isn't as configured.
func (s *Set) Apply(ctx context.Context, upstreams map[string]node.Upstream) error {
	left, err := s.change(ctx, upstreams, s.lookUp(ctx, upstreams))
	cut := shutdownAll(ctx, left)
	if err == nil && cut != nil {
		return fmt.Errorf("%w: %w", ErrCutOff, cut)
	}
	return errors.Join(err, cut)
}

// lookUp resolves the names of all new or changed upstreams, before anything is locked.
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

// has reports whether an upstream has that configuration.
func (s *Set) has(name string, cfg node.Upstream) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.members[name]
	return u != nil && reflect.DeepEqual(u.state.Load().cfg, cfg)
}

// shutdownAll makes upstreams leave and finish their requests.
func shutdownAll(ctx context.Context, left []*Upstream) error {
	errs := make([]error, len(left))
	var wg sync.WaitGroup
	for i, u := range left {
		wg.Go(func() {
			errs[i] = u.service.Shutdown(ctx)
			u.close()
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// change starts and changes upstreams, and returns those that must leave.
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
		return err
	}
	s.members[name] = u
	return nil
}

// Shutdown makes every upstream leave the mesh and finish its requests, at most until ctx ends. Apply fails afterwards.
func (s *Set) Shutdown(ctx context.Context) error {
	return shutdownAll(ctx, s.takeAll())
}

// Close ends every upstream at once. Apply fails afterwards.
func (s *Set) Close() error {
	var errs []error
	for _, u := range s.takeAll() {
		errs = append(errs, u.service.Close())
		u.close()
	}
	return errors.Join(errs...)
}

// takeAll closes the set and returns what was in it.
func (s *Set) takeAll() []*Upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	all := slices.Collect(maps.Values(s.members))
	clear(s.members)
	return all
}

// Status is the state of one upstream.
type Status struct {
	Name    string         `json:"name"`
	Active  int            `json:"active"`  // running requests
	Retries uint64         `json:"retries"` // extra tries that the budget paid for
	Unpaid  uint64         `json:"retries_denied"`
	Hedges  uint64         `json:"hedges"`  // requests that were also sent to a second target
	Waiting int64          `json:"waiting"` // requests that wait for a target with capacity
	Refused uint64         `json:"refused"` // requests refused because every target was at its limit
	Targets []TargetStatus `json:"targets"`
	Timeout node.Duration  `json:"timeout,omitzero"` // the upstream's own
	Next    string         `json:"next,omitempty"`   // in an explanation: the target of the request
}

// Status returns the status of each upstream, ordered by name.
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
