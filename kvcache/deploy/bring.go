package deploy

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"millrace/node"
	"millrace/node/site"
)

// maxBringing is how many deploys a node brings at once.
const maxBringing = 2

// After an attempt that failed a deploy is brought again, first after againFirst; it doubles up to againLast.
const (
	againFirst = time.Second
	againLast  = time.Minute
)

// progress is how much of a deploy is here, in bytes. It is safe for concurrent use.
type progress struct{ done, total atomic.Int64 }

// brought is the result of bringing a deploy.
type brought struct {
	site     string
	entry    *entry
	manifest *site.Manifest
	deploy   *Deploy
	options  site.Options // with which the index was made
	rest     []node.Blob  // that Fill leaves for later
	isRest   bool         // the deploy was here, and now the rest of it is
	err      error
}

// bring starts to bring deploys that aren't here: of each site first what is live, then the newest.
func (f *follower) bring(ctx context.Context) {
	now := f.store.cfg.Now()
	for f.bringing < maxBringing {
		name, e := f.mostWanted(now)
		if e == nil {
			return
		}
		e.attempts++
		f.bringing++
		if e.stage == stageReady {
			rest := e.rest
			e.rest = nil
			go func() { f.brought <- f.store.bringRest(ctx, name, e, rest) }()
			continue
		}
		e.stage, e.since = stageBringing, now
		options, mode := optionsOf(f.settings, name), f.store.cfg.Fill
		if t := f.tables[name]; t.change.ID == e.record.ID() && t.site.State().Live == nil {
			mode = node.FillDemand // nothing is served: better each file when it is asked for than none
		}
		go func() { f.brought <- f.store.bring(ctx, name, e, options, mode) }()
	}
}

// bringRest brings what was left for later of a deploy.
func (s *Store) bringRest(ctx context.Context, name string, e *entry, rest []node.Blob) brought {
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	err := s.cfg.Blobs.Bring(ctx, rest, func(int64) {})
	return brought{site: name, entry: e, rest: rest, isRest: true, err: err}
}

// fill returns which blobs of a deploy must be here before it is ready, and which are brought afterwards.
func fill(m *site.Manifest, mode node.Fill) (before, after []node.Blob) {
	switch mode {
	case node.FillDemand:
		return nil, nil
	case node.FillHTML:
	case node.FillAll, "":
		return m.Blobs(), nil
	}
	for _, b := range m.Blobs() {
		if b.Size < fillSmall {
			before = append(before, b)
			continue
		}
		after = append(after, b)
	}
	return before, after
}

// fillSmall is the size below which a file is here before its deploy is ready, with node.FillHTML. Pages, styles and
// scripts are hardly ever larger.
const fillSmall = 1 << 20

// mostWanted returns the deploy to bring next; nil if there is none.
func (f *follower) mostWanted(now time.Time) (name string, e *entry) {
	for candidate, t := range f.tables {
		for i, c := range t.newest() {
			if (c.stage == stageReady && len(c.rest) == 0) || c.stage == stageBringing || now.Before(c.again) {
				continue
			}
			if c.stage == stageReady { // it can wait
				if e == nil {
					name, e = candidate, c
				}
				continue
			}
			live := c.record.ID() == t.change.ID
			if live {
				return candidate, c
			}
			if e == nil || e.stage == stageReady || (i == 0 && c.record.At.After(e.record.At)) {
				name, e = candidate, c
			}
		}
	}
	return name, e
}

