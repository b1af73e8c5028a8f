package upstream

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"millrace/node"
)

const (
	// A target rests for restBase, doubled with each rest that follows without a success, at most restMax, and a
	// quarter more or less so that targets don't return together.
	restBase = time.Second
	restMax  = 30 * time.Second
)

// target is one address of an upstream and what is known about it. Safe for concurrent use.
type target struct {
	up   *Upstream
	url  node.BaseURL
	addr netip.Addr // that its host name was resolved to; not valid if each connection resolves it
	hash uint64     // of both
	pool *pool
	log  *slog.Logger

	canary   bool
	max      atomic.Int64 // requests at once; 0 for any number. Unless adaptive is set
	adaptive atomic.Pointer[gradient]

	weight   atomic.Int64 // a reload may change it
	inFlight atomic.Int64
	requests atomic.Uint64
	failures atomic.Uint64
	ejected  atomic.Uint64
	down     atomic.Bool  // fails its health check
	restEnds atomic.Int64 // unix nanoseconds; in the past when it doesn't rest
	returned atomic.Int64 // when it came back, in unix nanoseconds; 0 if it was never away

	mu        sync.Mutex // guards what follows
	inRow     int        // failed requests in a row
	rests     int        // rests without a success between them
	window    window
	restBegan time.Time
	checks    int // health checks in a row that say otherwise than down
	now       func() time.Time
	changed   func(kind, detail string)
}

// limit is how many requests the target may get at once; 0 for any number.
func (t *target) limit() int64 {
	if g := t.adaptive.Load(); g != nil {
		return g.limit.Load()
	}
	return t.max.Load()
}

func (t *target) hasRoom() bool {
	limit := t.limit()
	return limit == 0 || t.inFlight.Load() < limit
}

// enter takes a place for a request; false when there is none.
func (t *target) enter() bool {
	if limit := t.limit(); t.inFlight.Add(1) > limit && limit > 0 {
		t.leave()
		return false
	}
	return true
}

// leave gives the place back, to whoever waits for it.
func (t *target) leave() {
	t.inFlight.Add(-1)
	t.up.gate.turn()
}

// observe tells an adaptive limit how long a request took.
func (t *target) observe(took time.Duration) {
	if g := t.adaptive.Load(); g != nil {
		g.observe(took, t.inFlight.Load()+1) // it has left
	}
}

func (t *target) resting() bool {
	ends := t.restEnds.Load()
	return ends != 0 && t.now().UnixNano() < ends
}

// share is the target's weight, in thousandths. One that has returned begins with a tenth, so that it can warm up.
func (t *target) share(slowStart time.Duration) int {
	full := int(t.weight.Load()) * 1000
	returned := t.returned.Load()
	if returned == 0 || slowStart == 0 {
		return full
	}
	since := t.now().UnixNano() - max(returned, t.restEnds.Load())
	if since >= int64(slowStart) {
		t.returned.CompareAndSwap(returned, 0)
		return full
	}
	return max(int(float64(full)*float64(since)/float64(slowStart)), full/10)
}

// succeeded forgets the failures in a row: the target answers.
func (t *target) succeeded(took time.Duration) {
	t.observe(took)
	t.mu.Lock()
	t.inRow, t.rests = 0, 0
	t.window.add(t.now(), false, took)
	now := t.now()
	rested := t.restEnds.Load() != 0 && now.Add(-took).After(t.restBegan) // what began before it says nothing about it
	if rested {
		t.restEnds.Store(0)
		t.returned.Store(now.UnixNano())
	}
	t.mu.Unlock()
	if rested {
		t.changed("target-returned", string(t.url))
	}
}

// abandoned counts a request that nobody waited for any longer, with the time that it took until then.
func (t *target) abandoned(took time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := t.now(); took > t.window.sums(now).mean() { // a shorter time says nothing
		t.window.add(now, false, took)
	}
}

// failed counts a request that the target spoiled and lets it rest when there were too many.
func (t *target) failed(cause error, took time.Duration) {
	t.failures.Add(1)
	t.observe(took)
	t.mu.Lock()
	t.inRow++
	t.window.add(t.now(), true, took)
	why := t.failing(cause)
	t.mu.Unlock()
	if why != nil {
		t.eject(why)
	}
}

