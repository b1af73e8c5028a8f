package deploy

import "time"

// apply applies one update of the bucket, and reports whether it is about a record that stays. An update that was
// applied before changes nothing.
func (f *follower) apply(u *update, incarnation int64) bool {
	if u.key.kind == kindOther {
		return false
	}
	t := f.table(u.key.site)
	if err := t.apply(u, incarnation, f.store.cfg.Now()); err != nil {
		f.store.cfg.Log.Error("a record of a site is ignored", "site", u.key.site, "cause", err)
		return true // another version may know what it is
	}
	f.unsaved, f.scan = true, true
	f.publish(t)
	return u.value != nil
}

// forgetUnread forgets what the bucket doesn't have any more: this node was away when it was deleted. Of a bucket that
// was made anew nothing is concluded before it says what is live.
func (f *follower) forgetUnread() {
	for name, t := range f.tables {
		if t.stamp != (stamp{}) && t.stamp.incarnation != f.incarnation {
			continue
		}
		before := len(t.deploys) + len(t.previews)
		for id, e := range t.deploys {
			if !f.reading[key{site: name, kind: kindDeploy, id: id}] {
				t.forget(e)
			}
		}
		for preview := range t.previews {
			if !f.reading[key{site: name, kind: kindPreview, name: preview}] {
				delete(t.previews, preview)
			}
		}
		if len(t.deploys)+len(t.previews) != before {
			f.unsaved = true
			f.publish(t)
		}
	}
}

// apply applies one update. The error is about a record that can't be read.
func (t *table) apply(u *update, incarnation int64, now time.Time) error {
	at := stamp{incarnation, u.revision}
	switch u.key.kind {
	case kindDeploy:
		return t.applyDeploy(u, at, now)
	case kindPreview:
		return t.applyPreview(u, at)
	case kindLive:
		return t.applyLive(u, at)
	case kindOther:
	}
	return nil
}

// void reports whether a record counts as deleted, since the site was deleted after it.
func (t *table) void(at stamp) bool {
	return at.incarnation == t.stamp.incarnation && at.revision < t.change.floor(t.stamp.revision)
}

func (t *table) applyDeploy(u *update, at stamp, now time.Time) error {
	e := t.deploys[u.key.id]
	if u.value == nil || t.void(at) {
		t.forget(e)
		return nil
	}
	var r Record
	if err := decode(u.value, &r, &r.Version); err != nil {
		return err
	}
	if r.ID() != u.key.id || r.Manifest.Check() != nil {
		return errKey
	}
	if e == nil {
		e = &entry{stage: stageWaiting, progress: &progress{}, since: now}
		t.deploys[u.key.id] = e
	}
	e.record, e.stamp = r, at // its files are the same in any case
	return nil
}

// forget forgets a deploy, and ends what is being done about it. What is live stays live until something else is.
func (t *table) forget(e *entry) {
	if e == nil {
		return
	}
	if e.busy != nil {
		e.busy()
	}
	delete(t.deploys, e.record.ID())
}

func (t *table) applyPreview(u *update, at stamp) error {
	if u.value == nil || t.void(at) {
		delete(t.previews, u.key.name)
		return nil
	}
	var p Preview
	if err := decode(u.value, &p, &p.Version); err != nil {
		return err
	}
	t.previews[u.key.name] = preview{p, at}
	return nil
}

// applyLive sets the live deploy. Revisions only grow while the bucket is the same one, so that a late or repeated
// update never brings an old deploy back. With it goes what was deleted, or was in another bucket.
func (t *table) applyLive(u *update, at stamp) error {
	if u.value == nil || (at.incarnation == t.stamp.incarnation && at.revision <= t.stamp.revision) {
		return nil
	}
	var c Change
	if err := decode(u.value, &c, &c.Version); err != nil {
		return err
	}
	t.change, t.stamp = c, at
	for _, e := range t.deploys {
		if t.void(e.stamp) || e.stamp.incarnation != at.incarnation {
			t.forget(e)
		}
	}
	for name, p := range t.previews {
		if t.void(p.stamp) || p.stamp.incarnation != at.incarnation {
			delete(t.previews, name)
		}
	}
	return nil
}
