package deploy

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
	"millrace/node/site"
)

// tick is how often the follower looks for previews that have expired and for what it should try again.
const tick = 500 * time.Millisecond

// follower holds what this node knows of the bucket and brings what is missing. It is used by the goroutine of run
// only; others reach it by Store.do.
type follower struct {
	store    *Store
	settings map[string]node.Site
	tables   map[string]*table
	heard    chan heard
	brought  chan brought
	bringing int  // goroutines that bring a deploy; at most maxBringing
	complete bool // the bucket was read since the start
	// incarnation is that of the bucket in which the revisions of the tables are.
	incarnation int64
	trouble     error     // why the bucket can't be followed; nil if it is
	since       time.Time // of trouble
	unsaved     bool      // the note is older than the tables
	waiting     []*waiting
}

// table is what is known of one site.
type table struct {
	site     *Site
	deploys  map[node.Digest]*entry
	previews map[string]Preview
	change   Change // of the live deploy
	revision uint64 // of change; 0 if there was none
}

// entry is a deploy that the bucket names.
type entry struct {
	record   Record
	revision uint64
	stage    stage
	failed   error     // of the last attempt to bring it
	again    time.Time // of the next attempt after one that failed
	attempts int
	progress *progress
	since    time.Time // in this stage
	deploy   *Deploy   // set once it is ready
	manifest *site.Manifest
	rest     []node.Blob // of a deploy that is ready: what is still to be brought
}

// stage says how far a deploy is on this node.
type stage string

const (
	stageWaiting  stage = "waiting"
	stageBringing stage = "bringing"
	stageFailed   stage = "failed"
	stageReady    stage = "ready"
)

func newFollower(s *Store, settings map[string]node.Site) *follower {
	return &follower{
		store: s, settings: settings, tables: map[string]*table{}, heard: make(chan heard),
		brought: make(chan brought, maxBringing),
	}
}

// run follows the bucket until ctx ends, and then waits for the goroutines that it started.
func (f *follower) run(ctx context.Context, questions <-chan *nats.Msg) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	defer f.save()
	var watching chan struct{}
	defer func() { f.drain(watching) }()
	for {
		if watching == nil && f.store.following.Load() {
			watching = make(chan struct{})
			w := &watcher{bucket: f.store.bucket, nc: f.store.cfg.NATS, out: f.heard, far: f.store.cfg.Far}
			go func() { defer close(watching); w.run(ctx) }()
		}
		select {
		case h := <-f.heard:
			f.hear(h)
		case b := <-f.brought:
			f.finish(b)
		case m := <-questions:
			f.question(m)
		case run := <-f.store.commands:
			run(f)
		case <-ticker.C:
			f.expirePreviews()
		case <-ctx.Done():
			return
		}
		f.bring(ctx)
		f.answerWaiting()
		f.save()
	}
}

// drain waits for the goroutines that ctx has ended.
func (f *follower) drain(watching <-chan struct{}) {
	for f.bringing > 0 {
		<-f.brought
		f.bringing--
	}
	if watching != nil {
		<-watching
	}
}

// table returns the table of a site, and makes it if there is none.
func (f *follower) table(name string) *table {
	t := f.tables[name]
	if t == nil {
		t = &table{site: f.store.Site(name), deploys: map[node.Digest]*entry{}, previews: map[string]Preview{}}
		f.tables[name] = t
	}
	return t
}

// hear applies what the watcher passes on.
func (f *follower) hear(h heard) {
	switch {
	case h.err != nil:
		f.setTrouble(h.err)
	case h.complete:
		f.setTrouble(nil)
		f.complete = true
		if f.incarnation != 0 && f.incarnation != h.incarnation {
			f.store.cfg.Log.Error("the bucket of sites is another one than before: what is live stays until somebody "+
				"publishes again", "was", f.incarnation, "is", h.incarnation)
		}
		f.incarnation = h.incarnation
	default:
		f.apply(h.update)
	}
}

func (f *follower) setTrouble(err error) {
	if (err == nil) == (f.trouble == nil) {
		return
	}
	f.trouble, f.since = err, f.store.cfg.Now()
	if err != nil {
		f.store.cfg.Log.Warn("the deploys of sites can't be followed: sites serve what was live before", "cause", err)
		return
	}
	f.store.cfg.Log.Info("the deploys of sites are followed")
}

