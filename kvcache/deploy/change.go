package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"millrace/node"
)

// standing is what is live of a site, and since which revision of the bucket; zero if there never was anything.
type standing struct {
	change   Change
	revision uint64
}

// floor returns below which revision the site's records count as deleted.
func (s *standing) floor() uint64 { return s.change.floor(s.revision) }

// live reads what is live.
func (s *Store) live(ctx context.Context, name string) (standing, error) {
	value, revision, err := s.bucket.get(ctx, key{site: name, kind: kindLive})
	if err != nil || value == nil {
		return standing{revision: revision}, err
	}
	out := standing{revision: revision}
	return out, decode(value, &out.change, &out.change.Version)
}

// known returns what is live as this node knows it, which may be old; nil if it doesn't know. A change that relies on
// it is made by compare-and-set.
func (s *Store) known(ctx context.Context, name string) (out *standing) {
	_ = s.do(ctx, func(f *follower) { // fails only if the caller has gone, or the store
		if t := f.trusted(name); t != nil {
			out = &standing{t.change, t.stamp.revision}
		}
	})
	return out
}

// trusted returns the table of a site if it is at most a minute behind what was written.
func (f *follower) trusted(name string) *table {
	t, current := f.tables[name], f.store.bucket.kv.Load()
	if t == nil || !f.complete || f.trouble != nil || current == nil || t.stamp.incarnation != current.incarnation {
		return nil
	}
	return t
}

// Published is the answer to a change. Behind are the nodes that don't serve it yet, by name.
type Published struct {
	Live     node.Digest `json:"live"`
	Was      node.Digest `json:"was"` // what was live before; zero for nothing
	Revision uint64      `json:"revision,omitempty"`
	Preview  string      `json:"preview,omitempty"`
	Behind   []string    `json:"behind"`
	TookMS   float64     `json:"took_ms"` // from the change until the nodes served it
}

// plan is a change of what is live that is to be made.
type plan struct {
	change Change
	ifLive *node.Digest // what must be live until then; nil for whatever is
	record uint64       // revision of the deploy's record; 0 for the end of the site
	from   *standing    // what may be live now; nil to ask
}

// change makes a deploy live by compare-and-set, and waits until the nodes serve it. The error is ErrUnknownDeploy if
// the site was deleted after the deploy was written.
func (s *Store) change(ctx context.Context, name string, p plan) (*Published, error) {
	c := &p.change
	c.Version, c.At = recordVersion, s.cfg.Now()
	begun := time.Now()
	for {
		before, err := s.before(ctx, name, &p)
		if err != nil {
			return nil, err
		}
		same := before.revision != 0 && before.change.ID == c.ID && p.record != 0
		switch {
		case same:
		case p.ifLive != nil && *p.ifLive != before.change.ID:
			return nil, &LostRaceError{Live: before.change.ID, Wanted: *p.ifLive}
		case p.record != 0 && p.record < before.floor():
			return nil, fmt.Errorf("%w: the site was deleted meanwhile", ErrUnknownDeploy)
		}
		out, err := s.swap(ctx, name, c, before, same)
		if errors.Is(err, errStale) {
			continue
		}
		if out != nil {
			out.TookMS = float64(time.Since(begun).Microseconds()) / 1000
		}
		return out, err
	}
}

// before returns what is live before a change. What this node knows is used once, and not to refuse a change.
func (s *Store) before(ctx context.Context, name string, p *plan) (*standing, error) {
	if from := p.from; from != nil {
		p.from = nil
		if from.change.ID != p.change.ID && (p.ifLive == nil || *p.ifLive == from.change.ID) {
			return from, nil
		}
	}
	now, err := s.live(ctx, name)
	return &now, err
}

