package upstream

import (
	"errors"
	"slices"
	"time"
)

// enoughRequests is how many requests a window must have before it says something about a target.
const minRequests = 20

var (
	errRate = errors.New("too large a part of its requests fails")
	errSlow = errors.New("it is much slower than the others")
)

// slow gives the targets whose average is that many times the median of the others'.
func (s *state) slowTargets() (out []*target) {
	means := make([]time.Duration, len(s.targets))
	for i, t := range s.targets {
		if sums := t.recentSums(); sums.requests >= minRequests && !t.isEjected() {
			means[i] = sums.mean()
		}
	}
	for i, t := range s.targets {
		var others []time.Duration
		for j, mean := range means {
			if j != i && mean > 0 {
				others = append(others, mean)
			}
		}
		if len(others) == 0 || means[i] == 0 {
			continue
		}
		slices.Sort(others)
		if means[i] > time.Duration(s.cfg.Eject.Slow)*others[(len(others)-1)/2] {
			out = append(out, t)
		}
	}
	return out
}

func (t *target) recentSums() sums {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.window.sums(t.now())
}

// failing tells why the target's failures are too many; nil if they aren't. The caller holds mu.
func (t *target) ejectReason(cause error) error {
	eject := t.up.state.Load().cfg.Eject
	if eject.Failures > 0 && t.inRow >= eject.Failures {
		return cause
	}
	if s := t.window.sums(t.now()); eject.Rate > 0 && s.requests >= minRequests &&
		s.failed*100 >= s.requests*eject.Rate {
		return errRate
	}
	return nil
}
