package cache

import "time"

// Fetches returns the number of fetches that are running.
func (s *Cache) Fetches() int { return s.flights.Len() }

// SetEndsWithin changes how soon a body of unknown length must have ended to be stored. It is for tests, and must be
// called before the requests that depend on it.
func (s *Cache) SetEndsWithin(d time.Duration) { s.budget.endsWithin = d }

// TakeRoom takes the whole budget for collecting responses, until free is called. It is for tests.
func (s *Cache) TakeRoom() (free func()) {
	s.budget.mu.Lock()
	n := s.budget.max - s.budget.used
	s.budget.mu.Unlock()
	s.budget.take(n)
	return func() { s.budget.give(n) }
}