// swap writes a change, unless the same is live, and waits until the nodes serve it. The error is errStale if
// something else is live than before.
func (s *Store) swap(ctx context.Context, name string, c *Change, before *standing, same bool) (*Published, error) {
	q := question{Site: name, ID: c.ID, Revision: before.revision}
	if !same { // whatever comes next is this change, or this change fails: so the nodes can be asked before it is made
		q.Revision++
	}
	if kv, err := s.bucket.open(ctx); err == nil {
		q.Incarnation = kv.incarnation
	}
	asked, err := s.inquire(q, bucketTime+servedWait)
	if err != nil {
		return nil, err
	}
	defer asked.close()
	revision := before.revision
	if !same {
		c.Was, c.Floor = before.change.ID, before.floor()
		if revision, err = s.write(ctx, name, c, before.revision); err != nil {
			return nil, err
		}
	}
	answers := asked.await(ctx, servedWait, nil)
	return &Published{Live: c.ID, Was: before.change.ID, Revision: revision, Behind: without(answers)}, nil
}

// write writes a change by compare-and-set. If nobody says whether it was written, it looks.
func (s *Store) write(ctx context.Context, name string, c *Change, last uint64) (uint64, error) {
	k, value := key{site: name, kind: kindLive}, encode(c)
	revision, err := s.bucket.swap(ctx, k, value, last)
	if err == nil || errors.Is(err, errStale) {
		return revision, err
	}
	if now, revision, again := s.bucket.get(ctx, k); again == nil && bytes.Equal(now, value) {
		return revision, nil
	}
	return 0, err
}

// without returns the names of the nodes whose answer isn't NodeReady.
func without(answers []Answer) []string {
	out := []string{}
	for _, a := range answers {
		if a.State != NodeReady {
			out = append(out, a.Node)
		}
	}
	return out
}

// record reads the record of a deploy. The error is ErrUnknownDeploy if there is none.
func (s *Store) record(ctx context.Context, name string, id node.Digest) (*Record, uint64, error) {
	value, revision, err := s.bucket.get(ctx, key{site: name, kind: kindDeploy, id: id})
	switch {
	case err != nil:
		return nil, 0, err
	case value == nil:
		return nil, 0, ErrUnknownDeploy
	}
	var r Record
	if err := decode(value, &r, &r.Version); err != nil {
		return nil, 0, err
	}
	return &r, revision, nil
}

// hold reads the record of a deploy that is about to be used, and sees to it that it isn't deleted within leaveTime.
func (s *Store) hold(ctx context.Context, name string, id node.Digest) (*Record, uint64, error) {
	for {
		r, revision, err := s.record(ctx, name, id)
		if err != nil || r.Leaves.IsZero() {
			return r, revision, err
		}
		r.Leaves = time.Time{}
		revision, err = s.bucket.swap(ctx, key{site: name, kind: kindDeploy, id: id}, encode(r), revision)
		if !errors.Is(err, errStale) {
			return r, revision, err
		}
	}
}

// Rollback makes an earlier deploy live again; with a zero id the one that was live before the one that is. Errors:
// ErrUnknownSite, ErrUnknownDeploy, LostRaceError.
func (s *Store) Rollback(ctx context.Context, name string, id node.Digest, by, message string) (*Published, error) {
	s.Follow()
	change := Change{ID: id, By: by, Why: WhyRollback, Message: message}
	var p *plan
	_ = s.do(ctx, func(f *follower) { p = f.rollback(name, change) }) // if it fails, so does what follows
	if p == nil {
		now, err := s.live(ctx, name)
		if err != nil {
			return nil, err
		}
		if now.change.Version == 0 {
			return nil, ErrUnknownSite
		}
		if p, err = s.rollback(ctx, name, change, &now); err != nil {
			return nil, err
		}
	}
	return s.change(ctx, name, *p)
}

// rollback plans a rollback by what this node knows; nil if it doesn't know enough. Nothing that it knows of was
// deleted meanwhile: that takes leaveTime, and it would have heard that it is about to be.
func (f *follower) rollback(name string, c Change) *plan {
	t := f.trusted(name)
	if t == nil {
		return nil
	}
	if c.ID == (node.Digest{}) {
		c.ID = t.change.Was
	}
	e := t.deploys[c.ID]
	if e == nil || !e.record.Leaves.IsZero() || e.stamp.incarnation != t.stamp.incarnation {
		return nil
	}
	now := standing{t.change, t.stamp.revision}
	return &plan{change: c, ifLive: &now.change.ID, record: e.stamp.revision, from: &now}
}

