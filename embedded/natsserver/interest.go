package natsserver

import (
	"strings"
	"sync"
	"time"
)

// interestFor is how long an answer of the server about a subject's subscribers is believed.
const interestFor = 100 * time.Millisecond

// maxInterest bounds the remembered subjects; beyond that the memory starts over.
const maxInterest = 4096

// interestCache remembers one kind of answer. The zero value is ready.
type interestCache struct {
	mu    sync.RWMutex
	known map[string]interest
}

type interest struct {
	yes   bool
	until time.Time
}

// get gives the answer for the subject, at most interestFor old.
func (c *interestCache) get(subject string, ask func(string) bool) bool {
	now := time.Now()
	c.mu.RLock()
	known, ok := c.known[subject]
	c.mu.RUnlock()
	if ok && now.Before(known.until) {
		return known.yes
	}
	yes := ask(subject)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.known) >= maxInterest || c.known == nil {
		c.known = map[string]interest{}
	}
	c.known[subject] = interest{yes: yes, until: now.Add(interestFor)}
	return yes
}

// Interested reports whether anybody subscribes to the subject. The answer is at most 100 ms old.
func (s *Server) Interested(subject string) bool { return s.interested.get(subject, s.Anybody) }

// Alone reports whether exactly one subscription matches the subject. The members that another server has in a queue
// group count as one. The answer is at most 100 ms old.
func (s *Server) Alone(subject string) bool { return s.alone.get(subject, s.askAlone) }

// Anybody reports whether anybody subscribes to the subject at this moment.
func (s *Server) Anybody(subject string) bool { return s.subscriptions(subject) > 0 }

// noToken is a token that no subject of the mesh has, and that only wildcards match.
const noToken = "~"

// askAlone counts. The server stops counting at the first wildcard that matches, so those are looked for first: one
// that matches the subject also matches it with another token in the place of the wildcard.
func (s *Server) askAlone(subject string) bool {
	if s.subscriptions(subject) != 1 {
		return false
	}
	tokens := strings.Split(subject, ".")
	for i, token := range tokens {
		tokens[i] = noToken
		if s.subscriptions(strings.Join(tokens, ".")) > 0 {
			return false
		}
		tokens[i] = token
	}
	return true
}

func (s *Server) subscriptions(subject string) int {
	acc := s.account.Load()
	if acc == nil {
		return 0
	}
	return acc.Interest(subject)
}
