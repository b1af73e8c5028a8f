package deploy

import (
	"slices"
	"time"

	"millrace/node"
)

// fullFiles bounds the files in the indexes of a site's deploys that are kept only for a rollback: 400 bytes each, and
// 400 more for each precompressed form. Of deploys beyond it only hashed files are in memory; a rollback to one of them
// reads its manifest again.
const fullFiles = 100_000

// fullStaged is how many deploys that are newer than what is live have all their files in memory in any case.
const fullStaged = 4

// arrange sorts the deploys, the newest first, and decides which need all their files in memory: what is live, what
// was before and what may be in a moment, previews, and of the others as many as fit into fullFiles.
func (t *table) arrange(limit int) {
	t.newest = t.newest[:0]
	for _, e := range t.deploys {
		t.newest = append(t.newest, e)
	}
	slices.SortFunc(t.newest, func(a, b *entry) int {
		if c := b.record.At.Compare(a.record.At); c != 0 {
			return c
		}
		return slices.Compare(a.record.Manifest.Digest[:], b.record.Manifest.Digest[:])
	})
	needed := map[node.Digest]bool{t.change.ID: true, t.change.Was: true}
	if live := t.site.State().Live; live != nil {
		needed[live.ID] = true
	}
	for _, p := range t.previews {
		needed[p.ID] = true
	}
	files, staged := 0, 0
	for _, e := range t.newest {
		if e.light = false; needed[e.record.ID()] {
			continue
		}
		if e.stamp.revision > t.stamp.revision && staged < fullStaged {
			staged++
			continue
		}
		files += e.record.Files
		e.light = files > limit
	}
}

// publish makes the state that readers of the site get. The live deploy changes only to one that is here, so the one
// before stays until then.
func (f *follower) publish(t *table) {
	now := f.store.cfg.Now()
	t.arrange(f.store.fullFiles)
	before := t.site.State()
	next := t.state(before, now)
	flipped := next.Revision != before.Revision || next.incarnation != before.incarnation
	if flipped {
		next.Since = now
	}
	t.site.state.Store(next)
	if flipped {
		f.flipped(t, next)
	}
}

// state returns what the site serves after before.
func (t *table) state(before *State, now time.Time) *State {
	next := &State{
		Live: before.Live, Revision: before.Revision, incarnation: before.incarnation, Since: before.Since,
		Previews: map[string]*Deploy{},
	}
	switch live := t.deploys[t.change.ID]; {
	case t.stamp != (stamp{}) && t.change.ID == (node.Digest{}): // deleted
		next.Live, next.Revision, next.incarnation = nil, t.stamp.revision, t.stamp.incarnation
	case live.full():
		next.Live, next.Revision, next.incarnation = live.deploy, t.stamp.revision, t.stamp.incarnation
	case before.Live != nil:
		if e := t.deploys[before.Live.ID]; e.full() { // its index may have been made again
			next.Live = e.deploy
		}
	}
	for _, e := range t.newest {
		if e.deploy != nil && (next.Live == nil || e.deploy.ID != next.Live.ID) {
			next.Others = append(next.Others, e.deploy)
		}
	}
	for name, p := range t.previews {
		if e := t.deploys[p.ID]; e.full() && now.Before(p.Until) {
			next.Previews[name] = e.deploy
		}
	}
	return next
}

// expirePreviews removes previews that have expired from what is served.
func (f *follower) expirePreviews() {
	now := f.store.cfg.Now()
	for _, t := range f.tables {
		for name := range t.site.State().Previews {
			if p, ok := t.previews[name]; !ok || !now.Before(p.Until) {
				f.publish(t)
				break
			}
		}
	}
}

// flipped tells of a change of what is served.
func (f *follower) flipped(t *table, now *State) {
	e := Event{Site: t.name, What: "deleted", Node: f.store.cfg.Node, At: now.Since}
	if now.Live != nil {
		e.What, e.ID = "live", now.Live.ID
	}
	f.unsaved = true
	f.aside.tell(e)
}
