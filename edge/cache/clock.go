package cache

import (
	"sync"
	"time"

	"millrace/kvcache/httpcache"
)

// clocks remembers which origins' clocks differ from this node's, as their responses show.
type clocks struct {
	mu   sync.Mutex
	seen map[string]skew // by target, of which the configuration has few
}

// skew is how far this node's clock was ahead of an origin's, and when that was seen.
type skew struct {
	ahead time.Duration
	at    time.Time
}

// Bounds of what is reported.
const (
	minSkew       = time.Minute     // a smaller one is reported only if it keeps responses out of the cache
	skewRetention = 5 * time.Minute // how long it is reported after it was last seen
)

// note records the clock difference that a response shows. stops reports whether the difference is why the response
// isn't cached.
func (c *clocks) note(origin string, resp *httpcache.Response, stops bool) {
	ahead := httpcache.ClockAhead(resp)
	if ahead.Abs() < minSkew && !stops {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = map[string]skew{}
	}
	c.seen[origin] = skew{ahead, resp.Received}
}

// ClockSkewed returns the origin whose clock differs most from this node's, as its responses have shown within the last
// five minutes, and by how much this node's clock is ahead: negative if it is behind. An origin that stores responses
// and sends them without Age looks the same.
func (s *Cache) ClockSkewed() (origin string, by time.Duration, ok bool) {
	if s == nil {
		return "", 0, false
	}
	s.clocks.mu.Lock()
	defer s.clocks.mu.Unlock()
	for name, k := range s.clocks.seen {
		switch {
		case time.Since(k.at) > skewRetention:
			delete(s.clocks.seen, name)
		case !ok || k.ahead.Abs() > by.Abs():
			origin, by, ok = name, k.ahead, true
		}
	}
	return origin, by, ok
}
