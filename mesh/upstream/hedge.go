package upstream

import (
	"context"
	"net/http"
	"time"

	"millrace/mesh"
)

// hedged is one of at most two tries of the same request at the same time.
type hedged struct {
	t      *target
	cancel context.CancelFunc
	out    outcome
}

// hedge asks a target, and after a while without an answer a second one too; the first good answer counts, and the
// other try is canceled (Dean and Barroso, The Tail at Scale, 2013). Interim responses are dropped: those of two
// targets could contradict each other.
func (a *attempt) hedge(ctx context.Context, first *target) outcome {
	req := *a.req
	req.Interim = nil
	done := make(chan *hedged, 2)
	ask := func(t *target) *hedged {
		h, deadline := &hedged{t: t}, a.tryDeadline()
		var trying context.Context //nolint:contextcheck // of this try
		trying, h.cancel = context.WithCancel(ctx)
		go func() {
			h.out = h.t.asked(trying, &req, deadline)
			done <- h
		}()
		return h
	}
	one := ask(first)
	timer := time.NewTimer(a.s.cfg.Retry.Hedge.Std())
	defer timer.Stop()
	select {
	case h := <-done:
		return h.won()
	case <-timer.C:
	}
	second := a.second()
	if second == nil {
		return (<-done).won()
	}
	two, asked := ask(second), time.Now()
	h := <-done
	if a.spoiled(h.out) { // the other may do better
		other := <-done
		if !a.spoiled(other.out) || h.out.resp == nil {
			h, other = other, h
		}
		h.out.reached = h.out.reached || other.out.reached
		other.out.drop()
		other.cancel()
		return h.won()
	}
	loser := one
	if h == one {
		loser = two
	} else {
		one.t.outran(time.Since(asked) + a.s.cfg.Retry.Hedge.Std()) // in less time the other has answered
	}
	loser.cancel()
	go func() { (<-done).out.drop() }()
	return h.won()
}

// won gives the outcome. Its context lives on while a response streams, at most as long as the request's.
func (h *hedged) won() outcome {
	if h.out.resp == nil || h.out.resp.Stream == nil {
		h.cancel()
	}
	return h.out
}

// second picks the other target, if there is one with room and the budget pays for it.
func (a *attempt) second() *target {
	if a.left == 0 || !a.s.others(&a.wish) || !a.pays() {
		return nil
	}
	t, _ := a.next()
	if t == nil {
		a.s.budget.Refund()
		return nil
	}
	a.s.up.hedges.Add(1)
	return t
}

// hedges reports whether the request may run twice at the same time: it must be safe (RFC 9110 §9.2.1).
func (a *attempt) hedges() bool {
	return a.s.cfg.Retry.Hedge > 0 && a.req.Stream == nil && a.left > 0 && safe(a.req)
}

func safe(req *mesh.Request) bool {
	return req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == http.MethodOptions
}