// bring brings the manifest of a deploy and the files that mode says, and makes its index.
func (s *Store) bring(ctx context.Context, name string, e *entry, o site.Options, mode node.Fill) (out brought) {
	r := &e.record // which never changes
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	out = brought{site: name, entry: e, options: o}
	defer func() {
		if p := recover(); p != nil {
			out.err = fmt.Errorf("bring a deploy: %v", p)
			s.cfg.Log.ErrorContext(ctx, "a deploy can't be made ready", "site", name, "panic", fmt.Sprint(p),
				"stack", string(debug.Stack()))
		}
	}()
	out.manifest, out.err = s.readManifest(ctx, r)
	if out.err != nil {
		return out
	}
	blobs, rest := fill(out.manifest, mode)
	if mode != s.cfg.Fill {
		before, after := fill(out.manifest, s.cfg.Fill)
		rest = append(before, after...)
	}
	out.rest = rest
	var total int64
	for _, b := range blobs {
		total += b.Size
	}
	e.progress.total.Store(total)
	e.progress.done.Store(0)
	blobs = append(blobs, r.Manifest) // on the disk too, for the next start
	if out.err = s.cfg.Blobs.Bring(ctx, blobs, func(n int64) { e.progress.done.Add(n) }); out.err != nil {
		return out
	}
	index, err := site.NewIndex(r.ID(), out.manifest, o)
	if err != nil {
		out.err = err
		return out
	}
	out.deploy = &Deploy{ID: r.ID(), Index: index}
	return out
}

// readManifest reads the manifest of a deploy.
func (s *Store) readManifest(ctx context.Context, r *Record) (*site.Manifest, error) {
	if r.Manifest.Size > site.MaxManifest {
		return nil, fmt.Errorf("read the manifest of %s: it has %d bytes", shortID(r.ID()), r.Manifest.Size)
	}
	data, err := s.cfg.Blobs.ReadAll(ctx, r.Manifest)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", shortID(r.ID()), err)
	}
	m, err := site.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", shortID(r.ID()), err)
	}
	return m, nil
}

// finish applies the result of bringing a deploy.
func (f *follower) finish(b brought) {
	f.bringing--
	t := f.table(b.site)
	e, now := b.entry, f.store.cfg.Now()
	if t.deploys[e.record.ID()] != e { // it was deleted meanwhile
		return
	}
	if b.isRest {
		f.finishRest(b)
		return
	}
	e.since = now
	if b.err == nil && !sameOptions(b.options, optionsOf(f.settings, b.site)) {
		b.deploy, b.err = f.reindex(b)
	}
	if b.err != nil {
		e.stage, e.failed = stageFailed, b.err
		e.again = now.Add(backoff(e.attempts))
		f.store.cfg.Log.Error("a deploy can't be brought to this node; it is tried again", "site", b.site,
			"id", shortID(e.record.ID()), "cause", b.err)
		return
	}
	e.stage, e.failed, e.manifest, e.deploy, e.rest = stageReady, nil, b.manifest, b.deploy, b.rest
	e.attempts = 0
	f.unsaved = true
	f.publish(t)
	f.store.cfg.Event(Event{Site: b.site, What: "staged", ID: e.record.ID(), Node: f.store.cfg.Node, At: now})
}

// finishRest applies the result of bringing the rest of a deploy. Its files are served on demand meanwhile.
func (f *follower) finishRest(b brought) {
	e := b.entry
	if b.err == nil {
		e.attempts = 0
		return
	}
	e.rest, e.again = b.rest, f.store.cfg.Now().Add(backoff(e.attempts))
	f.store.cfg.Log.Warn("the rest of a deploy can't be brought to this node; it is tried again", "site", b.site,
		"id", shortID(e.record.ID()), "cause", b.err)
}

// backoff returns how long to wait after so many attempts that failed.
func backoff(attempts int) time.Duration { return min(againFirst<<min(attempts-1, 10), againLast) }

func (f *follower) reindex(b brought) (*Deploy, error) {
	index, err := site.NewIndex(b.entry.record.ID(), b.manifest, optionsOf(f.settings, b.site))
	if err != nil {
		return nil, err // finish adds what it is about
	}
	return &Deploy{ID: b.entry.record.ID(), Index: index}, nil
}

// index makes the deploy of an entry from its manifest.
func (e *entry) index(o site.Options) error {
	index, err := site.NewIndex(e.record.ID(), e.manifest, o)
	if err != nil {
		return fmt.Errorf("prepare deploy %s: %w", shortID(e.record.ID()), err)
	}
	e.stage, e.deploy = stageReady, &Deploy{ID: e.record.ID(), Index: index}
	return nil
}
