package natsserver

import (
	"strings"
	"sync"
	"time"
)

// interestFor is how long an answer about a subject's subscribers is cached.
const interestFor = 100 * time.Millisecond

// maxInterest bounds the cached subjects. When it is reached, all are dropped.
const maxInterest = 4096

// interestCache caches the answers to one question. The zero value is ready to use; it is safe for concurrent use.
type interestCache struct {
	mu    sync.RWMutex // guards known
	known map[string]interest
}

type interest struct {
	yes   bool
	until time.Time
}

// get returns the answer for the subject, which is at most interestFor old.
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

// noToken is a token that no subject of the mesh has, so only wildcards match it.
const noToken = "~"

// askAlone asks the server. It stops counting at the first wildcard that matches, so wildcards are looked for
// separately: one that matches the subject also matches it with another token in the place of the wildcard.
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
