package deploy

import (
	"context"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync/atomic"

	"millrace/node"
	"millrace/node/site"
)

// progress is how much of a deploy is here, in bytes. It is safe for concurrent use.
type progress struct{ done, total atomic.Int64 }

// work is a job as the goroutine that does it gets it.
type work struct {
	site     string
	entry    *entry // only to be passed back
	record   Record
	task     task
	made     made
	fill     node.Fill
	progress *progress
	before   *Deploy     // the deploy as it was; nil if it wasn't here
	live     *Deploy     // what the site serves: most deploys share most files
	rest     []node.Blob // of taskRest
}

// brought is the result of work.
type brought struct {
	site   string
	entry  *entry
	task   task
	deploy *Deploy // nil for taskRest
	made   made
	rest   []node.Blob // what is still to be brought
	err    error
}

// run does the work.
func (s *Store) run(ctx context.Context, w *work) (out brought) {
	s.sweeping.RLock()
	defer s.sweeping.RUnlock()
	out = brought{site: w.site, entry: w.entry, task: w.task, made: w.made, rest: w.rest}
	defer func() {
		if p := recover(); p != nil {
			out.err = fmt.Errorf("bring a deploy: %v", p)
			s.cfg.Log.ErrorContext(ctx, "a deploy can't be made ready", "site", w.site, "panic", fmt.Sprint(p),
				"stack", string(debug.Stack()))
		}
	}()
	if w.task == taskRest {
		out.err = s.cfg.Blobs.Bring(ctx, w.rest, func(int64) {})
		return out
	}
	m, err := s.manifestOf(ctx, w)
	if err == nil && w.before == nil {
		out.rest, err = s.bringFiles(ctx, m, w)
	}
	if err == nil {
		out.deploy, err = makeDeploy(w.record.ID(), m, w.made)
	}
	out.err = err
	return out
}

// manifestOf returns the manifest of a deploy, from memory if it is there.
func (s *Store) manifestOf(ctx context.Context, w *work) (*site.Manifest, error) {
	if w.before != nil && !w.before.light {
		return w.before.Index.Manifest(), nil
	}
	m, err := s.readManifest(ctx, &w.record)
	if err == nil && w.live != nil {
		share(m, w.live.Index)
	}
	return m, err
}

// bringFiles brings the files of a deploy that must be here before it is ready, and returns the others.
func (s *Store) bringFiles(ctx context.Context, m *site.Manifest, w *work) (rest []node.Blob, err error) {
	blobs, rest := fill(m, w.fill)
	if w.fill != s.cfg.Fill {
		before, after := fill(m, s.cfg.Fill)
		rest = slices.Concat(before, after)
	}
	var total int64
	for _, b := range blobs {
		total += b.Size
	}
	w.progress.total.Store(total)
	w.progress.done.Store(0)
	blobs = append(blobs, w.record.Manifest) // on the disk too, for the next start
	return rest, s.cfg.Blobs.Bring(ctx, blobs, func(n int64) { w.progress.done.Add(n) })
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

// readManifest reads the manifest of a deploy.
func (s *Store) readManifest(ctx context.Context, r *Record) (*site.Manifest, error) {
	if r.Manifest.Size > site.MaxManifest {
		return nil, fmt.Errorf("read the manifest of %s: it has %d bytes", r.ID().Short(), r.Manifest.Size)
	}
	data, err := s.cfg.Blobs.ReadAll(ctx, r.Manifest)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", r.ID().Short(), err)
	}
	m, err := site.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", r.ID().Short(), err)
	}
	return m, nil
}

// makeDeploy makes a deploy of its manifest.
func makeDeploy(id node.Digest, m *site.Manifest, how made) (*Deploy, error) {
	index, err := site.NewIndex(id, m, how.options)
	if err == nil && how.light {
		index, err = site.NewIndex(id, hashedOnly(m, index), how.options)
	}
	if err != nil {
		return nil, fmt.Errorf("prepare deploy %s: %w", id.Short(), err)
	}
	return &Deploy{ID: id, Index: index, light: how.light}, nil
}

// hashedOnly returns the part of a manifest that answers for hashed files.
func hashedOnly(m *site.Manifest, index *site.Index) *site.Manifest {
	out := &site.Manifest{Version: m.Version, Files: map[string]site.File{}, Headers: m.Headers}
	for _, e := range index.Entries() {
		if e.Hashed {
			out.Files[e.Path] = e.File
		}
	}
	return out
}

// share makes a manifest that nobody else has yet share memory with an index, for files that are the same in both.
func share(m *site.Manifest, with *site.Index) {
	for path, f := range m.Files {
		e := with.Entry(path)
		if e == nil {
			continue
		}
		if !sameFile(&f, &e.File) {
			m.Files[e.Path] = f // the path only
			continue
		}
		m.Files[e.Path] = e.File
	}
}

func sameFile(a, b *site.File) bool {
	return sameBlob(a.Blob, b.Blob) && maps.EqualFunc(a.Codings, b.Codings, sameBlob)
}

func sameBlob(a, b node.Blob) bool {
	return a.Digest == b.Digest && a.Size == b.Size && slices.Equal(a.Chunks, b.Chunks)
}

// same reports whether two ways to make a deploy give the same.
func (h *made) same(o *made) bool {
	return h.light == o.light && h.options.SPA == o.options.SPA && h.options.Slash == o.options.Slash &&
		slices.Equal(h.options.Immutable, o.options.Immutable)
}