// rollback plans a rollback by what the bucket says.
func (s *Store) rollback(ctx context.Context, name string, c Change, now *standing) (*plan, error) {
	p := &plan{change: c, ifLive: &now.change.ID, from: now}
	if c.ID == (node.Digest{}) {
		id, err := s.previous(ctx, name, now)
		if err != nil {
			return nil, err
		}
		p.change.ID = id
	}
	var err error
	_, p.record, err = s.hold(ctx, name, p.change.ID)
	return p, err
}

// previous returns the last deploy that was live before the one that is, and is still kept.
func (s *Store) previous(ctx context.Context, name string, now *standing) (node.Digest, error) {
	changes, err := s.changes(ctx, name)
	if err != nil {
		return node.Digest{}, err
	}
	seen := false // the one that is, from the newest change on
	for _, c := range slices.Backward(changes) {
		id := c.ID
		if id == now.change.ID {
			seen = true
			continue
		}
		if !seen || id == (node.Digest{}) {
			continue
		}
		if _, revision, err := s.record(ctx, name, id); err == nil && revision > now.floor() {
			return id, nil
		}
	}
	return node.Digest{}, fmt.Errorf("%w that was live before and is kept", ErrUnknownDeploy)
}

// changes returns the changes of what is live that the bucket still has, oldest first.
func (s *Store) changes(ctx context.Context, name string) ([]Change, error) {
	entries, err := s.bucket.past(ctx, key{site: name, kind: kindLive})
	if err != nil {
		return nil, err
	}
	out := make([]Change, 0, len(entries))
	for _, e := range entries {
		var c Change
		if decode(e.Value(), &c, &c.Version) == nil {
			out = append(out, c)
		}
	}
	return out, nil
}

// Promote makes the deploy of a preview live. Errors: ErrUnknownDeploy, LostRaceError.
func (s *Store) Promote(ctx context.Context, name, preview, by, message string) (*Published, error) {
	s.Follow()
	if !node.ValidName(preview) {
		return nil, ErrUnknownDeploy
	}
	value, revision, err := s.bucket.get(ctx, key{site: name, kind: kindPreview, name: preview})
	switch {
	case err != nil:
		return nil, err
	case value == nil:
		return nil, ErrUnknownDeploy
	}
	var p Preview
	if err := decode(value, &p, &p.Version); err != nil {
		return nil, err
	}
	now, err := s.live(ctx, name)
	if err != nil {
		return nil, err
	}
	if !s.cfg.Now().Before(p.Until) || revision < now.floor() {
		return nil, fmt.Errorf("%w: the preview has ended", ErrUnknownDeploy)
	}
	_, record, err := s.hold(ctx, name, p.ID)
	if err != nil {
		return nil, err
	}
	return s.change(ctx, name, plan{
		change: Change{ID: p.ID, By: by, Why: WhyPromote, Message: message}, ifLive: &now.change.ID, record: record,
		from: &now,
	})
}

// Delete deletes a site: nothing is live, and all deploys and previews are gone. That is one record, which says that
// those before it don't count; the keys are deleted afterwards. The error is ErrUnknownSite if there is nothing.
func (s *Store) Delete(ctx context.Context, name, by string) (*Published, error) {
	s.Follow()
	now, err := s.live(ctx, name)
	if err != nil {
		return nil, err
	}
	updates, err := s.bucket.all(ctx)
	if err != nil {
		return nil, err
	}
	t := tablesOf(updates)[name]
	if t == nil || (now.change.ID == (node.Digest{}) && len(t.deploys)+len(t.previews) == 0) {
		return nil, ErrUnknownSite
	}
	out, err := s.change(ctx, name, plan{change: Change{By: by, Why: WhyDelete}, ifLive: &now.change.ID, from: &now})
	if err != nil {
		return nil, err
	}
	for _, u := range updates {
		if u.key.site == name && u.key.kind != kindLive && u.key.kind != kindOther && u.value != nil {
			_, _ = s.bucket.remove(ctx, u.key, u.revision) // Prune does it if this fails
		}
	}
	return out, nil
}
