package upstream

import (
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"millrace/node"
)

const (
	// restAfter is how many requests in a row must fail until a target rests.
	restAfter = 3
	// A target rests for restBase, doubled with each rest that follows without a success, at most restMax, and a
	// quarter more or less so that targets don't return together.
	restBase = time.Second
	restMax  = 30 * time.Second
)

// target is one address of an upstream and what is known about it. Safe for concurrent use.
type target struct {
	url  node.BaseURL
	pool *pool
	log  *slog.Logger

	weight   atomic.Int64 // a reload may change it
	inFlight atomic.Int64
	requests atomic.Uint64
	failures atomic.Uint64
	down     atomic.Bool  // fails its health check
	restEnds atomic.Int64 // unix nanoseconds; in the past when it doesn't rest

	mu      sync.Mutex // guards what follows
	inRow   int        // failed requests in a row
	rests   int        // rests without a success between them
	checks  int        // health checks in a row that say otherwise than down
	now     func() time.Time
	changed func(kind, detail string)
}

// usable tells whether requests may go to the target.
func (t *target) usable(restingToo bool) bool {
	return !t.down.Load() && (restingToo || !t.resting())
}

func (t *target) resting() bool {
	ends := t.restEnds.Load()
	return ends != 0 && t.now().UnixNano() < ends
}

// load is what the balancer compares: requests in flight, this one included, for the target's weight.
func (t *target) load() float64 { return float64(t.inFlight.Load()+1) / float64(t.weight.Load()) }

// succeeded forgets the failures: the target answers.
func (t *target) succeeded() {
	t.mu.Lock()
	t.inRow, t.rests = 0, 0
	rested := t.restEnds.Swap(0) != 0
	t.mu.Unlock()
	if rested {
		t.changed("target-returned", string(t.url))
	}
}

// failed counts a request that the target spoiled and lets it rest when there were too many in a row.
func (t *target) failed(cause error) {
	t.failures.Add(1)
	rest := t.rest()
	if rest == 0 {
		return
	}
	t.log.Warn("target rests after failures", "target", string(t.url), "rest", rest, "cause", cause)
	t.changed("target-rests", string(t.url))
}

// rest counts a failure and begins a rest if it is due; 0 means that none began.
func (t *target) rest() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.inRow++
	if t.inRow < restAfter || t.resting() {
		return 0
	}
	rest := restFor(t.rests)
	t.rests++
	t.restEnds.Store(t.now().Add(rest).UnixNano())
	return rest
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
	t.down.Store(failed)
	t.inRow, t.rests = 0, 0
	t.restEnds.Store(0)
	return true
}

// TargetStatus is what is known about one target.
type TargetStatus struct {
	URL      string `json:"url"`
	Weight   int    `json:"weight"`
	State    string `json:"state"` // up, resting or down
	InFlight int64  `json:"in_flight"`
	Idle     int    `json:"idle_connections"`
	Requests uint64 `json:"requests"`
	Failures uint64 `json:"failures"`
}

func (t *target) status() TargetStatus {
	state := "up"
	switch {
	case t.down.Load():
		state = "down"
	case t.resting():
		state = "resting"
	}
	return TargetStatus{
		URL: string(t.url), Weight: int(t.weight.Load()), State: state, InFlight: t.inFlight.Load(), Idle: t.pool.idle(),
		Requests: t.requests.Load(), Failures: t.failures.Load(),
	}
}
