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
	// A target is ejected for ejectBase, doubled with each further ejection without a success between them, at most
	// ejectMax. A quarter more or less keeps targets from returning together.
	ejectBase = time.Second
	ejectMax  = 30 * time.Second
)

// epoch is when this process began. Times are kept as nanoseconds since epoch, so that setting the system's clock
// doesn't change them.
var epoch = time.Now()

func sinceEpoch(t time.Time) int64 { return int64(t.Sub(epoch)) }

// target is one address of an upstream and its state. Safe for concurrent use.
type target struct {
	up         *Upstream
	url        node.BaseURL
	addr       netip.Addr // resolved address; not valid if each connection resolves the name
	hash       uint64     // of both
	pool       *pool
	log        *slog.Logger
	failureLog failureLog

	canary   bool
	max      atomic.Int64 // requests at once; 0 means any number; unless adaptive is set
	adaptive atomic.Pointer[gradient]

	weight    atomic.Int64 // a reload may change it
	inFlight  atomic.Int64
	streams   atomic.Int64 // part of inFlight: streamed responses, whose pace is the client's
	requests  atomic.Uint64
	failures  atomic.Uint64
	ejections atomic.Uint64

	condition

	now     func() time.Time
	changed func(kind, detail string)
}

// condition is what decides whether a target gets requests: its health checks, and the ejection of outliers.
type condition struct {
	down         atomic.Bool  // the health check fails
	ejectedUntil atomic.Int64 // since epoch; in the past if no longer ejected; 0 for none
	failingUntil atomic.Int64 // since epoch: until then it would be ejected if it could be spared
	returned     atomic.Int64 // since epoch: when it came back or was added; 0 if never

	mu           sync.Mutex // guards the fields below
	inRow        int        // failed requests in a row
	timedOut     int        // requests in a row that timed out
	ejectedInRow int        // ejections without a lasting recovery between them
	window       window
	ejectedAt    time.Time
	ejectedFor   time.Duration
	checks       int // health checks in a row that contradict down
}

// limit returns how many requests the target may get at once; 0 means any number. Streamed responses don't count
// against an adaptive limit, since their duration says nothing about the target.
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

// acquire takes a permit for a request and reports whether there was one.
func (t *target) acquire() bool {
	if limit := t.limit(); t.inFlight.Add(1) > limit && limit > 0 {
		t.release()
		return false
	}
	return true
}

// release returns the permit and wakes waiting requests.
func (t *target) release() {
	t.inFlight.Add(-1)
	t.up.wakeWaiting(t.canary)
}

// releaseStream returns the permit of a streamed response.
func (t *target) releaseStream() {
	t.streams.Add(-1)
	t.release()
}

// observeLatency tells an adaptive limit how long a request took.
func (t *target) observeLatency(took time.Duration) {
	if g := t.adaptive.Load(); g != nil {
		g.observe(took, t.inFlight.Load()-t.streams.Load()+1) // this request isn't counted any more
	}
}

func (t *target) isEjected() bool {
	ends := t.ejectedUntil.Load()
	return ends != 0 && sinceEpoch(t.now()) < ends
}

// fullShare is the target's share when nothing is wrong.
func (t *target) fullShare() int { return int(t.weight.Load()) * 1000 }

// share is the target's current weight in thousandths. After its return it starts with a tenth, so that the target can
// warm up.
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

// recordSuccess resets the failures in a row, since the target answers.
func (t *target) recordSuccess(took time.Duration) {
	t.observeLatency(took)
	t.mu.Lock()
	now := t.now()
	t.window.record(now, resultAnswered, took)
	wasEjected := false
	if !t.beganBeforeEjection(now, took) {
		t.inRow, t.timedOut = 0, 0
		if t.failingUntil.Load() != 0 {
			t.failingUntil.Store(0)
		}
		if wasEjected = t.ejectedUntil.Load() != 0; wasEjected {
			t.ejectedUntil.Store(0)
			t.returned.Store(sinceEpoch(now))
		}
		if now.Sub(t.ejectedAt) > 2*t.ejectedFor { // it has worked for twice the time of its ejection
			t.ejectedInRow = 0
		}
	}
	t.mu.Unlock()
	if wasEjected {
		t.changed("target-returned", string(t.url))
	}
}

