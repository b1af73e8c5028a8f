package upstream

import (
	"context"
	"errors"
	"time"

	"millrace/mesh"
)

// attempt is one request on its way through the targets: one place for what it may do.
type attempt struct {
	s        *state
	req      *mesh.Request
	deadline time.Time
	left     int  // tries
	again    bool // it may be run twice

	room  [maxTries]*target
	tried []*target
}

func (s *state) newAttempt(req *mesh.Request, deadline time.Time) *attempt {
	a := &attempt{s: s, req: req, deadline: deadline, left: s.cfg.Retry.Tries}
	keyed := s.cfg.Retry.IdempotencyKey && req.Header.Has("Idempotency-Key")
	a.again = req.Stream == nil && (keyed || mesh.Repeatable(req.Method))
	a.tried = a.room[:0]
	s.budget.earn(s.cfg.Retry.Budget)
	return a
}

// run asks a target, and others for as long as that may help.
func (a *attempt) run(ctx context.Context) (last outcome) {
	for t := a.next(); t != nil; {
		last = t.roundTrip(ctx, a.req, a.tryDeadline())
		t.judge(ctx, last)
		if !a.more(ctx, last) {
			return last
		}
		if t = a.next(); t == nil || !a.paid(last) {
			return last
		}
		last.drop()
	}
	return last
}

// next picks a target that wasn't asked yet.
func (a *attempt) next() *target {
	t := a.s.pick(a.tried)
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

// judge tells the target how it did. That a client went away, or broke its body off, says nothing about the target.
func (t *target) judge(ctx context.Context, o outcome) {
	switch {
	case !o.spoiled():
		t.succeeded()
	case o.err == nil:
		t.failed(errStatus)
	case !errors.Is(ctx.Err(), context.Canceled) && !errors.Is(o.err, errBrokeOff):
		t.failed(o.err)
	}
}

var errStatus = errors.New("it answers 500, 502, 503 or 504")
