package upstream

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"millrace/node"
)

const (
	// A target rests for restBase, doubled with each rest that follows without a success, at most restMax, and a
	// quarter more or less so that targets don't return together.
	restBase = time.Second
	restMax  = 30 * time.Second
)

// epoch is when this process began. Moments are kept as nanoseconds from it, which setting the system's clock doesn't
// change.
var epoch = time.Now()

func moment(t time.Time) int64 { return int64(t.Sub(epoch)) }

// target is one address of an upstream and what is known about it. Safe for concurrent use.
type target struct {
	up   *Upstream
	url  node.BaseURL
	addr netip.Addr // that its host name was resolved to; not valid if each connection resolves it
	hash uint64     // of both
	pool *pool
	log  *slog.Logger
	told told

	canary   bool
	max      atomic.Int64 // requests at once; 0 for any number. Unless adaptive is set
	adaptive atomic.Pointer[gradient]

	weight   atomic.Int64 // a reload may change it
	inFlight atomic.Int64
	streams  atomic.Int64 // of inFlight: responses that stream, whose pace is their client's
	requests atomic.Uint64
	failures atomic.Uint64
	ejected  atomic.Uint64
	down     atomic.Bool  // fails its health check
	restEnds atomic.Int64 // a moment, in the past when it doesn't rest; 0 for none
	fails    atomic.Int64 // the moment until which it counts as one that should rest, but can't be spared
	returned atomic.Int64 // the moment when it came back, or was added; 0 if it was there from the start

	mu        sync.Mutex // guards what follows
	inRow     int        // failed requests in a row
	outrun    int        // requests in a row that were given up for want of an answer
	rests     int        // rests without a good time between them
	window    window
	restBegan time.Time
	restLasts time.Duration
	checks    int // health checks in a row that say otherwise than down
	now       func() time.Time
	changed   func(kind, detail string)
}

// limit is how many requests the target may get at once; 0 for any number. Responses that stream don't count against an
// adaptive limit: how long they take says nothing about the target.
func (t *target) limit() int64 {
	if g := t.adaptive.Load(); g != nil {
		return g.limit.Load() + t.streams.Load()
	}
	return t.max.Load()
}

func (t *target) hasRoom() bool {
	limit := t.limit()
	if limit == 0 || t.inFlight.Load() < limit {
		return true
	}
	g := t.adaptive.Load()
	return g != nil && g.overdue() && t.inFlight.Load() < t.limit()
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
	t.up.turn(t.canary)
}

// leaveStream gives back the place of a response that streamed.
func (t *target) leaveStream() {
	t.streams.Add(-1)
	t.leave()
}

// observe tells an adaptive limit how long a request took.
func (t *target) observe(took time.Duration) {
	if g := t.adaptive.Load(); g != nil {
		g.observe(took, t.inFlight.Load()-t.streams.Load()+1) // it has left
	}
}

func (t *target) resting() bool {
	ends := t.restEnds.Load()
	return ends != 0 && moment(t.now()) < ends
}

// whole is the target's share when nothing is wrong.
func (t *target) whole() int { return int(t.weight.Load()) * 1000 }

// share is the target's weight, in thousandths. One that has returned begins with a tenth, so that it can warm up.
func (t *target) share(slowStart time.Duration) int {
	full := t.whole()
	returned := t.returned.Load()
	if returned == 0 || slowStart == 0 {
		return full
	}
	since := moment(t.now()) - max(returned, t.restEnds.Load())
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
	now := t.now()
	t.window.add(now, ended, took)
	rested := false
	if !t.before(now, took) {
		t.inRow, t.outrun = 0, 0
		if t.fails.Load() != 0 {
			t.fails.Store(0)
		}
		if rested = t.restEnds.Load() != 0; rested {
			t.restEnds.Store(0)
			t.returned.Store(moment(now))
		}
		if now.Sub(t.restBegan) > 2*t.restLasts { // it has been well for as long as it rested
			t.rests = 0
		}
	}
	t.mu.Unlock()
	if rested {
		t.changed("target-returned", string(t.url))
	}
}

// before reports whether a request began before the target's rest, and so says nothing about it any more. The caller
// holds mu.
func (t *target) before(now time.Time, took time.Duration) bool {
	return t.restLasts > 0 && !now.Add(-took).After(t.restBegan)
}

