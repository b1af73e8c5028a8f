package upstream

import (
	"math/rand/v2"
	"slices"
	"time"
)

// wish is what a target is wanted for.
type selection struct {
	tried  []*target
	canary bool
	key    uint64 // hash of the part of the request that decides, if keyed
	keyed  bool
}

// pick chooses a target and takes a place for a request there, which leave gives back. Nil means that there is none;
// full, that there would be one if it had room: it is better to wait for it than to ask one that is worse.
//
// Targets that rest after failures are used only when no other is left, targets that fail their health check only in a
// panic. A canary's request goes to others when no canary is left for it; others go to canaries only when there is no
// other that could be used.
func (s *state) acquire(w *selection) (t *target, full bool) {
	var room [16]candidate
	from, to := s.eligibleRange()
	for which := from; which <= to; which++ {
		for _, canary := range s.canaryOrder(w) {
			if canary && !w.canary && s.anyEligible(which, false) { // tried ones count: it was their turn
				continue
			}
			some, crowded := s.candidates(room[:0], w, which, canary)
			crowded = crowded || len(some) > 0
			if t := some.acquire(w); t != nil {
				return t, false
			}
			if crowded {
				return nil, true
			}
		}
	}
	return nil, false
}

// choices gives the range of targets that may be asked.
func (s *state) eligibleRange() (from, to eligibility) {
	switch until := s.up.allFailingUntil.Load(); {
	case s.inPanic():
		return unhealthyToo, unhealthyToo
	case until != 0 && sinceEpoch(time.Now()) < until:
		return ejectedToo, ejectedToo
	}
	return healthyOnly, ejectedToo
}

// any reports whether a target of that kind may be drawn.
func (s *state) anyEligible(which eligibility, canary bool) bool {
	return slices.ContainsFunc(s.targets, func(t *target) bool { return t.canary == canary && t.eligible(which) })
}

// others reports whether there is a target that wasn't tried.
func (s *state) hasUntried(w *selection) bool {
	_, to := s.eligibleRange()
	for _, t := range s.targets {
		if t.eligible(to) && (!t.canary || w.canary || !s.anyEligible(to, false)) && !slices.Contains(w.tried, t) {
			return true
		}
	}
	return false
}

// kinds gives the kinds of target in the order in which they are tried.
func (s *state) canaryOrder(w *selection) []bool {
	switch {
	case s.cfg.Canary == nil:
		return justStable
	case w.canary:
		return canaryFirst
	}
	return stableFirst
}

var (
	justStable  = []bool{false}
	stableFirst = []bool{false, true}
	canaryFirst = []bool{true, false}
)

// choice says which targets may be drawn.
type eligibility byte

const (
	healthyOnly eligibility = iota
	ejectedToo
	unhealthyToo
)

func (t *target) eligible(c eligibility) bool {
	return c == unhealthyToo || (!t.down.Load() && (c == ejectedToo || !t.isEjected()))
}

// panics reports whether so few targets pass their checks that the load would bury them: then all are used, and the
// checks may be wrong.
func (s *state) inPanic() bool {
	if s.cfg.Health == nil || s.cfg.Health.Panic == 0 {
		return false
	}
	up := 0
	for _, t := range s.targets {
		if !t.down.Load() {
			up++
		}
	}
	return up*100 < len(s.targets)*s.cfg.Health.Panic
}

// candidate is a target that may be chosen.
type candidate struct {
	*target

	share int
}

// load is what targets are compared by: requests in flight, this one included, for the target's share.
func (c candidate) load() float64 { return float64(c.inFlight.Load()+1) / float64(c.share) }

type candidates []candidate

// candidates lists the targets of a kind that may get the request; full tells that one was left out for want of room.
func (s *state) candidates(out candidates, w *selection, which eligibility, canary bool) (some candidates, full bool) {
	for _, t := range s.targets {
		if t.canary != canary || !t.eligible(which) || slices.Contains(w.tried, t) {
			continue
		}
		if !t.hasCapacity() {
			full = true
			continue
		}
		share := t.share(s.cfg.Eject.SlowStart.Std())
		if which != healthyOnly && t.isEjected() { // it is needed whole
			share = t.fullShare()
		}
		out = append(out, candidate{t, share})
	}
	return out, full
}

// choose takes a place at one of them.
func (c candidates) acquire(w *selection) *target {
	for len(c) > 0 {
		i := 0
		switch {
		case len(c) == 1:
		case w.keyed:
			i = c.byHash(w.key)
		default:
			i = c.byLoad()
		}
		if c[i].acquire() {
			return c[i].target
		}
		c[i] = c[len(c)-1]
		c = c[:len(c)-1]
	}
	return nil
}

// byLoad chooses by weighted power of two choices: two different targets drawn by share, and of them the one with fewer
// requests in flight for its share (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
func (c candidates) byLoad() int {
	total := 0
	for i := range c {
		total += c[i].share
	}
	first := c.draw(total, -1)
	second := c.draw(total-c[first].share, first)
	if c[second].load() < c[first].load() {
		return second
	}
	return first
}

// draw draws one but that, with a chance by its share; total is the sum of the shares.
func (c candidates) draw(total, but int) int {
	n := rand.IntN(total) //nolint:gosec // G404: a balancer needs no secrets
	last := 0
	for i := range c {
		if i == but {
			continue
		}
		last = i
		if n -= c[i].share; n < 0 {
			break
		}
	}
	return last
}