// eject lets the target rest, if it doesn't yet and others are left.
func (t *target) eject(cause error) {
	rest := t.rest()
	if rest == 0 {
		return
	}
	t.ejected.Add(1)
	t.log.Warn("target rests after failures", "target", string(t.url), "rest", rest, "cause", cause)
	t.changed("target-rests", string(t.url))
}

// rest begins a rest; 0 means that none began.
func (t *target) rest() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.resting() {
		return 0
	}
	t.up.resting.Lock()
	defer t.up.resting.Unlock()
	if !t.up.state.Load().spares(t) {
		return 0
	}
	rest := restFor(t.rests)
	t.rests++
	t.window = window{}
	t.restBegan = t.now()
	t.restEnds.Store(t.restBegan.Add(rest).UnixNano())
	t.returned.Store(t.restEnds.Load()) // it begins slowly then
	return rest
}

// spares tells whether one more target may rest. One always may, if it isn't the only one.
func (s *state) spares(t *target) bool {
	resting := 0
	for _, o := range s.targets {
		if o != t && o.resting() {
			resting++
		}
	}
	return len(s.targets) > 1 && resting < max(len(s.targets)*s.cfg.Eject.Most/100, 1)
}

func restFor(rests int) time.Duration {
	d := min(restBase<<min(rests, 10), restMax)
	return d*3/4 + rand.N(d/2) //nolint:gosec // G404: jitter needs no secrets
}

// checked takes the result of a health check; nil is a pass.
func (t *target) checked(err error, h node.Health) {
	if !t.turned(err != nil, h) {
		return
	}
	if err != nil {
		t.log.Warn("target is down", "target", string(t.url), "cause", err)
		t.changed("target-down", string(t.url))
		return
	}
	t.log.Info("target is up", "target", string(t.url))
	t.changed("target-up", string(t.url))
}

// turned counts a check and tells whether it turned the target's health.
func (t *target) turned(failed bool, h node.Health) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	down := t.down.Load()
	if failed == down {
		t.checks = 0
		return false
	}
	t.checks++
	if (failed && t.checks < h.Fails) || (!failed && t.checks < h.Passes) {
		return false
	}
	t.checks = 0
	if t.down.Store(failed); !failed {
		t.returned.Store(t.now().UnixNano())
	}
	t.inRow, t.rests = 0, 0
	t.restEnds.Store(0)
	return true
}

// TargetStatus is what is known about one target.
type TargetStatus struct {
	URL      string `json:"url"`
	Weight   int    `json:"weight"`
	Address  string `json:"address,omitempty"` // that the URL's host was resolved to
	Canary   bool   `json:"canary,omitempty"`
	State    string `json:"state"`             // up, returning (from a rest, with a growing share), resting or down
	Limit    int64  `json:"limit,omitempty"`   // requests at once
	Ejected  uint64 `json:"ejections"`         // rests so far
	Mean     int64  `json:"mean_microseconds"` // of the last ten seconds' responses
	InFlight int64  `json:"in_flight"`
	Idle     int    `json:"idle_connections"`
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
}

// Name tells the target apart from the upstream's others.
func (t TargetStatus) Name() string {
	if t.Address == "" {
		return t.URL
	}
	return t.URL + " " + t.Address
}

func (t *target) address() string {
	if !t.addr.IsValid() {
		return ""
	}
	return t.addr.String()
}

func (t *target) status() TargetStatus {
	state := "up"
	switch {
	case t.down.Load():
		state = "down"
	case t.resting():
		state = "resting"
	case t.share(t.up.state.Load().cfg.Eject.SlowStart.Std()) < int(t.weight.Load())*1000:
		state = "returning"
	}
	return TargetStatus{
		URL: string(t.url), Address: t.address(), Canary: t.canary, Limit: t.limit(), Ejected: t.ejected.Load(), Mean: t.recent().mean().Microseconds(),
		Weight: int(t.weight.Load()), State: state, InFlight: t.inFlight.Load(), Idle: t.pool.idle(),
		Requests: t.requests.Load(), Failures: t.failures.Load(),
	}
}
