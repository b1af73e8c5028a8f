package edge

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// CacheStats is what the cache of one route has done since the start.
type CacheStats struct {
	Route       string
	Hits        uint64 // served from this node's memory without asking anybody
	HitBytes    uint64
	Fetches     uint64 // requests to the origin to fill the cache
	Bucket      uint64 // fetches that the shared bucket answered
	Home        uint64 // fetches that another node answered
	Validated   uint64 // fetches that the origin answered with 304
	Refreshed   uint64 // fetches made while clients got the stored response
	StaleErrors uint64 // stale responses that stood in for an error
	Passed      uint64 // requests that the cache had nothing to do with
}

type cacheStats struct {
	hits, hitBytes, fetches, bucket, home, validated, refreshed, staleErrors, passed atomic.Uint64
}

// cacheStatsByRoute keeps the counts across reloads.
type cacheStatsByRoute struct {
	mu     sync.Mutex
	routes map[string]*cacheStats
}

func (s *cacheStatsByRoute) of(id string) *cacheStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.routes == nil {
		s.routes = map[string]*cacheStats{}
	}
	if s.routes[id] == nil {
		s.routes[id] = &cacheStats{}
	}
	return s.routes[id]
}

// CacheStats lists the counts of the routes that cache, ordered by route.
func (s *Server) CacheStats() []CacheStats {
	s.cacheStats.mu.Lock()
	defer s.cacheStats.mu.Unlock()
	out := make([]CacheStats, 0, len(s.cacheStats.routes))
	for id, c := range s.cacheStats.routes {
		out = append(out, CacheStats{
			Route: id, Hits: c.hits.Load(), HitBytes: c.hitBytes.Load(), Fetches: c.fetches.Load(),
			Bucket: c.bucket.Load(), Home: c.home.Load(), Validated: c.validated.Load(),
			Refreshed: c.refreshed.Load(), StaleErrors: c.staleErrors.Load(), Passed: c.passed.Load(),
		})
	}
	slices.SortFunc(out, func(a, b CacheStats) int { return strings.Compare(a.Route, b.Route) })
	return out
}
