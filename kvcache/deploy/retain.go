package deploy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"millrace/node"
)

// collectGrace is how long a blob stays in the stream that no deploy names, since its publisher may still be sending.
const collectGrace = time.Hour

// leaveTime is how long after the decision that a deploy needn't be kept it is deleted. Whoever is about to make it
// live meanwhile, and has read its record, has that long.
const leaveTime = 10 * time.Minute

// markTime is how long the bucket keeps the mark that a key was deleted. Nodes that were away longer find out from the
// key's absence.
const markTime = 24 * time.Hour

// Prune deletes the records of deploys and previews that needn't be kept, by the settings of their sites: previews when
// they have ended, deploys that it finds again leaveTime later. It returns how many. Several nodes may prune at once.
func (s *Store) Prune(ctx context.Context, settings map[string]node.Site) (removed int, err error) {
	updates, err := s.bucket.all(ctx)
	if err != nil {
		return 0, err
	}
	tables := tablesOf(updates)
	for _, u := range updates {
		t := tables[u.key.site]
		switch old := s.cfg.Now().Sub(u.at) > markTime; {
		case u.key.kind == kindOther, u.key.kind == kindLive, t.unread:
		case u.value == nil && old:
			if err := s.bucket.drop(ctx, u.key, u.revision); err != nil {
				return removed, err
			}
		case u.value != nil && t.void(stamp{revision: u.revision}):
			if err := s.removeOne(ctx, u.key, u.revision, &removed); err != nil {
				return removed, err
			}
		}
	}
	for name, t := range tables {
		keep, ok := settings[name]
		if !ok {
			keep.Defaults()
		}
		if t.unread { // what another version wrote may need any of them
			continue
		}
		if err := s.pruneSite(ctx, t, keep.Keep, &removed); err != nil {
			return removed, err
		}
	}
	return removed, nil
}

// removeOne deletes a record unless it has changed, and counts it.
func (s *Store) removeOne(ctx context.Context, k key, revision uint64, removed *int) error {
	gone, err := s.bucket.remove(ctx, k, revision)
	if gone {
		*removed++
	}
	return err
}

// pruneSite deletes what needn't be kept of one site, and marks what will be deleted later.
func (s *Store) pruneSite(ctx context.Context, t *table, keep node.SiteKeep, removed *int) error {
	now := s.cfg.Now()
	for name, p := range t.previews {
		if !now.Before(p.Until) {
			k := key{site: t.name, kind: kindPreview, name: name}
			if err := s.removeOne(ctx, k, p.stamp.revision, removed); err != nil {
				return err
			}
		}
	}
	leaving, err := s.leaving(ctx, t, keep, now)
	if err != nil {
		return err
	}
	for id, e := range t.deploys {
		k := key{site: t.name, kind: kindDeploy, id: id}
		switch leaves := e.record.Leaves; {
		case leaving[id] && !leaves.IsZero() && now.Sub(leaves) >= s.leave:
			if err := s.removeOne(ctx, k, e.stamp.revision, removed); err != nil {
				return err
			}
		case leaving[id] == leaves.IsZero():
			r := e.record
			if r.Leaves = (time.Time{}); leaving[id] {
				r.Leaves = now
			}
			if _, err := s.bucket.swap(ctx, k, encode(r), e.stamp.revision); err != nil && !errors.Is(err, errStale) {
				return err
			}
		}
	}
	return nil
}

// leaving returns the deploys of a site that needn't be kept: neither live nor a preview, nor among the newest
// keep.Deploys, nor published or live within keep.Assets, unless there are more than maxDeploys.
func (s *Store) leaving(ctx context.Context, t *table, keep node.SiteKeep, now time.Time,
) (map[node.Digest]bool, error) {
	used := map[node.Digest]bool{t.change.ID: true}
	for _, p := range t.previews {
		if now.Before(p.Until) {
			used[p.ID] = true
		}
	}
	t.arrange(fullFiles)
	out := map[node.Digest]bool{}
	var replaced map[node.Digest]time.Time
	for i, e := range t.newest {
		id := e.record.ID()
		if used[id] || i < keep.Deploys || (i < maxDeploys && now.Sub(e.record.At) < keep.Assets.Std()) {
			continue
		}
		if replaced == nil {
			var err error
			if replaced, err = s.replaced(ctx, t.name); err != nil {
				return nil, err
			}
		}
		out[id] = i >= maxDeploys || now.Sub(replaced[id]) >= keep.Assets.Std()
	}
	return out, nil
}

