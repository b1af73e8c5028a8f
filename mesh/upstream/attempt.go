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
type attempt struct {
	s          *state
	req        *mesh.Request
	deadline   time.Time
	left       int  // tries
	repeatable bool // it may be run twice

	wish
	room [maxTries]*target // for wish.tried
}

func (s *state) newAttempt(req *mesh.Request, deadline time.Time) *attempt {
	a := &attempt{s: s, req: req, deadline: deadline, left: s.cfg.Retry.Tries}
	keyed := s.cfg.Retry.IdempotencyKey && req.Header.Get("Idempotency-Key") != ""
	a.repeatable = req.Stream == nil && (keyed || mesh.Repeatable(req.Method))
	a.tried = a.room[:0]
	a.canary = s.up.canary.takes(s.cfg.Canary, req)
	if s.cfg.Balance.Hash != "" {
		a.key, a.keyed = hashKey(s.cfg.Balance, req)
	}
	if !req.Again { // it has earned already
		s.budget.Earn(s.cfg.Retry.Budget)
	}
	return a
}

// run asks a target, and others for as long as that may help.
func (a *attempt) run(ctx context.Context) outcome {
	last := a.try(ctx)
	if last.resp != nil {
		last.resp.Member = a.who(last.by)
	}
	return last
}

// who says for logs and events which target answered, and at which try.
func (a *attempt) who(t *target) string {
	if len(a.tried) == 1 {
		return t.pool.addr
	}
	return t.pool.addr + ", of " + strconv.Itoa(len(a.tried)) + " asked"
}

func (a *attempt) try(ctx context.Context) (last outcome) {
	t, err := a.acquire(ctx)
	if err != nil {
		return outcome{err: err, unsent: true}
	}
	for reached := false; ; {
		if a.hedges() {
			last = a.hedge(ctx, t)
		} else {
			last = t.asked(ctx, a.req, a.tryDeadline())
		}
		last.reached = last.reached || reached
		if t = a.again(ctx, last); t == nil {
			return last
		}
		reached = last.reached
		last.drop()
	}
}

// again takes a place for another try, if one is allowed, of use, and paid for.
func (a *attempt) again(ctx context.Context, last outcome) *target {
	if !a.more(ctx, last) {
		return nil
	}
	a.s = a.s.up.state.Load() // its targets may be others by now
	paid := !last.unsent      // that cost the upstream nothing
	if !a.s.others(&a.wish) || (paid && !a.pays()) {
		return nil
	}
	var t *target
	if last.resp != nil && last.resp.Stream != nil { // it holds a place that others may wait for
		t, _ = a.next()
	} else {
		t, _ = a.acquire(ctx)
	}
	if t == nil && paid {
		a.s.budget.Refund()
	}
	return t
}

// acquire picks a target, and waits for one that has room if it must.
func (a *attempt) acquire(ctx context.Context) (*target, error) {
	g := a.s.up.gate(a.canary)
	queue := a.s.cfg.Concurrency.Max > 0
	full := queue && g.waiting.Load() > 0 // then others are first
	if !full {
		var t *target
		if t, full = a.next(); t != nil {
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
	return g.pass(ctx, a.s.cfg.Concurrency, a.deadline, a.next)
}

var errNoTarget = node.Errorf(node.CodeNoTarget, nil, "no target of the upstream is healthy")

// next picks a target that wasn't asked yet, out of those that there are by now.
func (a *attempt) next() (t *target, full bool) {
	a.s = a.s.up.state.Load()
	if t, full = a.s.pick(&a.wish); t != nil {
		a.tried = append(a.tried, t)
		a.left--
	}
	return t, full
}

// tryDeadline leaves time for another try, if one may follow.
func (a *attempt) tryDeadline() time.Time {
	if !a.mayFollow() {
		return a.deadline
	}
	if at := time.Now().Add(a.s.cfg.Retry.TryTimeout.Std()); at.Before(a.deadline) {
		return at
	}
	return a.deadline
}

// mayFollow reports whether a try that takes too long could be followed by another.
func (a *attempt) mayFollow() bool {
	return a.s.cfg.Retry.TryTimeout > 0 && a.repeatable && a.left > 0 && !a.req.Again &&
		a.s.budget.Has(a.s.cfg.Retry.Budget) && a.s.others(&a.wish)
}

// more reports whether another try is allowed, and of use.
func (a *attempt) more(ctx context.Context, last outcome) bool {
	return a.spoiled(last) && a.left > 0 && ctx.Err() == nil && time.Now().Before(a.deadline) &&
		(last.unsent || a.repeatable)
}

// pays takes another try out of the budget. A request that its sender has sent twice has had its share already, or else
// tries would multiply.
func (a *attempt) pays() bool { return !a.req.Again && a.s.budget.Spend(a.s.cfg.Retry.Budget) }

// spoiled reports whether another target may do better: this one didn't answer, or with a status that is configured as
// a reason for a retry.
func (a *attempt) spoiled(o outcome) bool { return o.err != nil || a.s.cfg.Retry.On.Has(o.resp.Status) }

// drop gives up a response for a better one.
func (o outcome) drop() {
	if o.resp != nil && o.resp.Stream != nil {
		_ = o.resp.Stream.Close() // nobody reads it
	}
}

// asked asks the target once and tells it how it did. The caller has taken a place there.
func (t *target) asked(ctx context.Context, req *mesh.Request, deadline time.Time) (out outcome) {
	defer func() {
		if p := recover(); p != nil {
			t.log.ErrorContext(ctx, "upstream call panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			out = outcome{err: node.Errorf(node.CodeInternal, nil, "the call failed inside the gateway")}
		}
	}()
	began := time.Now()
	out = t.roundTrip(ctx, req, deadline)
	t.judge(ctx, out, time.Since(began))
	out.by = t
	return out
}

// hurried reports whether a request that wasn't answered in time had less of it than the upstream has by its
// configuration: then it is its client that couldn't wait.
func (t *target) hurried(took time.Duration) bool {
	cfg := &t.up.state.Load().cfg
	full := patience
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
const patience = 10 * time.Second

// judge tells the target how it did. That a client went away, or broke its body off, says nothing about the target but
// that it wasn't faster; that the node has no descriptor left says nothing at all.
func (t *target) judge(ctx context.Context, o outcome, took time.Duration) {
	switch {
	case o.err == nil && t.up.state.Load().cfg.Eject.On.Has(o.resp.Status):
		t.failed(fmt.Errorf("it answers %d", o.resp.Status), took)
	case o.err == nil:
		t.succeeded(took)
	case own(o.err) || ownAct(o.err): // the target knows nothing of it
	case errors.Is(ctx.Err(), context.Canceled) || errors.Is(o.err, errBrokeOff):
		t.abandoned(took, false)
	case late(o.err) && !o.unsent && t.hurried(took):
		t.abandoned(took, true)
	default:
		t.failed(o.err, took)
	}
}
