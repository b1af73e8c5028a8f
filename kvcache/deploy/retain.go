package deploy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"millrace/node"
	"millrace/node/site"
)

// collectGrace is how long a blob stays in the stream that no deploy names, since its publisher may still be sending.
const collectGrace = time.Hour

// Prune deletes the records of deploys and previews that needn't be kept, by the settings of their sites. It returns
// how many. Several nodes may prune at once.
func (s *Store) Prune(ctx context.Context, settings map[string]node.Site) (removed int, err error) {
	updates, err := s.bucket.all(ctx)
	if err != nil {
		return 0, err
	}
	tables := tablesOf(updates)
	for name, t := range tables {
		keep, ok := settings[name]
		if !ok {
			keep.Defaults()
		}
		for _, k := range t.outdated(name, keep.Keep, s.cfg.Now()) {
			if err := s.bucket.remove(ctx, k); err != nil {
				return removed, err
			}
			removed++
		}
	}
	return removed, nil
}

// tablesOf returns tables of the records, for looking only.
func tablesOf(updates []update) map[string]*table {
	f := &follower{tables: map[string]*table{}, store: &Store{cfg: Config{Now: time.Now}}}
	for i := range updates {
		u := &updates[i]
		if u.value == nil {
			continue
		}
		t := f.tables[u.key.site]
		if t == nil {
			t = &table{site: newSite(u.key.site), deploys: map[node.Digest]*entry{}, previews: map[string]Preview{}}
			f.tables[u.key.site] = t
		}
		switch u.key.kind { // records of another version are left out, so nothing of them is deleted
		case kindDeploy:
			_ = f.applyDeploy(t, u)
		case kindPreview:
			_ = f.applyPreview(t, u)
		case kindLive:
			var c Change
			if decode(u.value, &c, &c.Version) == nil {
				t.change, t.revision = c, u.revision
			}
		}
	}
	return f.tables
}

// outdated returns the keys of a site that needn't be kept: previews that have expired, and deploys that are neither
// live nor a preview, nor among the newest keep.Deploys, nor younger than keep.Assets.
func (t *table) outdated(name string, keep node.SiteKeep, now time.Time) (out []key) {
	used := map[node.Digest]bool{t.change.ID: true}
	for preview, p := range t.previews {
		if now.Before(p.Until) {
			used[p.ID] = true
			continue
		}
		out = append(out, key{site: name, kind: kindPreview, name: preview})
	}
	for i, e := range t.newest() {
		id := e.record.ID()
		if used[id] || i < keep.Deploys || now.Sub(e.record.At) < keep.Assets.Std() {
			continue
		}
		out = append(out, key{site: name, kind: kindDeploy, id: id})
	}
	return out
}

// Collect removes what no deploy names any more: blobs from the stream, and files from this node's disk. One node of
// the mesh should do it at a time, though several do no harm. It returns how many bytes were freed in the stream.
//
// Nothing is removed unless the manifest of each deploy in the bucket can be read.
func (s *Store) Collect(ctx context.Context) (bytes int64, err error) {
	named, err := s.named(ctx)
	if err != nil {
		return 0, err
	}
	return s.cfg.Blobs.Collect(ctx, s.keeps(named), collectGrace)
}

// Sweep removes from this node's disk the files that no deploy names. It returns how many bytes that freed. While this
// node brings a deploy it does nothing.
func (s *Store) Sweep(ctx context.Context) (bytes int64, err error) {
	// No deploy is brought meanwhile. So each that was brought is in what is read of the bucket now.
	if !s.sweeping.TryLock() {
		return 0, nil
	}
	defer s.sweeping.Unlock()
	named, err := s.named(ctx)
	if err != nil {
		return 0, err
	}
	var here []node.Blob // deploys that this node serves although the bucket doesn't name them any more
	if err := s.do(ctx, func(f *follower) { here = f.named() }); err != nil {
		return 0, err
	}
	for _, b := range here {
		named[b.Digest] = struct{}{}
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

// named returns the blobs that the deploys in the bucket name.
func (s *Store) named(ctx context.Context) (map[node.Digest]struct{}, error) {
	updates, err := s.bucket.all(ctx)
	if err != nil {
		return nil, err
	}
	out := map[node.Digest]struct{}{}
	for _, u := range updates {
		if u.key.kind != kindDeploy || u.value == nil {
			continue
		}
		var r Record
		if err := decode(u.value, &r, &r.Version); err != nil {
			return nil, fmt.Errorf("keep all files of %s: %w", u.key.site, err)
		}
		m, err := s.readManifest(ctx, &r)
		if err != nil {
			return nil, fmt.Errorf("keep all files of %s: %w", u.key.site, err)
		}
		out[r.Manifest.Digest] = struct{}{}
		addBlobs(out, m)
	}
	return out, nil
}

func addBlobs(out map[node.Digest]struct{}, m *site.Manifest) {
	for _, b := range m.Blobs() {
		out[b.Digest] = struct{}{}
	}
}

// named returns the blobs that the deploys on this node name.
func (f *follower) named() (out []node.Blob) {
	for _, t := range f.tables {
		state := t.site.State()
		for _, e := range t.deploys {
			if e.manifest != nil {
				out = append(out, e.record.Manifest)
				out = append(out, e.manifest.Blobs()...)
			}
		}
		if live := state.Live; live != nil && t.deploys[live.ID] == nil {
			out = slices.Concat(out, live.Index.Blobs())
		}
	}
	return out
}
