package upstream

import (
	"context"
	"net/http"
	"time"

	"millrace/mesh"
)

// hedged is one of at most two concurrent tries of the same request.
type hedged struct {
	t      *target
	cancel context.CancelFunc
	out    outcome
}

// hedge asks a target, and after a while without an answer a second one too. The first good answer wins, and the other
// try is canceled (Dean and Barroso, The Tail at Scale, 2013). Interim responses are dropped, since those of two
// targets could contradict each other.
func (c *call) hedge(ctx context.Context, first *target) outcome {
	req := *c.req
	req.Interim = nil
	done := make(chan *hedged, 2)
	ask := func(t *target) *hedged {
		h, deadline := &hedged{t: t}, c.tryDeadline()
		var tryCtx context.Context
		tryCtx, h.cancel = context.WithCancel(ctx)
		go func() {
			h.out = h.t.request(tryCtx, &req, deadline)
			done <- h
		}()
		return h
	}
	one := ask(first)
	timer := time.NewTimer(c.s.cfg.Retry.Hedge.Std())
	defer timer.Stop()
	select {
	case h := <-done:
		return h.result()
	case <-timer.C:
	}
	second := c.hedgeTarget()
	if second == nil {
		return (<-done).result()
	}
	two, asked := ask(second), time.Now()
	h := <-done
	if c.retryable(h.out) { // the other may do better
		other := <-done
		if !c.retryable(other.out) || h.out.resp == nil {
			h, other = other, h
		}
		h.out.reached = h.out.reached || other.out.reached
		other.out.discard()
		other.cancel()
		return h.result()
	}
	loser := one
	if h == one {
		loser = two
	} else {
		one.t.recordTimedOut(time.Since(asked) + c.s.cfg.Retry.Hedge.Std()) // the other one answered in less time
	}
	loser.cancel()
	go func() { (<-done).out.discard() }()
	return h.result()
}

// result returns the outcome. The try's context stays alive while a response is streamed, at most as long as the
// request's.
func (h *hedged) result() outcome {
	if h.out.resp == nil || h.out.resp.Stream == nil {
		h.cancel()
	}
	return h.out
}

// hedgeTarget acquires the second target, if there is one with capacity and the budget allows it.
func (c *call) hedgeTarget() *target {
	if c.triesLeft == 0 || !c.s.hasUntried(&c.selection) || !c.spendBudget() {
		return nil
	}
	t, _ := c.tryAcquire()
	if t == nil {
		c.s.budget.Refund()
		return nil
	}
	c.s.up.hedges.Add(1)
	return t
}

// mayHedge reports whether the request may run twice at the same time: its method must be safe (RFC 9110 §9.2.1).
func (c *call) mayHedge() bool {
	return c.s.cfg.Retry.Hedge > 0 && c.req.Stream == nil && c.triesLeft > 0 && safe(c.req)
}

func safe(req *mesh.Request) bool {
	return req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == http.MethodOptions
}
