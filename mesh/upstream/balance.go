package upstream

import (
	"math/rand/v2"
	"slices"
)

// pick chooses a target by weighted power of two choices: two targets drawn by weight, and of them the one with fewer
// requests in flight for its weight (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
// Targets in tried are left out. Targets that rest after failures are used only when no other is left; targets that
// fail their health check never are. Nil means that there is none.
func pick(targets, tried []*target) *target {
	for _, restingToo := range [...]bool{false, true} {
		total := 0
		for _, t := range targets {
			if t.usable(restingToo) && !slices.Contains(tried, t) {
				total += t.weight
			}
		}
		if total == 0 {
			continue
		}
		a := draw(targets, tried, restingToo, total)
		b := draw(targets, tried, restingToo, total)
		if a == nil || b == nil { // a target's health changed between the counting and the draw
			continue
		}
		if b.load() < a.load() {
			return b
		}
		return a
	}
	return nil
}

func draw(targets, tried []*target, restingToo bool, total int) *target {
	n := rand.IntN(total) //nolint:gosec // G404: a balancer needs no secrets
	var last *target
	for _, t := range targets {
		if !t.usable(restingToo) || slices.Contains(tried, t) {
			continue
		}
		last = t
		if n -= t.weight; n < 0 {
			return t
		}
	}
	return last
}
