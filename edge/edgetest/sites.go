package edgetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/edge/site"
	"millrace/node"
	rules "millrace/node/site"
)

// Sites are the sites of a rig, whose files lie in a folder of the test.
type Sites struct {
	dir string

	mu       sync.Mutex // guards what follows
	sites    map[string]*SiteState
	files    map[node.Digest]*SiteFile
	previews map[string]string
}

// SiteState is a site of a rig.
type SiteState struct{ state atomic.Pointer[site.State] }

// State gives what is served.
func (s *SiteState) State() *site.State { return s.state.Load() }

// Set sets what is served.
func (s *SiteState) Set(state site.State) { s.state.Store(&state) }

// NewSites gives sites of which none is published.
func NewSites(tb testing.TB) *Sites {
	tb.Helper()
	s := &Sites{
		dir: tb.TempDir(), sites: map[string]*SiteState{}, files: map[node.Digest]*SiteFile{},
		previews: map[string]string{},
	}
	tb.Cleanup(func() { s.checkReleased(tb) })
	return s
}

// checkReleased reports files that are still open.
func (s *Sites) checkReleased(tb testing.TB) {
	tb.Helper()
	for _, f := range s.files {
		if n := f.Open.Load(); n != 0 {
			tb.Errorf("%s is open for %d responses", f.Path, n)
		}
		if f.file != nil {
			_ = f.file.Close()
		}
	}
}

// Named gives the site of that name.
func (s *Sites) Named(name string) *SiteState {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sites[name] == nil {
		s.sites[name] = &SiteState{}
		s.sites[name].Set(site.State{})
	}
	return s.sites[name]
}

// Site gives the site of that name.
func (s *Sites) Site(name string) site.Site { return s.Named(name) }

// Preview gives the host of the site's previews.
func (s *Sites) Preview(name string) string { return s.previews[name] }

// SetPreview sets the host of a site's previews, before the rig starts.
func (s *Sites) SetPreview(name, host string) { s.previews[name] = host }

// File gives the file with that content.
func (s *Sites) File(b node.Blob) site.File { return s.Content(b.Digest) }

// Content gives the file with a content that some deploy has.
func (s *Sites) Content(d node.Digest) *SiteFile {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[d]
}

// Folder has the contents of files by path; "/a.js br" is the brotli form of /a.js.
type Folder map[string]string

// Deploy makes a deploy of a folder, which change completes.
func (s *Sites) Deploy(tb testing.TB, folder Folder, o rules.Options, change ...func(*rules.Manifest)) *site.Deploy {
	tb.Helper()
	m := &rules.Manifest{Version: 1, Files: map[string]rules.File{}}
	for name, content := range folder {
		path, coding, coded := strings.Cut(name, " ")
		blob := s.add(tb, content)
		f := m.Files[path]
		if coded {
			if f.Codings == nil {
				f.Codings = map[rules.Coding]node.Blob{}
			}
			f.Codings[rules.Coding(coding)] = blob
		} else {
			f.Blob = blob
		}
		m.Files[path] = f
	}
	for _, f := range change {
		f(m)
	}
	data, err := rules.Encode(m)
	if err != nil {
		tb.Fatal(err)
	}
	id := node.DigestOf(data)
	ix, err := rules.NewIndex(id, m, o)
	if err != nil {
		tb.Fatal(err)
	}
	return &site.Deploy{ID: id, Index: ix}
}

// add writes a content to the disk.
func (s *Sites) add(tb testing.TB, content string) node.Blob {
	tb.Helper()
	b := node.Blob{Digest: node.DigestOf([]byte(content)), Size: int64(len(content))}
	for rest := content; b.Size > node.BlobChunk && rest != ""; {
		n := min(int64(len(rest)), node.BlobChunk)
		b.Chunks = append(b.Chunks, node.DigestOf([]byte(rest[:n])))
		rest = rest[n:]
	}
	path := filepath.Join(s.dir, b.Digest.String())
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.files[b.Digest] == nil {
		s.files[b.Digest] = &SiteFile{Path: path, size: b.Size}
	}
	return b
}

// Publish makes a deploy live; the one that was live becomes one of the others.
func (s *Sites) Publish(name string, d *site.Deploy) {
	at := s.Named(name)
	next := *at.State()
	if next.Live != nil {
		next.Others = append([]*site.Deploy{next.Live}, next.Others...)
	}
	next.Live = d
	at.Set(next)
}

// SiteFile is a file of a site.
type SiteFile struct {
	Path string
	Open atomic.Int64 // for how many responses
	Bads atomic.Int64 // calls of Bad
	Away atomic.Bool  // it isn't on the disk, and comes by Stream
	// Stops is where a Stream ends early, in bytes; 0 if it doesn't.
	Stops atomic.Int64
	Waits atomic.Bool // a Stream waits there until its context ends; else it fails
	// NoRoom keeps it out of the memory.
	NoRoom atomic.Bool

	size    int64
	content atomic.Pointer[[]byte]
	mu      sync.Mutex // guards file
	file    *os.File
}

// Bytes gives the content if it is in memory.
func (f *SiteFile) Bytes() []byte {
	if b := f.content.Load(); b != nil {
		return *b
	}
	return nil
}

// Load reads the content.
func (f *SiteFile) Load(context.Context) ([]byte, error) {
	b, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, err
	}
	if int64(len(b)) != f.size {
		return nil, errors.New("the file is short")
	}
	if !f.NoRoom.Load() {
		f.content.Store(&b)
	}
	return b, nil
}

// Here reports whether the file is on the disk.
func (f *SiteFile) Here() bool { return !f.Away.Load() }

// Acquire gives the open file.
func (f *SiteFile) Acquire() (*os.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.file == nil {
		var err error
		if f.file, err = os.Open(f.Path); err != nil {
			return nil, err
		}
	}
	f.Open.Add(1)
	return f.file, nil
}

// Release ends the use of the file.
func (f *SiteFile) Release() { f.Open.Add(-1) }

// Bad counts.
func (f *SiteFile) Bad(error) { f.Bads.Add(1) }

// Stream gives a part of the file.
func (f *SiteFile) Stream(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	b, err := os.ReadFile(f.Path)
	if err != nil {
		return nil, err
	}
	f.Open.Add(1)
	out := &siteStream{f: f, ctx: ctx, left: bytes.NewReader(b[offset : offset+length])}
	if stops := f.Stops.Load(); stops > 0 {
		out.left, out.cut = bytes.NewReader(b[offset:offset+stops]), true
	}
	return out, nil
}

// siteStream is a part of a file that comes.
type siteStream struct {
	f    *SiteFile
	ctx  context.Context //nolint:containedctx // a Read has none
	left *bytes.Reader
	cut  bool
	once sync.Once
}

func (s *siteStream) Read(p []byte) (int, error) {
	n, err := s.left.Read(p)
	if err != nil && s.cut {
		if !s.f.Waits.Load() {
			return n, errors.New("a chunk can't be fetched")
		}
		<-s.ctx.Done()
		return n, s.ctx.Err()
	}
	return n, err
}

func (s *siteStream) Close() error {
	s.once.Do(s.f.Release)
	return nil
}

// SiteRoute is a route to sites; the last target may be the service s.
func SiteRoute(path string, targets ...string) node.Route {
	r := Route("", path)
	r.To = node.Target{}
	for _, text := range targets {
		var t node.Target
		if err := t.UnmarshalText([]byte(text)); err != nil {
			panic(err)
		}
		r.Try = append(r.Try, t)
	}
	if len(targets) == 1 {
		r.To, r.Try = r.Try[0], nil
	}
	return r
}
