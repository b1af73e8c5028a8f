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
	ejectBase = time.Second
	ejectMax  = 30 * time.Second
)

// epoch is when this process began. Moments are kept as nanoseconds from it, which setting the system's clock doesn't
// change.
var epoch = time.Now()

func sinceEpoch(t time.Time) int64 { return int64(t.Sub(epoch)) }

// target is one address of an upstream and what is known about it. Safe for concurrent use.
type target struct {
	up         *Upstream
	url        node.BaseURL
	addr       netip.Addr // that its host name was resolved to; not valid if each connection resolves it
	hash       uint64     // of both
	pool       *pool
	log        *slog.Logger
	failureLog failureLog

	canary   bool
	max      atomic.Int64 // requests at once; 0 for any number. Unless adaptive is set
	adaptive atomic.Pointer[gradient]

	weight       atomic.Int64 // a reload may change it
	inFlight     atomic.Int64
	streams      atomic.Int64 // of inFlight: responses that stream, whose pace is their client's
	requests     atomic.Uint64
	failures     atomic.Uint64
	ejections    atomic.Uint64
	down         atomic.Bool  // fails its health check
	ejectedUntil atomic.Int64 // a moment, in the past when it doesn't rest; 0 for none
	failingUntil atomic.Int64 // the moment until which it counts as one that should rest, but can't be spared
	returned     atomic.Int64 // the moment when it came back, or was added; 0 if it was there from the start

	mu           sync.Mutex // guards what follows
	inRow        int        // failed requests in a row
	timedOut     int        // requests in a row that were given up for want of an answer
	ejectedInRow int        // rests without a good time between them
	window       window
	ejectedAt    time.Time
	ejectedFor   time.Duration
	checks       int // health checks in a row that say otherwise than down
	now          func() time.Time
	changed      func(kind, detail string)
}

// limit is how many requests the target may get at once; 0 for any number. Responses that stream don't count against an
// adaptive limit: how long they take says nothing about the target.
func (t *target) limit() int64 {
	if g := t.adaptive.Load(); g != nil {
		return g.limit.Load() + t.streams.Load()
	}
	return t.max.Load()
}

func (t *target) hasCapacity() bool {
	limit := t.limit()
	if limit == 0 || t.inFlight.Load() < limit {
		return true
	}
	g := t.adaptive.Load()
	return g != nil && g.endOverdueProbe() && t.inFlight.Load() < t.limit()
}

// enter takes a place for a request; false when there is none.
func (t *target) acquire() bool {
	if limit := t.limit(); t.inFlight.Add(1) > limit && limit > 0 {
		t.release()
		return false
	}
	return true
}

// leave gives the place back, to whoever waits for it.
func (t *target) release() {
	t.inFlight.Add(-1)
	t.up.wakeWaiting(t.canary)
}

// leaveStream gives back the place of a response that streamed.
func (t *target) releaseStream() {
	t.streams.Add(-1)
	t.release()
}

// observe tells an adaptive limit how long a request took.
func (t *target) observeLatency(took time.Duration) {
	if g := t.adaptive.Load(); g != nil {
		g.observe(took, t.inFlight.Load()-t.streams.Load()+1) // it has left
	}
}

func (t *target) isEjected() bool {
	ends := t.ejectedUntil.Load()
	return ends != 0 && sinceEpoch(t.now()) < ends
}

// whole is the target's share when nothing is wrong.
func (t *target) fullShare() int { return int(t.weight.Load()) * 1000 }

// share is the target's weight, in thousandths. One that has returned begins with a tenth, so that it can warm up.
func (t *target) share(slowStart time.Duration) int {
	full := t.fullShare()
	returned := t.returned.Load()
	if returned == 0 || slowStart == 0 {
		return full
	}
	since := sinceEpoch(t.now()) - max(returned, t.ejectedUntil.Load())
	if since >= int64(slowStart) {
		t.returned.CompareAndSwap(returned, 0)
		return full
	}
	return max(int(float64(full)*float64(since)/float64(slowStart)), full/10)
}

// succeeded forgets the failures in a row: the target answers.
func (t *target) recordSuccess(took time.Duration) {
	t.observeLatency(took)
	t.mu.Lock()
	now := t.now()
	t.window.record(now, resultAnswered, took)
	rested := false
	if !t.beganBeforeEjection(now, took) {
		t.inRow, t.timedOut = 0, 0
		if t.failingUntil.Load() != 0 {
			t.failingUntil.Store(0)
		}
		if rested = t.ejectedUntil.Load() != 0; rested {
			t.ejectedUntil.Store(0)
			t.returned.Store(sinceEpoch(now))
		}
		if now.Sub(t.ejectedAt) > 2*t.ejectedFor { // it has been well for as long as it rested
			t.ejectedInRow = 0
		}
	}
	t.mu.Unlock()
	if rested {
		t.changed("target-returned", string(t.url))
	}
}

// before reports whether a request began before the target's rest, and so says nothing about it any more. The caller
// holds mu.
func (t *target) beganBeforeEjection(now time.Time, took time.Duration) bool {
	return t.ejectedFor > 0 && !now.Add(-took).After(t.ejectedAt)
}

// outrunInRow is how many requests in a row without an answer in time tell that a target hangs, though nobody waited
// long enough to be sure.
const maxTimedOutInRow = 5

var errTimedOut = errors.New("requests are given up, one after the other, for want of an answer")

