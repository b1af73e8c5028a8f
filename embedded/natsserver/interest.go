package natsserver

import (
	"sync"
	"time"
)

// interestFor is how long an answer of the server about a subject's subscribers is believed.
const interestFor = 100 * time.Millisecond

// maxInterest bounds the remembered subjects; beyond that the memory starts over.
const maxInterest = 4096

type interestCache struct {
	mu    sync.RWMutex
	known map[string]interest
}

type interest struct {
	some  bool
	until time.Time
}

// Interested tells whether anybody subscribes to the subject. The answer is at most 100 ms old.
func (s *Server) Interested(subject string) bool {
	now := time.Now()
	s.interest.mu.RLock()
	known, ok := s.interest.known[subject]
	s.interest.mu.RUnlock()
	if ok && now.Before(known.until) {
		return known.some
	}
	acc := s.account.Load()
	some := acc != nil && acc.SubscriptionInterest(subject)
	s.interest.mu.Lock()
	defer s.interest.mu.Unlock()
	if len(s.interest.known) >= maxInterest || s.interest.known == nil {
		s.interest.known = map[string]interest{}
	}
	s.interest.known[subject] = interest{some: some, until: now.Add(interestFor)}
	return some
}
