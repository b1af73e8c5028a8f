package upstream

import (
	"math/rand/v2"
	"slices"
)

// pick chooses a target by weighted power of two choices: two different targets drawn by weight, and of them the one with fewer
// requests in flight for its weight (Mitzenmacher, The Power of Two Choices in Randomized Load Balancing, 2001).
// Targets in tried are left out. Targets that rest after failures are used only when no other is left; targets that
// fail their health check only in a panic. Nil means that there is none.
func (s *state) pick(tried []*target) *target {
	from, to := onlyUp, restingToo
	if s.panics() {
		from, to = downToo, downToo
	}
	for which := from; which <= to; which++ {
		d := draw{s: s, tried: tried, which: which}
		if a := d.one(); a != nil {
			d.but = a
			if b := d.one(); b != nil && b.load(s) < a.load(s) {
				return b
			}
			return a
		}
	}
	return nil
}

// choice says which targets may be drawn.
type choice byte

const (
	onlyUp choice = iota
	restingToo
	downToo
)

func (t *target) allowed(c choice) bool {
	return c == downToo || (!t.down.Load() && (c == restingToo || !t.resting()))
}

// panics tells whether so few targets pass their checks that the load would bury them: then all are used, and the checks may be wrong.
func (s *state) panics() bool {
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

// load is what the balancer compares: requests in flight, this one included, for the target's share.
func (t *target) load(s *state) float64 {
	return float64(t.inFlight.Load()+1) / float64(t.share(s.cfg.Eject.SlowStart.Std()))
}

// draw is what targets are drawn from.
type draw struct {
	s     *state
	tried []*target
	which choice
	but   *target
}

// one draws a target, with a chance by its share.
func (d *draw) one() *target {
	total := 0
	for _, t := range d.s.targets {
		if d.has(t) {
			total += t.share(d.s.cfg.Eject.SlowStart.Std())
		}
	}
	if total == 0 {
		return nil
	}
	n := rand.IntN(total) //nolint:gosec // G404: a balancer needs no secrets
	var last *target
	for _, t := range d.s.targets {
		if !d.has(t) { // its health may have changed since the counting
			continue
		}
		last = t
		if n -= t.share(d.s.cfg.Eject.SlowStart.Std()); n < 0 {
			return t
		}
	}
	return last
}

func (d *draw) has(t *target) bool {
	return t != d.but && t.allowed(d.which) && !slices.Contains(d.tried, t)
}
