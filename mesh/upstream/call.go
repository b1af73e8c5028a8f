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

// call is one request that the upstream handles: its tries at targets and what they may do.
type call struct {
	s          *state
	req        *mesh.Request
	deadline   time.Time
	triesLeft  int  // remaining tries
	repeatable bool // the request may run twice

	selection
	triedBuf [maxTries]*target // memory for selection.tried
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
	if !req.Again { // otherwise the first try has earned already
		s.budget.Earn(s.cfg.Retry.Budget)
	}
	return c
}

// run asks a target, and others as long as that may help.
func (c *call) run(ctx context.Context) outcome {
	last := c.callTargets(ctx)
	if last.resp != nil {
		last.resp.Member = c.memberName(last.by)
	}
	return last
}

// memberName says for logs and events which target answered, after how many tries.
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

// retryTarget acquires a target for another try, if one is allowed, useful and paid for.
func (c *call) retryTarget(ctx context.Context, last outcome) *target {
	if !c.retryHelps(ctx, last) {
		return nil
	}
	c.s = c.s.up.state.Load() // the targets may have changed
	costs := !last.unsent     // an unsent try cost the upstream nothing
	if !c.s.hasUntried(&c.selection) || (costs && !c.spendBudget()) {
		return nil
	}
	var t *target
	if last.resp != nil && last.resp.Stream != nil { // it holds a permit that others may wait for
		t, _ = c.tryAcquire()
	} else {
		t, _ = c.acquireTarget(ctx)
	}
	if t == nil && costs {
		c.s.budget.Refund()
	}
	return t
}

// acquireTarget acquires a target. If all are at their limits, it waits in the queue, if there is one.
func (c *call) acquireTarget(ctx context.Context) (*target, error) {
	q := c.s.up.queue(c.canary)
	limited := c.s.cfg.Concurrency.Max > 0
	full := limited && q.waiting.Load() > 0 // those in the queue are first
	if !full {
		var t *target
		if t, full = c.tryAcquire(); t != nil {
			return t, nil
		}
	}
	switch {
	case !full:
		return nil, errNoTarget
	case !limited:
		q.refused.Add(1)
		return nil, errFull
	}
	return q.wait(ctx, c.s.cfg.Concurrency, c.deadline, c.tryAcquire)
}

var errNoTarget = node.Errorf(node.CodeNoTarget, nil, "no target of the upstream is healthy")

// tryAcquire acquires a target of the current configuration that wasn't tried yet.
func (c *call) tryAcquire() (t *target, full bool) {
	c.s = c.s.up.state.Load()
	if t, full = c.s.acquire(&c.selection); t != nil {
		c.tried = append(c.tried, t)
		c.triesLeft--
	}
	return t, full
}

// tryDeadline returns when a try must end. If another may follow, it leaves time for that.
func (c *call) tryDeadline() time.Time {
	if !c.mayRetryTimeout() {
		return c.deadline
	}
	if at := time.Now().Add(c.s.cfg.Retry.TryTimeout.Std()); at.Before(c.deadline) {
		return at
	}
	return c.deadline
}

// mayRetryTimeout reports whether another try could follow one that takes too long.
func (c *call) mayRetryTimeout() bool {
	return c.s.cfg.Retry.TryTimeout > 0 && c.repeatable && c.triesLeft > 0 && !c.req.Again &&
		c.s.budget.Has(c.s.cfg.Retry.Budget) && c.s.hasUntried(&c.selection)
}

// retryHelps reports whether another try is allowed and useful.
func (c *call) retryHelps(ctx context.Context, last outcome) bool {
	return c.retryable(last) && c.triesLeft > 0 && ctx.Err() == nil && time.Now().Before(c.deadline) &&
		(last.unsent || c.repeatable)
}

// spendBudget pays for another try. A request that its sender has sent again gets none, or tries would multiply.
func (c *call) spendBudget() bool { return !c.req.Again && c.s.budget.Spend(c.s.cfg.Retry.Budget) }

// retryable reports whether another target may do better: this one didn't answer, or its status is configured as a
// reason to retry.
func (c *call) retryable(o outcome) bool { return o.err != nil || c.s.cfg.Retry.On.Has(o.resp.Status) }

// discard closes a response that isn't used.
func (o outcome) discard() {
	if o.resp != nil && o.resp.Stream != nil {
		_ = o.resp.Stream.Close() // nobody reads it
	}
}

// request asks the target once and records the outcome. The caller has acquired the target.
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

// cutShort reports whether a request without an answer had less time than the upstream's configuration allows. Then its
// client was impatient, and the target isn't to blame.
func (t *target) cutShort(took time.Duration) bool {
	cfg := &t.up.state.Load().cfg
	configured := defaultTimeout
	switch {
	case cfg.Retry.TryTimeout > 0:
		configured = cfg.Retry.TryTimeout.Std()
	case cfg.Timeout > 0:
		configured = cfg.Timeout.Std()
	}
	return took < configured*9/10
}

// defaultTimeout is how long a target may take if its upstream configures no timeout. Routes decide how long their
// clients wait, and an impatient one must not eject a target for all.
const defaultTimeout = 10 * time.Second

// record records the outcome at the target. That a client went away, or that its body failed, only says that the target
// wasn't faster. That the node has no descriptor left says nothing.
func (t *target) record(ctx context.Context, o outcome, took time.Duration) {
	switch {
	case o.err == nil && t.up.state.Load().cfg.Eject.On.Has(o.resp.Status):
		t.recordFailure(fmt.Errorf("it answers %d", o.resp.Status), took)
	case o.err == nil:
		t.recordSuccess(took)
	case isNodeLimit(o.err) || isNodeClose(o.err): // not the target's doing
	case errors.Is(ctx.Err(), context.Canceled) || errors.Is(o.err, errRequestBody):
		t.recordAbandoned(took, false)
	case isTimeout(o.err) && !o.unsent && t.cutShort(took):
		t.recordAbandoned(took, true)
	default:
		t.recordFailure(o.err, took)
	}
}
