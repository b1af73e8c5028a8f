package edge

import (
	"context"
	"time"

	"millrace/edge/cache"
	"millrace/kvcache"
	"millrace/mesh"
)

// URLPurges gives the purges of one URL as clients ask for it: see cache.Cache.URLPurges.
func (s *Server) URLPurges(ctx context.Context, url string, soft bool) []kvcache.Purge {
	return s.cache.URLPurges(ctx, url, soft)
}

// PathPurges gives the purges of a path with its query, whatever its host: of its canonical form, and of what its
// routes and No-Vary-Search leave of its query. What isn't a path purges nothing.
func (s *Server) PathPurges(ctx context.Context, path string, soft bool) []kvcache.Purge {
	return s.cache.PathPurges(ctx, path, soft, s.originsOf(s.settings.Load()))
}

// CacheStats lists the counts of the routes that cache, ordered by route.
func (s *Server) CacheStats() []cache.Stats { return s.cache.Stats() }

// ClockSkewed names the origin whose clock differs most from this node's: see cache.Cache.ClockSkewed.
func (s *Server) ClockSkewed() (origin string, by time.Duration, ok bool) {
	return s.cache.ClockSkewed()
}

// Fetch answers another node's request to fetch for it.
func (s *Server) Fetch(ctx context.Context, req *mesh.Request) (*mesh.Response, error) {
	return s.cache.Fetch(ctx, req)
}
