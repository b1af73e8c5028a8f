package deploy

import (
	"context"
	"time"

	"millrace/node"
)

// pruneEvery is how often old deploys are pruned and unnamed blobs are collected.
const pruneEvery = 10 * time.Minute

// Keep prunes and collects until ctx ends, every ten minutes and whenever wake is sent to. Of the nodes that are alive
// only the one with the smallest id removes what all share; each removes its own files.
func (s *Store) Keep(ctx context.Context, wake <-chan struct{}, settings func() map[string]node.Site) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-wake:
		case <-ctx.Done():
			return
		}
		if s.Follows() {
			s.keepOnce(ctx, settings())
		}
	}
}

func (s *Store) keepOnce(ctx context.Context, settings map[string]node.Site) {
	if s.first() {
		if _, err := s.Prune(ctx, settings); err != nil {
			s.cfg.Log.WarnContext(ctx, "old deploys of sites can't be deleted", "cause", err)
			return
		}
		if _, err := s.Collect(ctx); err != nil {
			s.cfg.Log.WarnContext(ctx, "files that no site names any more can't be deleted", "cause", err)
			return
		}
	}
	if _, err := s.Sweep(ctx); err != nil {
		s.cfg.Log.WarnContext(ctx, "files that no site names any more stay on this node's disk", "cause", err)
	}
}

// first reports whether this node has the smallest id of those that are alive.
func (s *Store) first() bool {
	for _, p := range s.cfg.Peers() {
		if p.Alive && p.ID < s.cfg.Node {
			return false
		}
	}
	return true
}
