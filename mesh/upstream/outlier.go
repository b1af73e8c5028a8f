package upstream

import (
	"errors"
	"slices"
	"time"
)

// minRequests is how many requests a window needs to say something about a target.
const minRequests = 20

var (
	errRate = errors.New("too large a part of its requests fails")
	errSlow = errors.New("it is much slower than the others")
)

// slowTargets returns the targets whose average latency is eject.slow times the median of the others'.
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

// ejectReason returns why the target has too many failures, or nil if it hasn't. The caller holds mu.
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