// apply applies one update of the bucket. An update that was applied before changes nothing.
func (f *follower) apply(u *update) {
	t := f.table(u.key.site)
	var err error
	switch u.key.kind {
	case kindDeploy:
		err = f.applyDeploy(t, u)
	case kindPreview:
		err = f.applyPreview(t, u)
	case kindLive:
		err = f.applyLive(t, u)
	}
	if err != nil {
		f.store.cfg.Log.Error("a record of a site is ignored", "site", u.key.site, "cause", err)
		return
	}
	f.unsaved = true
	f.publish(t)
}

func (f *follower) applyDeploy(t *table, u *update) error {
	if u.value == nil {
		delete(t.deploys, u.key.id)
		return nil
	}
	if t.deploys[u.key.id] != nil {
		return nil // a deploy never changes
	}
	var r Record
	if err := decode(u.value, &r, &r.Version); err != nil {
		return err
	}
	if r.ID() != u.key.id || r.Manifest.Check() != nil {
		return errKey
	}
	t.deploys[u.key.id] = &entry{
		record: r, revision: u.revision, stage: stageWaiting, progress: &progress{}, since: f.store.cfg.Now(),
	}
	return nil
}

func (f *follower) applyPreview(t *table, u *update) error {
	if u.value == nil {
		delete(t.previews, u.key.name)
		return nil
	}
	var p Preview
	if err := decode(u.value, &p, &p.Version); err != nil {
		return err
	}
	t.previews[u.key.name] = p
	return nil
}

// applyLive sets the live deploy. Revisions only grow while the bucket is the same one, so that a late or repeated
// update never brings an old deploy back.
func (f *follower) applyLive(t *table, u *update) error {
	current := f.store.bucket.kv.Load()
	same := current == nil || f.incarnation == 0 || f.incarnation == current.incarnation
	if u.value == nil || (same && u.revision <= t.revision) {
		return nil
	}
	var c Change
	if err := decode(u.value, &c, &c.Version); err != nil {
		return err
	}
	t.change, t.revision = c, u.revision
	return nil
}

// publish makes the state that readers of the site get. The live deploy changes only to one that is here, so the one
// before stays until then.
func (f *follower) publish(t *table) {
	before := t.site.State()
	next := &State{Live: before.Live, Revision: before.Revision, Since: before.Since, Previews: map[string]*Deploy{}}
	live := t.deploys[t.change.ID]
	switch {
	case t.revision != 0 && t.change.ID == (node.Digest{}): // deleted
		next.Live, next.Revision = nil, t.revision
	case live != nil && live.deploy != nil:
		next.Live, next.Revision = live.deploy, t.revision
	}
	if next.Revision != before.Revision {
		next.Since = f.store.cfg.Now()
	}
	for _, e := range t.newest() {
		if e.deploy != nil && e.deploy != next.Live {
			next.Others = append(next.Others, e.deploy)
		}
	}
	now := f.store.cfg.Now()
	for name, p := range t.previews {
		if e := t.deploys[p.ID]; e != nil && e.deploy != nil && now.Before(p.Until) {
			next.Previews[name] = e.deploy
		}
	}
	t.site.state.Store(next)
	if next.Revision != before.Revision {
		f.flipped(t, next)
	}
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
	e := Event{Site: t.site.Name, What: "deleted", Node: f.store.cfg.Node, At: now.Since}
	if now.Live != nil {
		e.What, e.ID = "live", now.Live.ID
	}
	f.unsaved = true
	f.store.cfg.Log.Info("a site has changed", "site", e.Site, "what", e.What, "id", shortID(e.ID), "why", t.change.Why)
	f.store.cfg.Event(e)
}

// newest returns the deploys of the table, the newest first.
func (t *table) newest() []*entry {
	return slices.SortedFunc(maps.Values(t.deploys), func(a, b *entry) int {
		if c := b.record.At.Compare(a.record.At); c != 0 {
			return c
		}
		return slices.Compare(a.record.Manifest.Digest[:], b.record.Manifest.Digest[:])
	})
}

// setSettings replaces the settings of the sites. An index depends on some of them, so it is made again.
func (f *follower) setSettings(settings map[string]node.Site) {
	before := f.settings
	f.settings = settings
	for name, t := range f.tables {
		if sameOptions(optionsOf(before, name), optionsOf(settings, name)) {
			continue
		}
		for _, e := range t.deploys {
			if e.manifest == nil {
				continue
			}
			if err := e.index(optionsOf(settings, name)); err != nil {
				f.store.cfg.Log.Error("a site keeps its old settings", "site", name, "cause", err)
			}
		}
		f.publish(t)
	}
}

