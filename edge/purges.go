package edge

import (
	"context"
	"time"

	"millrace/edge/cache"
	"millrace/kvcache"
	"millrace/mesh"
)

// URLPurges returns the purges of one URL, as clients request it: see cache.Cache.URLPurges.
func (s *Server) URLPurges(ctx context.Context, url string, soft bool) []kvcache.Purge {
	return s.cache.URLPurges(ctx, url, soft)
}

// PathPurges returns the purges of a path with its query, for every host: of its canonical form, and of the queries
// that its routes and No-Vary-Search treat as equal. There are none if path isn't a path.
func (s *Server) PathPurges(ctx context.Context, path string, soft bool) []kvcache.Purge {
	return s.cache.PathPurges(ctx, path, soft, s.originsOf(s.settings.Load()))
}

// CacheStats lists the counts of the routes that cache, ordered by route.
func (s *Server) CacheStats() []cache.Stats { return s.cache.Stats() }

// ClockSkewed returns the origin whose clock differs most from this node's: see cache.Cache.ClockSkewed.
func (s *Server) ClockSkewed() (origin string, by time.Duration, ok bool) {
	return s.cache.ClockSkewed()
}

// Fetch answers another node's request to fetch a response for it.
func (s *Server) Fetch(ctx context.Context, req *mesh.Request) (*mesh.Response, error) {
	return s.cache.Fetch(ctx, req)
}