// beganBeforeEjection reports whether a request began before the latest ejection, and so says nothing any more. The
// caller holds mu.
func (t *target) beganBeforeEjection(now time.Time, took time.Duration) bool {
	return t.ejectedFor > 0 && !now.Add(-took).After(t.ejectedAt)
}

// maxTimedOutInRow is how many timed out requests in a row mean that a target hangs, even if none waited long enough to
// be sure.
const maxTimedOutInRow = 5

var errTimedOut = errors.New("requests are given up, one after the other, for want of an answer")

// recordAbandoned records a request that was given up after that time. timedOut means that its client allowed too
// little time.
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

// recordTimedOut records a request that wasn't answered while another target answered, or within its client's time. One
// says little. Several in a row without an answer between them say that the target hangs.
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

// recordFailure records a request that the target failed, and ejects the target after too many.
func (t *target) recordFailure(cause error, took time.Duration) {
	t.failures.Add(1)
	if isTimeout(cause) { // quick failures say nothing about its capacity
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

// isTimeout reports whether an error is a timeout.
func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, syscall.ETIMEDOUT)
}

// eject ejects the target, unless it is ejected already or can't be spared.
func (t *target) eject(cause error) {
	duration := t.startEjection()
	if duration == 0 {
		return
	}
	t.ejections.Add(1)
	t.log.Warn("target rests after failures", "target", string(t.url), "rest", duration, "cause", cause)
	t.changed("target-rests", string(t.url))
}

// startEjection starts an ejection and returns its duration, or 0 if it starts none.
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
	duration := ejectionTime(t.ejectedInRow)
	t.ejectedInRow++
	t.window, t.timedOut = window{}, 0
	t.ejectedAt, t.ejectedFor = t.now(), duration
	t.ejectedUntil.Store(sinceEpoch(t.ejectedAt.Add(duration)))
	t.returned.Store(t.ejectedUntil.Load()) // with a small share from then on
	return duration
}

// mayEject reports whether one more target of t's kind may be ejected. Canaries don't replace other targets. Targets
// that fail their health check count as ejected. One may always be ejected if another can replace it.
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

// allFailing reports whether every target that is neither ejected nor down is failing. Then the ejected ones are no
// worse, and sparing them would overload the others.
func (s *state) allFailing(now int64) bool {
	return !slices.ContainsFunc(s.targets, func(t *target) bool {
		return !t.isEjected() && !t.down.Load() && t.failingUntil.Load() < now
	})
}

func ejectionTime(inRow int) time.Duration {
	d := min(ejectBase<<min(inRow, 10), ejectMax)
	return d*3/4 + rand.N(d/2) //nolint:gosec // G404: jitter needs no secrets
}

// recordCheck records the result of a health check. A nil error is success.
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

// healthChanged counts a check and reports whether it changed the target's health.
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

// TargetStatus is the state of one target.
type TargetStatus struct {
	URL      string `json:"url"`
	Weight   int    `json:"weight"`
	Address  string `json:"address,omitempty"` // resolved address of the URL's host
	Canary   bool   `json:"canary,omitempty"`
	State    string `json:"state"`             // up, resting (ejected), returning (share grows) or down
	Limit    int64  `json:"limit,omitempty"`   // requests at once
	Ejected  uint64 `json:"ejections"`         // ejections so far
	Mean     int64  `json:"mean_microseconds"` // of the responses in the last ten seconds
	InFlight int64  `json:"in_flight"`
	Idle     int    `json:"idle_connections"`
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
}

// Name distinguishes the target from the upstream's others.
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