// replaced returns when each deploy ceased to be live the last time, as far as the bucket remembers.
func (s *Store) replaced(ctx context.Context, name string) (map[node.Digest]time.Time, error) {
	changes, err := s.changes(ctx, name)
	if err != nil {
		return nil, err
	}
	out := map[node.Digest]time.Time{}
	for i := 1; i < len(changes); i++ {
		out[changes[i-1].ID] = changes[i].At
	}
	return out, nil
}

// tablesOf returns tables of the records, for looking only: all stamps are of the incarnation 0.
func tablesOf(updates []update) map[string]*table {
	out := map[string]*table{}
	apply := func(u *update) {
		t := out[u.key.site]
		if t == nil {
			t = newTable(newSite(u.key.site))
			out[u.key.site] = t
		}
		if u.key.kind == kindOther && u.value != nil || t.apply(u, 0, time.Time{}) != nil {
			t.unread = true
		}
	}
	for _, first := range []bool{true, false} { // what is live says what counts as deleted
		for i := range updates {
			if (updates[i].key.kind == kindLive) == first {
				apply(&updates[i])
			}
		}
	}
	return out
}

// Collect removes what no deploy names any more from the stream. One node of the mesh should do it at a time, though
// several do no harm. It returns how many bytes were freed in the stream.
//
// Nothing is removed unless the manifest of each deploy in the bucket can be read.
func (s *Store) Collect(ctx context.Context) (bytes int64, err error) {
	named, err := s.named(ctx)
	if err != nil {
		return 0, err
	}
	return s.cfg.Blobs.Collect(ctx, s.keeps(named), s.grace)
}

// Sweep removes from this node's disk the files that no deploy names. It returns how many bytes that freed. While this
// node brings a deploy it does nothing.
func (s *Store) Sweep(ctx context.Context) (bytes int64, err error) {
	// No deploy is brought meanwhile. So each that was brought is in what this node knows.
	if !s.sweeping.TryLock() {
		return 0, nil
	}
	defer s.sweeping.Unlock()
	named, err := s.named(ctx)
	if err != nil {
		return 0, err
	}
	_, bytes = s.cfg.Blobs.Sweep(s.keeps(named))
	return bytes, nil
}

// keeps returns whether a blob must stay.
func (s *Store) keeps(named map[node.Digest]struct{}) func(node.Digest) bool {
	return func(d node.Digest) bool {
		_, ok := named[d]
		return ok || s.pending.names(d, s.cfg.Now())
	}
}

// named returns the blobs that are named by the deploys in the bucket and by those that this node knows of.
func (s *Store) named(ctx context.Context) (map[node.Digest]struct{}, error) {
	updates, err := s.bucket.all(ctx)
	if err != nil {
		return nil, err
	}
	var here []known
	if err := s.do(ctx, func(f *follower) { here = f.records() }); err != nil {
		return nil, err
	}
	deploys := map[node.Digest]known{}
	for _, k := range here {
		if was, ok := deploys[k.record.ID()]; !ok || was.deploy == nil {
			deploys[k.record.ID()] = k
		}
	}
	for _, u := range updates {
		if u.key.kind != kindDeploy || u.value == nil {
			continue
		}
		var r Record
		if err := decode(u.value, &r, &r.Version); err != nil {
			return nil, fmt.Errorf("keep all files of %s: %w", u.key.site, err)
		}
		if _, ok := deploys[r.ID()]; !ok {
			deploys[r.ID()] = known{record: r}
		}
	}
	out := map[node.Digest]struct{}{}
	for id, k := range deploys {
		out[id] = struct{}{}
		blobs, err := s.blobsOf(ctx, &k)
		if err != nil {
			return nil, fmt.Errorf("keep all files: %w", err)
		}
		for _, b := range blobs {
			out[b.Digest] = struct{}{}
		}
	}
	return out, nil
}

// blobsOf returns the blobs that a deploy names.
func (s *Store) blobsOf(ctx context.Context, k *known) ([]node.Blob, error) {
	if k.deploy != nil {
		return k.deploy.Index.Blobs(), nil
	}
	m, err := s.readManifest(ctx, &k.record)
	if err != nil {
		return nil, err
	}
	return m.Blobs(), nil
}
