package cache

import "time"

// Fetches is the number of fetches that run.
func (s *Cache) Fetches() int { return s.flights.Len() }

// SetEndsWithin changes how soon a body of unknown length must have ended to be stored. It is for tests, before the
// requests that it concerns.
func (s *Cache) SetEndsWithin(d time.Duration) { s.filling.endsWithin = d }

// TakeRoom takes all room in which responses are collected, until free. It is for tests.
func (s *Cache) TakeRoom() (free func()) {
	s.filling.mu.Lock()
	n := s.filling.max - s.filling.used
	s.filling.mu.Unlock()
	s.filling.take(n)
	return func() { s.filling.give(n) }
}
