package upstream

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strconv"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// attempt is one request on its way through the targets: one place for what it may do.
type call struct {
	s          *state
	req        *mesh.Request
	deadline   time.Time
	triesLeft  int  // tries
	repeatable bool // it may be run twice

	selection
	triedBuf [maxTries]*target // for wish.tried
}

func (s *state) newCall(req *mesh.Request, deadline time.Time) *call {
	c := &call{s: s, req: req, deadline: deadline, triesLeft: s.cfg.Retry.Tries}
	keyed := s.cfg.Retry.IdempotencyKey && req.Header.Get("Idempotency-Key") != ""
	c.repeatable = req.Stream == nil && (keyed || mesh.Repeatable(req.Method))
	c.tried = c.triedBuf[:0]
	c.canary = s.up.canary.selects(s.cfg.Canary, req)
	if s.cfg.Balance.Hash != "" {
		c.key, c.keyed = hashKey(s.cfg.Balance, req)
	}
	if !req.Again { // it has earned already
		s.budget.Earn(s.cfg.Retry.Budget)
	}
	return c
}

// run asks a target, and others for as long as that may help.
func (c *call) run(ctx context.Context) outcome {
	last := c.callTargets(ctx)
	if last.resp != nil {
		last.resp.Member = c.memberName(last.by)
	}
	return last
}

// who says for logs and events which target answered, and at which try.
func (c *call) memberName(t *target) string {
	if len(c.tried) == 1 {
		return t.pool.addr
	}
	return t.pool.addr + ", of " + strconv.Itoa(len(c.tried)) + " asked"
}

func (c *call) callTargets(ctx context.Context) (last outcome) {
	t, err := c.acquireTarget(ctx)
	if err != nil {
		return outcome{err: err, unsent: true}
	}
	for reached := false; ; {
		if c.mayHedge() {
			last = c.hedge(ctx, t)
		} else {
			last = t.request(ctx, c.req, c.tryDeadline())
		}
		last.reached = last.reached || reached
		if t = c.retryTarget(ctx, last); t == nil {
			return last
		}
		reached = last.reached
		last.discard()
	}
}

// again takes a place for another try, if one is allowed, of use, and paid for.
func (c *call) retryTarget(ctx context.Context, last outcome) *target {
	if !c.retryHelps(ctx, last) {
		return nil
	}
	c.s = c.s.up.state.Load() // its targets may be others by now
	paid := !last.unsent      // that cost the upstream nothing
	if !c.s.hasUntried(&c.selection) || (paid && !c.spendBudget()) {
		return nil
	}
	var t *target
	if last.resp != nil && last.resp.Stream != nil { // it holds a place that others may wait for
		t, _ = c.tryAcquire()
	} else {
		t, _ = c.acquireTarget(ctx)
	}
	if t == nil && paid {
		c.s.budget.Refund()
	}
	return t
}

// acquire picks a target, and waits for one that has room if it must.
func (c *call) acquireTarget(ctx context.Context) (*target, error) {
	g := c.s.up.queue(c.canary)
	queue := c.s.cfg.Concurrency.Max > 0
	full := queue && g.waiting.Load() > 0 // then others are first
	if !full {
		var t *target
		if t, full = c.tryAcquire(); t != nil {
			return t, nil
		}
	}
	switch {
	case !full:
		return nil, errNoTarget
	case !queue:
		g.refused.Add(1)
		return nil, errFull
	}
	return g.wait(ctx, c.s.cfg.Concurrency, c.deadline, c.tryAcquire)
}

var errNoTarget = node.Errorf(node.CodeNoTarget, nil, "no target of the upstream is healthy")

// next picks a target that wasn't asked yet, out of those that there are by now.
func (c *call) tryAcquire() (t *target, full bool) {
	c.s = c.s.up.state.Load()
	if t, full = c.s.acquire(&c.selection); t != nil {
		c.tried = append(c.tried, t)
		c.triesLeft--
	}
	return t, full
}

