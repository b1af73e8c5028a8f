package upstream

import (
	"math/rand/v2"
	"slices"
	"time"
)

// selection is the criteria for a target.
type selection struct {
	tried  []*target
	canary bool
	key    uint64 // hash of the part of the request that decides; set if keyed
	keyed  bool
}

// acquire selects a target and takes a permit there, which release returns. If t is nil, full says that some target is
// only at its limit. It is better to wait for that one than to ask a worse one.
//
// Ejected targets are used only if no other is left. Targets that fail their health check are used only in panic. A
// canary's request goes to other targets if no canary is left for it. Other requests go to canaries only if no other
// target can be used.
func (s *state) acquire(sel *selection) (t *target, full bool) {
	var buf [16]candidate
	from, to := s.eligibleRange()
	for which := from; which <= to; which++ {
		for _, canary := range s.canaryOrder(sel) {
			if canary && !sel.canary && s.anyEligible(which, false) { // tried ones count too: they had their chance
				continue
			}
			found, atLimit := s.candidates(buf[:0], sel, which, canary)
			atLimit = atLimit || len(found) > 0
			if t := found.acquire(sel); t != nil {
				return t, false
			}
			if atLimit {
				return nil, true
			}
		}
	}
	return nil, false
}

// eligibleRange returns the classes of targets that may be asked, best first.
func (s *state) eligibleRange() (from, to eligibility) {
	switch until := s.up.allFailingUntil.Load(); {
	case s.inPanic():
		return unhealthyToo, unhealthyToo
	case until != 0 && sinceEpoch(time.Now()) < until:
		return ejectedToo, ejectedToo
	}
	return healthyOnly, ejectedToo
}

// anyEligible reports whether a target of that kind is eligible.
func (s *state) anyEligible(which eligibility, canary bool) bool {
	return slices.ContainsFunc(s.targets, func(t *target) bool { return t.canary == canary && t.eligible(which) })
}

// hasUntried reports whether an eligible target wasn't tried yet.
func (s *state) hasUntried(sel *selection) bool {
	_, to := s.eligibleRange()
	for _, t := range s.targets {
		if t.eligible(to) && (!t.canary || sel.canary || !s.anyEligible(to, false)) && !slices.Contains(sel.tried, t) {
			return true
		}
	}
	return false
}

// canaryOrder returns the kinds of target, canary or not, in the order in which they are tried.
func (s *state) canaryOrder(sel *selection) []bool {
	switch {
	case s.cfg.Canary == nil:
		return justStable
	case sel.canary:
		return canaryFirst
	}
	return stableFirst
}

var (
	justStable  = []bool{false}
	stableFirst = []bool{false, true}
	canaryFirst = []bool{true, false}
)

// eligibility says which targets are eligible. Each value includes those before it.
type eligibility byte

const (
	healthyOnly eligibility = iota
	ejectedToo
	unhealthyToo
)

func (t *target) eligible(c eligibility) bool {
	return c == unhealthyToo || (!t.down.Load() && (c == ejectedToo || !t.isEjected()))
}

// inPanic reports whether so few targets pass their health checks that the load would overwhelm them. Then all are
// used; the checks may be wrong.
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

// candidate is a target that may be selected.
type candidate struct {
	*target

	share int
}

// load is what candidates are compared by: requests in flight, including this one, relative to the share.
func (c candidate) load() float64 { return float64(c.inFlight.Load()+1) / float64(c.share) }

type candidates []candidate

// candidates appends the targets of a kind that may get the request. full means that one was left out because it is at
// its limit.
func (s *state) candidates(out candidates, sel *selection, which eligibility, canary bool,
) (found candidates, full bool) {
	for _, t := range s.targets {
		if t.canary != canary || !t.eligible(which) || slices.Contains(sel.tried, t) {
			continue
		}
		if !t.hasCapacity() {
			full = true
			continue
		}
		share := t.share(s.cfg.Eject.SlowStart.Std())
		if which != healthyOnly && t.isEjected() { // use all of its capacity
			share = t.fullShare()
		}
		out = append(out, candidate{t, share})
	}
	return out, full
}

// acquire selects a candidate and takes a permit there.
func (c candidates) acquire(sel *selection) *target {
	for len(c) > 0 {
		i := 0
		switch {
		case len(c) == 1:
		case sel.keyed:
			i = c.byHash(sel.key)
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

// byLoad selects by weighted power of two choices: it draws two different candidates by share and takes the one with
// fewer requests in flight relative to its share (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing,
// 2001).
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

// draw draws a candidate with a probability by its share, leaving out the one at index but. total is the sum of the
// shares.
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
