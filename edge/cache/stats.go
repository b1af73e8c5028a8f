package cache

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Stats are the counts of one route's cache since the start.
type Stats struct {
	Route       string
	Hits        uint64 // answered from this node's memory without asking anybody
	HitBytes    uint64
	Fetches     uint64 // requests to the origin to fill the cache
	Bucket      uint64 // fetches that the shared bucket answered
	Home        uint64 // fetches that another node answered
	Validated   uint64 // fetches that the origin answered with 304
	Refreshed   uint64 // fetches made while clients got the stored response
	StaleErrors uint64 // stale responses served in place of an error
	Passed      uint64 // requests that were forwarded without collapsing, or to which the cache doesn't apply
}

type routeStats struct {
	hits, hitBytes, fetches, bucket, home, validated, refreshed, staleErrors, bypassed atomic.Uint64
}

// statsByRoute keeps the counts when the settings are loaded again.
type statsByRoute struct {
	mu     sync.Mutex
	routes map[string]*routeStats
}

func (s *statsByRoute) of(id string) *routeStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.routes == nil {
		s.routes = map[string]*routeStats{}
	}
	if s.routes[id] == nil {
		s.routes[id] = &routeStats{}
	}
	return s.routes[id]
}

// Stats returns the counts of the routes that cache, ordered by route.
func (s *Cache) Stats() []Stats {
	if s == nil {
		return nil
	}
	s.stats.mu.Lock()
	defer s.stats.mu.Unlock()
	out := make([]Stats, 0, len(s.stats.routes))
	for id, c := range s.stats.routes {
		out = append(out, Stats{
			Route: id, Hits: c.hits.Load(), HitBytes: c.hitBytes.Load(), Fetches: c.fetches.Load(),
			Bucket: c.bucket.Load(), Home: c.home.Load(), Validated: c.validated.Load(),
			Refreshed: c.refreshed.Load(), StaleErrors: c.staleErrors.Load(), Passed: c.bypassed.Load(),
		})
	}
	slices.SortFunc(out, func(a, b Stats) int { return strings.Compare(a.Route, b.Route) })
	return out
}