// tryDeadline leaves time for another try, if one may follow.
func (c *call) tryDeadline() time.Time {
	if !c.mayRetryTimeout() {
		return c.deadline
	}
	if at := time.Now().Add(c.s.cfg.Retry.TryTimeout.Std()); at.Before(c.deadline) {
		return at
	}
	return c.deadline
}

// mayFollow reports whether a try that takes too long could be followed by another.
func (c *call) mayRetryTimeout() bool {
	return c.s.cfg.Retry.TryTimeout > 0 && c.repeatable && c.triesLeft > 0 && !c.req.Again &&
		c.s.budget.Has(c.s.cfg.Retry.Budget) && c.s.hasUntried(&c.selection)
}

// more reports whether another try is allowed, and of use.
func (c *call) retryHelps(ctx context.Context, last outcome) bool {
	return c.retryable(last) && c.triesLeft > 0 && ctx.Err() == nil && time.Now().Before(c.deadline) &&
		(last.unsent || c.repeatable)
}

// pays takes another try out of the budget. A request that its sender has sent twice has had its share already, or else
// tries would multiply.
func (c *call) spendBudget() bool { return !c.req.Again && c.s.budget.Spend(c.s.cfg.Retry.Budget) }

// spoiled reports whether another target may do better: this one didn't answer, or with a status that is configured as
// a reason for a retry.
func (c *call) retryable(o outcome) bool { return o.err != nil || c.s.cfg.Retry.On.Has(o.resp.Status) }

// drop gives up a response for a better one.
func (o outcome) discard() {
	if o.resp != nil && o.resp.Stream != nil {
		_ = o.resp.Stream.Close() // nobody reads it
	}
}

// asked asks the target once and tells it how it did. The caller has taken a place there.
func (t *target) request(ctx context.Context, req *mesh.Request, deadline time.Time) (out outcome) {
	defer func() {
		if p := recover(); p != nil {
			t.log.ErrorContext(ctx, "upstream call panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			out = outcome{err: node.Errorf(node.CodeInternal, nil, "the call failed inside the gateway")}
		}
	}()
	began := time.Now()
	out = t.requestAndRelease(ctx, req, deadline)
	t.record(ctx, out, time.Since(began))
	out.by = t
	return out
}

// hurried reports whether a request that wasn't answered in time had less of it than the upstream has by its
// configuration: then it is its client that couldn't wait.
func (t *target) cutShort(took time.Duration) bool {
	cfg := &t.up.state.Load().cfg
	full := defaultTimeout
	switch {
	case cfg.Retry.TryTimeout > 0:
		full = cfg.Retry.TryTimeout.Std()
	case cfg.Timeout > 0:
		full = cfg.Timeout.Std()
	}
	return took < full*9/10
}

// patience is how long a target may be silent where its upstream has no timeout of its own. Routes decide how long
// their clients wait, and one that is impatient must not take a target out for all.
const defaultTimeout = 10 * time.Second

// judge tells the target how it did. That a client went away, or broke its body off, says nothing about the target but
// that it wasn't faster; that the node has no descriptor left says nothing at all.
func (t *target) record(ctx context.Context, o outcome, took time.Duration) {
	switch {
	case o.err == nil && t.up.state.Load().cfg.Eject.On.Has(o.resp.Status):
		t.recordFailure(fmt.Errorf("it answers %d", o.resp.Status), took)
	case o.err == nil:
		t.recordSuccess(took)
	case isNodeLimit(o.err) || isNodeClose(o.err): // the target knows nothing of it
	case errors.Is(ctx.Err(), context.Canceled) || errors.Is(o.err, errRequestBody):
		t.recordAbandoned(took, false)
	case isTimeout(o.err) && !o.unsent && t.cutShort(took):
		t.recordAbandoned(took, true)
	default:
		t.recordFailure(o.err, took)
	}
}
