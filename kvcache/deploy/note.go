package deploy

import (
	"context"
	"maps"
	"slices"
	"time"

	"millrace/node"
)

// note is what a node serves, for its next start.
type note struct {
	Version     int                 `json:"v"`
	Incarnation int64               `json:"incarnation"`
	Sites       map[string]noteSite `json:"sites"`
}

type noteSite struct {
	Change      Change                 `json:"change"`
	Incarnation int64                  `json:"incarnation"` // of Change
	Revision    uint64                 `json:"revision"`    // likewise
	Deploys     []noteDeploy           `json:"deploys"`     // newest first
	Previews    map[string]notePreview `json:"previews,omitempty"`
}

type noteDeploy struct {
	Record

	Incarnation int64  `json:"incarnation"`
	Revision    uint64 `json:"revision"`
}

type notePreview struct {
	Preview

	Incarnation int64  `json:"incarnation"`
	Revision    uint64 `json:"revision"`
}

// restoreTime is how long a start may wait for deploys that aren't live, and restoreRead for one manifest on the disk,
// which may turn out to be wrong.
const (
	restoreTime = 250 * time.Millisecond
	restoreRead = 2 * time.Second
)

// save saves the note if something has changed. It has only what is here.
func (f *follower) save() {
	if !f.unsaved || f.reading != nil {
		return
	}
	f.unsaved = false
	n := &note{Version: recordVersion, Incarnation: f.incarnation, Sites: map[string]noteSite{}}
	for name, t := range f.tables {
		if s := t.note(); s.Revision != 0 || len(s.Deploys) > 0 {
			n.Sites[name] = s
		}
	}
	f.aside.save(n)
}

// note returns what is to be noted of a site.
func (t *table) note() noteSite {
	s := noteSite{Change: t.change, Incarnation: t.stamp.incarnation, Revision: t.stamp.revision}
	if live := t.site.State(); live.Live != nil && live.Live.ID != t.change.ID {
		// What is live isn't here yet.
		s.Change.ID, s.Incarnation, s.Revision = live.Live.ID, live.incarnation, live.Revision
	}
	for _, e := range t.newest {
		if e.deploy != nil {
			s.Deploys = append(s.Deploys, noteDeploy{e.record, e.stamp.incarnation, e.stamp.revision})
		}
	}
	for name, p := range t.previews {
		if s.Previews == nil {
			s.Previews = make(map[string]notePreview, len(t.previews))
		}
		s.Previews[name] = notePreview{p.Preview, p.stamp.incarnation, p.stamp.revision}
	}
	return s
}

// restore sets the tables to what the note of the run before says, as far as its files are here.
func (f *follower) restore(ctx context.Context) {
	data, err := f.store.cfg.Notes.Load()
	if err == nil && data == nil {
		return
	}
	var n note
	if err == nil {
		err = decode(data, &n, &n.Version)
	}
	if err != nil {
		f.store.cfg.Log.ErrorContext(ctx, "what the sites served before is unknown", "cause", err)
		return
	}
	f.incarnation = n.Incarnation
	for name, s := range n.Sites {
		f.restoreSite(ctx, f.table(name), &s)
	}
	f.restoreOthers(ctx)
	f.unsaved = false
}

// restoreSite makes what was live of a site ready.
func (f *follower) restoreSite(ctx context.Context, t *table, s *noteSite) {
	t.change, t.stamp = s.Change, stamp{s.Incarnation, s.Revision}
	for name, p := range s.Previews {
		t.previews[name] = preview{p.Preview, stamp{p.Incarnation, p.Revision}}
	}
	for _, d := range s.Deploys {
		t.deploys[d.ID()] = &entry{
			record: d.Record, stamp: stamp{d.Incarnation, d.Revision}, stage: stageWaiting, progress: &progress{},
			since: f.store.cfg.Now(),
		}
	}
	if live := t.deploys[t.change.ID]; live != nil {
		f.restoreDeploy(ctx, t, live)
	}
	f.publish(t)
}

// restoreOthers makes further deploys ready, as many as there is time for. The others are brought as new ones are.
func (f *follower) restoreOthers(ctx context.Context) {
	begun := time.Now()
	for _, name := range slices.Sorted(maps.Keys(f.tables)) {
		t := f.tables[name]
		for _, e := range t.newest {
			if time.Since(begun) > restoreTime {
				break
			}
			if e.deploy == nil {
				f.restoreDeploy(ctx, t, e)
			}
		}
		f.publish(t)
	}
}

// restoreDeploy makes a deploy ready if all of it is on this node's disk, or if it is live: that is served as far as it
// is here, and its other files when they are asked for.
func (f *follower) restoreDeploy(ctx context.Context, t *table, e *entry) {
	ctx, cancel := context.WithTimeout(ctx, restoreRead)
	defer cancel()
	if !f.store.cfg.Blobs.Has(e.record.Manifest) {
		return
	}
	m, err := f.store.readManifest(ctx, &e.record)
	if err == nil {
		before, after := fill(m, f.store.cfg.Fill)
		lost := slices.DeleteFunc(before, f.store.cfg.Blobs.Has)
		live := e.record.ID() == t.change.ID
		if len(lost) > 0 && !live {
			return
		}
		how := made{options: optionsOf(f.settings, t.name), light: e.light && !live}
		if serves := t.site.State().Live; serves != nil {
			share(m, serves.Index)
		}
		var d *Deploy
		if d, err = makeDeploy(e.record.ID(), m, how); err == nil {
			e.stage, e.deploy, e.made, e.rest = stageReady, d, how, slices.Concat(lost, after)
			return
		}
	}
	f.store.cfg.Log.WarnContext(ctx, "a deploy is brought again", "site", t.name, "cause", err)
}

// records returns the records of all deploys that the follower knows of.
func (f *follower) records() (out []known) {
	for _, t := range f.tables {
		for _, e := range t.deploys {
			k := known{record: e.record}
			if e.full() {
				k.deploy = e.deploy
			}
			out = append(out, k)
		}
		if live := t.site.State().Live; live != nil && t.deploys[live.ID] == nil {
			out = append(out, known{record: Record{Manifest: node.Blob{Digest: live.ID}}, deploy: live})
		}
	}
	return out
}

// known is a deploy that this node knows of. deploy is nil unless all its files are in the index.
type known struct {
	record Record
	deploy *Deploy
}