// optionsOf returns what an index needs of a site's settings.
func optionsOf(settings map[string]node.Site, name string) site.Options {
	s, ok := settings[name]
	if !ok {
		s.Defaults()
	}
	return site.Options{SPA: s.SPA, Slash: s.Slash, Immutable: s.Immutable}
}

func sameOptions(a, b site.Options) bool {
	return a.SPA == b.SPA && a.Slash == b.Slash && slices.Equal(a.Immutable, b.Immutable)
}

// shortID is how people see the id of a deploy.
func shortID(id node.Digest) string { return id.String()[:12] }

// note is what a node serves, for its next start.
type note struct {
	Version     int                 `json:"v"`
	Incarnation int64               `json:"incarnation"`
	Sites       map[string]noteSite `json:"sites"`
}

type noteSite struct {
	Change   Change             `json:"change"`
	Revision uint64             `json:"revision"`
	Deploys  []Record           `json:"deploys"`
	Previews map[string]Preview `json:"previews,omitempty"`
}

// save saves the note if something has changed. It has only what is here.
func (f *follower) save() {
	if !f.unsaved {
		return
	}
	f.unsaved = false
	n := note{Version: recordVersion, Incarnation: f.incarnation, Sites: map[string]noteSite{}}
	for name, t := range f.tables {
		s := noteSite{Change: t.change, Revision: t.revision, Previews: t.previews}
		for _, e := range t.newest() {
			if e.deploy != nil {
				s.Deploys = append(s.Deploys, e.record)
			}
		}
		if live := t.site.State(); live.Live != nil && live.Live.ID != t.change.ID {
			s.Change.ID, s.Revision = live.Live.ID, live.Revision // what is live isn't here yet
		}
		n.Sites[name] = s
	}
	data, err := json.Marshal(n)
	if err == nil {
		err = f.store.cfg.Notes.Save(data)
	}
	if err != nil {
		f.store.cfg.Log.Error("what the sites serve can't be noted for the next start", "cause", err)
	}
}

// restore sets the tables to what the note of the run before says, as far as its files are here.
func (f *follower) restore(ctx context.Context) {
	data, err := f.store.cfg.Notes.Load()
	if err != nil || data == nil {
		if err != nil {
			f.store.cfg.Log.ErrorContext(ctx, "what the sites served before is unknown", "cause", err)
		}
		return
	}
	var n note
	if err := decode(data, &n, &n.Version); err != nil {
		f.store.cfg.Log.ErrorContext(ctx, "what the sites served before is unknown", "cause", err)
		return
	}
	f.incarnation = n.Incarnation
	for name, s := range n.Sites {
		t := f.table(name)
		t.change, t.revision, t.previews = s.Change, s.Revision, s.Previews
		if t.previews == nil {
			t.previews = map[string]Preview{}
		}
		for _, r := range s.Deploys {
			e := &entry{record: r, stage: stageWaiting, progress: &progress{}, since: f.store.cfg.Now()}
			f.restoreDeploy(ctx, name, e, r.ID() == s.Change.ID)
			t.deploys[r.ID()] = e
		}
		f.publish(t)
	}
	f.unsaved = false
}

// restoreDeploy makes a deploy ready if all of it is on this node's disk, or if it is live.
func (f *follower) restoreDeploy(ctx context.Context, name string, e *entry, live bool) {
	if !f.store.cfg.Blobs.Has(e.record.Manifest) {
		return
	}
	m, err := f.store.readManifest(ctx, &e.record)
	if err != nil {
		f.store.cfg.Log.WarnContext(ctx, "a deploy is brought again", "site", name, "cause", err)
		return
	}
	before, after := fill(m, f.store.cfg.Fill)
	lost := slices.DeleteFunc(before, f.store.cfg.Blobs.Has)
	if len(lost) > 0 && !live { // what is live is served as far as it is here; its other files when they are asked for
		return
	}
	e.rest = append(lost, after...)
	e.manifest = m
	if err := e.index(optionsOf(f.settings, name)); err != nil {
		f.store.cfg.Log.WarnContext(ctx, "a deploy is brought again", "site", name, "cause", err)
	}
}
