package deploy

import (
	"context"
	"errors"
	"time"

	"millrace/node"
)

// pruneEvery is how often old deploys are pruned and unnamed blobs are collected, and prunePause the shortest time
// between two of them: they read every manifest.
const (
	pruneEvery = 10 * time.Minute
	prunePause = time.Minute
)

// Keep prunes and collects until ctx ends, every ten minutes and within a minute after wake is sent to. In those ten
// minutes only one node of the mesh removes what all share; each removes its own files.
func (s *Store) Keep(ctx context.Context, wake <-chan struct{}, settings func() map[string]node.Site) {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-wake:
			select {
			case <-time.After(prunePause):
			case <-ctx.Done():
				return
			}
		case <-ctx.Done():
			return
		}
		if s.Follows() {
			s.KeepOnce(ctx, settings())
		}
	}
}

// KeepOnce does once what Keep does.
func (s *Store) KeepOnce(ctx context.Context, settings map[string]node.Site) {
	turn, err := s.takeTurn(ctx)
	if err != nil {
		s.cfg.Log.WarnContext(ctx, "old deploys of sites can't be deleted", "cause", err)
		return
	}
	if turn {
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

// keeperKey is the key in which nodes note who has pruned last. It is no key of a site.
const keeperKey = "=keeper"

// turn is the record of keeperKey.
type turn struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
	By      string    `json:"by"`
}

// takeTurn reports whether it is this node that prunes now. Any node may that follows the deploys, unless another one
// did a moment ago.
func (s *Store) takeTurn(ctx context.Context) (bool, error) {
	value, revision, err := s.bucket.getKey(ctx, keeperKey)
	if err != nil {
		return false, err
	}
	var last turn
	now := s.cfg.Now()
	if value != nil && decode(value, &last, &last.Version) == nil {
		if age := now.Sub(last.At).Abs(); age < pruneEvery*9/10 { // Abs: a clock may have been wrong
			return false, nil
		}
	}
	mine := encode(turn{Version: recordVersion, At: now, By: s.cfg.Node})
	if _, err = s.bucket.swapKey(ctx, keeperKey, mine, revision); errors.Is(err, errStale) {
		return false, nil
	}
	return err == nil, err
}
