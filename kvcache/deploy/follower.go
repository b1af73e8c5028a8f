package deploy

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
	"millrace/node/site"
)

// tick is how often the follower looks for previews that have expired and for what it should try again.
const tick = 500 * time.Millisecond

// follower holds what this node knows of the bucket and brings what is missing. It is used by the goroutine of run
// only; others reach it by Store.do. It waits for nothing: what takes time is done by other goroutines.
type follower struct {
	store    *Store
	settings map[string]node.Site
	tables   map[string]*table
	heard    chan heard
	brought  chan brought
	running  running
	scan     bool // there may be something to bring
	complete bool // the bucket was read since the start
	// incarnation is that of the bucket that was heard of last.
	incarnation int64
	reading     map[key]bool // what a watch has passed on that isn't complete yet; nil if there is none
	trouble     error        // why the bucket can't be followed; nil if it is
	since       time.Time    // of trouble
	unsaved     bool         // the note is older than the tables
	waiting     []*waiting
	aside       *aside
}

// stamp is when a record was written: a revision of one incarnation of the bucket. Revisions of different incarnations
// can't be compared.
type stamp struct {
	incarnation int64
	revision    uint64
}

// restored is the incarnation of what was heard of a bucket that was replaced by an older state of itself.
const restored = -1

// table is what is known of one site.
type table struct {
	name     string
	site     *Site
	deploys  map[node.Digest]*entry
	newest   []*entry // those in deploys, newest first; made by arrange
	previews map[string]preview
	change   Change // of the live deploy
	stamp    stamp  // of change; zero if there was none
	unread   bool   // there are records of another version; of tablesOf only
}

// preview is a preview that the bucket names.
type preview struct {
	Preview

	stamp stamp
}

// entry is a deploy that the bucket names.
type entry struct {
	record   Record
	stamp    stamp
	stage    stage
	failed   error     // of the last attempt to bring it
	again    time.Time // of the next attempt after one that failed
	attempts int
	progress *progress
	since    time.Time // in this stage
	deploy   *Deploy   // set once it is ready
	made     made      // how deploy was made
	light    bool      // deploy needs only hashed files; see arrange
	rest     []node.Blob
	busy     context.CancelFunc // ends the goroutine that works on it; nil if none does
}

// made says how a deploy was made from its manifest.
type made struct {
	options site.Options
	light   bool // the index has only the hashed files
}

// full reports whether the deploy is ready with all its files.
func (e *entry) full() bool { return e != nil && e.deploy != nil && !e.made.light }

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
		brought: make(chan brought, maxRunning), aside: newAside(&s.cfg), scan: true,
	}
}

// run follows the bucket until ctx ends, and then waits for the goroutines that it started.
func (f *follower) run(ctx context.Context, questions <-chan *nats.Msg) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
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
			f.scan = true
		case <-ctx.Done():
			return
		}
		f.answerWaiting() // first: somebody waits for that
		f.bring(ctx)
		f.save()
	}
}

// drain waits for the goroutines that ctx has ended, and for the last note.
func (f *follower) drain(watching <-chan struct{}) {
	for f.running.total() > 0 {
		b := <-f.brought
		f.running.ended(b.task)
	}
	if watching != nil {
		<-watching
	}
	f.save()
	f.aside.close()
}

// newTable returns the table of a site of which nothing is known.
func newTable(s *Site) *table {
	return &table{name: s.Name, site: s, deploys: map[node.Digest]*entry{}, previews: map[string]preview{}}
}

// table returns the table of a site, and makes it if there is none.
func (f *follower) table(name string) *table {
	t := f.tables[name]
	if t == nil {
		t = newTable(f.store.Site(name))
		f.tables[name] = t
	}
	return t
}

// hear applies what the watcher passes on.
func (f *follower) hear(h heard) {
	if h.err == nil {
		f.meet(h.incarnation)
	}
	switch {
	case h.err != nil:
		f.setTrouble(h.err)
		f.reading, f.scan = nil, true
	case h.begins:
		f.reading = map[key]bool{}
		f.turnBack(h.last)
	case h.complete:
		f.setTrouble(nil)
		f.complete = true
		f.forgetUnread()
		f.reading, f.scan = nil, true
	case f.apply(h.update, h.incarnation) && f.reading != nil:
		f.reading[h.update.key] = true
	}
}

// meet notes which bucket is heard of.
func (f *follower) meet(incarnation int64) {
	if f.incarnation != 0 && f.incarnation != incarnation {
		f.store.cfg.Log.Error("the bucket of sites is another one than before: what is live stays until somebody "+
			"publishes again", "was", f.incarnation, "is", incarnation)
	}
	f.incarnation = incarnation
}

// turnBack notes that the bucket was restored from a backup if what was heard of is later than its last revision. Then
// what it says of a site counts, whatever was heard before.
func (f *follower) turnBack(last uint64) {
	for _, t := range f.tables {
		if t.stamp.incarnation == f.incarnation && t.stamp.revision > last {
			f.store.cfg.Log.Warn("the bucket of sites is older than it was: what it says counts", "site", t.name)
			t.stamp.incarnation = restored
			t.site.turnBack()
		}
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

// setSettings replaces the settings of the sites. An index depends on some of them, so it is made again.
func (f *follower) setSettings(settings map[string]node.Site) {
	f.settings, f.scan = settings, true
	for _, t := range f.tables {
		for _, e := range t.deploys {
			e.again = time.Time{}
		}
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
