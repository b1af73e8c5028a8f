package upstream

import (
	"math/rand/v2"
	"slices"
)

// pick chooses a target by weighted power of two choices: two different targets drawn by weight, and of them the one with fewer
// requests in flight for its weight (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
// Targets in tried are left out. Targets that rest after failures are used only when no other is left; targets that
// fail their health check never are. Nil means that there is none.
func pick(targets, tried []*target) *target {
	for _, restingToo := range [...]bool{false, true} {
		total := 0
		for _, t := range targets {
			if t.usable(restingToo) && !slices.Contains(tried, t) {
				total += int(t.weight.Load())
			}
		}
		if total == 0 {
			continue
		}
		a := draw(targets, tried, restingToo, total, nil)
		if a == nil { // its health changed between the counting and the draw
			continue
		}
		if b := draw(targets, tried, restingToo, total-int(a.weight.Load()), a); b != nil && b.load() < a.load() {
			return b
		}
		return a
	}
	return nil
}

// draw picks one of the usable targets, without but, with a chance by weight; total is the sum of their weights.
func draw(targets, tried []*target, restingToo bool, total int, but *target) *target {
	if total <= 0 {
		return nil
	}
	n := rand.IntN(total) //nolint:gosec // G404: a balancer needs no secrets
	var last *target
	for _, t := range targets {
		if t == but || !t.usable(restingToo) || slices.Contains(tried, t) {
			continue
		}
		last = t
		if n -= int(t.weight.Load()); n < 0 {
			return t
		}
	}
	return last
}