// outrunInRow is how many requests in a row without an answer in time tell that a target hangs, though nobody waited
// long enough to be sure.
const outrunInRow = 5

var errOutrun = errors.New("requests are given up, one after the other, for want of an answer")

// abandoned counts a request that nobody waited for any longer, with the time that it took until then. outrun says that
// its client had too little time.
func (t *target) abandoned(took time.Duration, outrun bool) {
	t.mu.Lock()
	if now := t.now(); took > t.window.sums(now).mean() { // a shorter time says nothing
		t.window.add(now, givenUp, took)
	}
	t.mu.Unlock()
	if outrun {
		t.outran(took)
	}
}

// outran counts a request that wasn't answered while others were, or in the time of its client. One says little, but
// several in a row, without a single answer between them, say that the target hangs.
func (t *target) outran(took time.Duration) {
	t.mu.Lock()
	if !t.before(t.now(), took) {
		t.outrun++
	}
	hangs := t.outrun >= outrunInRow && t.up.state.Load().cfg.Eject.Failures > 0
	t.mu.Unlock()
	if hangs {
		t.eject(errOutrun)
	}
}

// failed counts a request that the target spoiled and lets it rest when there were too many.
func (t *target) failed(cause error, took time.Duration) {
	t.failures.Add(1)
	if late(cause) { // failures that come at once tell nothing about what it can do
		t.observe(took)
	}
	t.mu.Lock()
	var why error
	if now := t.now(); !t.before(now, took) {
		t.inRow++
		t.window.add(now, failed, took)
		why = t.failing(cause)
	}
	t.mu.Unlock()
	if why != nil {
		t.eject(why)
	}
}

// late reports whether an error is a time-out.
func late(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT)
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
	if s := t.up.state.Load(); !s.spares(t) {
		now := moment(t.now())
		t.fails.Store(now + int64(restBase))
		if s.despairs(now) {
			t.up.despair.Store(now + int64(restBase))
		}
		return 0
	}
	rest := restFor(t.rests)
	t.rests++
	t.window, t.outrun = window{}, 0
	t.restBegan, t.restLasts = t.now(), rest
	t.restEnds.Store(moment(t.restBegan.Add(rest)))
	t.returned.Store(t.restEnds.Load()) // it begins slowly then
	return rest
}

// spares reports whether one more target may rest, of its kind: canaries don't stand in for others. Those that fail
// their health check are away as well. One always may, if there is another to stand in for it.
func (s *state) spares(t *target) bool {
	all, away := 0, 0
	for _, o := range s.targets {
		if o.canary != t.canary {
			continue
		}
		all++
		if o != t && (o.resting() || o.down.Load()) {
			away++
		}
	}
	return (all > 1 || t.canary) && away < max(all*s.cfg.Eject.Most/100, 1)
}

// despairs reports whether every target fails that isn't away: then those that rest are no worse, and to spare them
// would bury the others.
func (s *state) despairs(now int64) bool {
	return !slices.ContainsFunc(s.targets, func(t *target) bool {
		return !t.resting() && !t.down.Load() && t.fails.Load() < now
	})
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
	t.up.turn(t.canary)
	t.log.Info("target is up", "target", string(t.url))
	t.changed("target-up", string(t.url))
}

// turned counts a check and reports whether it turned the target's health.
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
		t.returned.Store(moment(t.now()))
	}
	t.inRow, t.outrun, t.rests = 0, 0, 0
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

func (t *target) status() TargetStatus {
	state := "up"
	switch {
	case t.down.Load():
		state = "down"
	case t.resting():
		state = "resting"
	case t.share(t.up.state.Load().cfg.Eject.SlowStart.Std()) < t.whole():
		state = "returning"
	}
	return TargetStatus{
		URL: string(t.url), Address: text(t.addr), Canary: t.canary, Limit: t.limit(), Ejected: t.ejected.Load(),
		Mean:   t.recent().mean().Microseconds(),
		Weight: int(t.weight.Load()), State: state, InFlight: t.inFlight.Load(), Idle: t.pool.idle(),
		Requests: t.requests.Load(), Failures: t.failures.Load(),
	}
}
