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
	s        *state
	req      *mesh.Request
	deadline time.Time
	left     int  // tries
	again    bool // it may be run twice

	wish
	room [maxTries]*target // for wish.tried
}

func (s *state) newAttempt(req *mesh.Request, deadline time.Time) *attempt {
	a := &attempt{s: s, req: req, deadline: deadline, left: s.cfg.Retry.Tries}
	keyed := s.cfg.Retry.IdempotencyKey && req.Header.Has("Idempotency-Key")
	a.again = req.Stream == nil && (keyed || mesh.Repeatable(req.Method))
	a.tried = a.room[:0]
	a.canary = s.up.canary.takes(s.cfg.Canary, req)
	if s.cfg.Balance.Hash != "" {
		a.key, a.keyed = hashKey(s.cfg.Balance, req)
	}
	s.budget.earn(s.cfg.Retry.Budget)
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
	t, err := a.first(ctx)
	if err != nil {
		return outcome{err: err, unsent: true}
	}
	for t != nil {
		if a.hedges() {
			last = a.hedge(ctx, t)
		} else {
			last = t.asked(ctx, a.req, a.tryDeadline())
		}
		if !a.more(ctx, last) {
			return last
		}
		if t = a.next(); t == nil {
			return last
		}
		if !a.paid(last) {
			t.leave()
			return last
		}
		last.drop()
	}
	return last
}

// first picks a target, and waits for one that has room if it must.
func (a *attempt) first(ctx context.Context) (*target, error) {
	g := &a.s.up.gate
	queue := a.s.cfg.Concurrency.Max > 0
	full := queue && g.waiting.Load() > 0 // then others are first
	if !full {
		var t *target
		if t, full = a.s.pick(&a.wish); t != nil {
			return a.took(t), nil
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

// next picks a target that wasn't asked yet.
func (a *attempt) next() *target {
	t, _ := a.s.pick(&a.wish)
	return a.took(t)
}

// took counts a try.
func (a *attempt) took(t *target) *target {
	if t != nil {
		a.tried = append(a.tried, t)
		a.left--
	}
	return t
}

// tryDeadline leaves time for another try.
func (a *attempt) tryDeadline() time.Time {
	per := a.s.cfg.Retry.TryTimeout.Std()
	if at := time.Now().Add(per); per > 0 && a.again && a.left > 0 && at.Before(a.deadline) {
		return at
	}
	return a.deadline
}

// more tells whether another try is allowed, and of use.
func (a *attempt) more(ctx context.Context, last outcome) bool {
	return last.spoiled() && a.left > 0 && ctx.Err() == nil && time.Now().Before(a.deadline) && (last.unsent || a.again)
}

// paid takes another try out of the budget. One that reached nobody cost the upstream nothing. A request that its sender has sent twice has had its
// share already, or else tries would multiply.
func (a *attempt) paid(last outcome) bool {
	return last.unsent || (!a.req.Again && a.s.budget.spend())
}

// spoiled tells whether the target failed: it didn't answer, or answered that it can't.
func (o outcome) spoiled() bool { return o.err != nil || serverFault(o.resp.Status) }

// serverFault names the statuses that say that the server failed, and not that the request was wrong or asked for too much (RFC 9110 §15.6).
func serverFault(status int) bool { return status == 500 || (status >= 502 && status <= 504) }

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

// judge tells the target how it did. That a client went away, or broke its body off, says nothing about the target but that it wasn't faster.
func (t *target) judge(ctx context.Context, o outcome, took time.Duration) {
	switch {
	case !o.spoiled():
		t.succeeded(took)
	case o.err == nil:
		t.failed(errStatus, took)
	case !errors.Is(ctx.Err(), context.Canceled) && !errors.Is(o.err, errBrokeOff):
		t.failed(o.err, took)
	default:
		t.abandoned(took)
	}
}

var errStatus = errors.New("it answers 500, 502, 503 or 504")