// abandoned counts a request that nobody waited for any longer, with the time that it took until then. outrun says that
// its client had too little time.
func (t *target) recordAbandoned(took time.Duration, timedOut bool) {
	t.mu.Lock()
	if now := t.now(); took > t.window.sums(now).mean() { // a shorter time says nothing
		t.window.record(now, resultAbandoned, took)
	}
	t.mu.Unlock()
	if timedOut {
		t.recordTimedOut(took)
	}
}

// outran counts a request that wasn't answered while others were, or in the time of its client. One says little, but
// several in a row, without a single answer between them, say that the target hangs.
func (t *target) recordTimedOut(took time.Duration) {
	t.mu.Lock()
	if !t.beganBeforeEjection(t.now(), took) {
		t.timedOut++
	}
	hangs := t.timedOut >= maxTimedOutInRow && t.up.state.Load().cfg.Eject.Failures > 0
	t.mu.Unlock()
	if hangs {
		t.eject(errTimedOut)
	}
}

// failed counts a request that the target spoiled and lets it rest when there were too many.
func (t *target) recordFailure(cause error, took time.Duration) {
	t.failures.Add(1)
	if isTimeout(cause) { // failures that come at once tell nothing about what it can do
		t.observeLatency(took)
	}
	t.mu.Lock()
	var why error
	if now := t.now(); !t.beganBeforeEjection(now, took) {
		t.inRow++
		t.window.record(now, resultFailed, took)
		why = t.ejectReason(cause)
	}
	t.mu.Unlock()
	if why != nil {
		t.eject(why)
	}
}

// late reports whether an error is a time-out.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT)
}

// eject lets the target rest, if it doesn't yet and others are left.
func (t *target) eject(cause error) {
	rest := t.startEjection()
	if rest == 0 {
		return
	}
	t.ejections.Add(1)
	t.log.Warn("target rests after failures", "target", string(t.url), "rest", rest, "cause", cause)
	t.changed("target-rests", string(t.url))
}

// rest begins a rest; 0 means that none began.
func (t *target) startEjection() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.isEjected() {
		return 0
	}
	t.up.ejecting.Lock()
	defer t.up.ejecting.Unlock()
	if s := t.up.state.Load(); !s.mayEject(t) {
		now := sinceEpoch(t.now())
		t.failingUntil.Store(now + int64(ejectBase))
		if s.allFailing(now) {
			t.up.allFailingUntil.Store(now + int64(ejectBase))
		}
		return 0
	}
	rest := ejectionTime(t.ejectedInRow)
	t.ejectedInRow++
	t.window, t.timedOut = window{}, 0
	t.ejectedAt, t.ejectedFor = t.now(), rest
	t.ejectedUntil.Store(sinceEpoch(t.ejectedAt.Add(rest)))
	t.returned.Store(t.ejectedUntil.Load()) // it begins slowly then
	return rest
}

// spares reports whether one more target may rest, of its kind: canaries don't stand in for others. Those that fail
// their health check are away as well. One always may, if there is another to stand in for it.
func (s *state) mayEject(t *target) bool {
	all, away := 0, 0
	for _, o := range s.targets {
		if o.canary != t.canary {
			continue
		}
		all++
		if o != t && (o.isEjected() || o.down.Load()) {
			away++
		}
	}
	return (all > 1 || t.canary) && away < max(all*s.cfg.Eject.Most/100, 1)
}

// despairs reports whether every target fails that isn't away: then those that rest are no worse, and to spare them
// would bury the others.
func (s *state) allFailing(now int64) bool {
	return !slices.ContainsFunc(s.targets, func(t *target) bool {
		return !t.isEjected() && !t.down.Load() && t.failingUntil.Load() < now
	})
}

func ejectionTime(rests int) time.Duration {
	d := min(ejectBase<<min(rests, 10), ejectMax)
	return d*3/4 + rand.N(d/2) //nolint:gosec // G404: jitter needs no secrets
}

// checked takes the result of a health check; nil is a pass.
func (t *target) recordCheck(err error, h node.Health) {
	if !t.healthChanged(err != nil, h) {
		return
	}
	if err != nil {
		t.log.Warn("target is down", "target", string(t.url), "cause", err)
		t.changed("target-down", string(t.url))
		return
	}
	t.up.wakeWaiting(t.canary)
	t.log.Info("target is up", "target", string(t.url))
	t.changed("target-up", string(t.url))
}

// turned counts a check and reports whether it turned the target's health.
func (t *target) healthChanged(failed bool, h node.Health) bool {
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
		t.returned.Store(sinceEpoch(t.now()))
	}
	t.inRow, t.timedOut, t.ejectedInRow = 0, 0, 0
	t.ejectedUntil.Store(0)
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
	case t.isEjected():
		state = "resting"
	case t.share(t.up.state.Load().cfg.Eject.SlowStart.Std()) < t.fullShare():
		state = "returning"
	}
	return TargetStatus{
		URL: string(t.url), Address: addrText(t.addr), Canary: t.canary, Limit: t.limit(), Ejected: t.ejections.Load(),
		Mean:   t.recentSums().mean().Microseconds(),
		Weight: int(t.weight.Load()), State: state, InFlight: t.inFlight.Load(), Idle: t.pool.idleCount(),
		Requests: t.requests.Load(), Failures: t.failures.Load(),
	}
}
