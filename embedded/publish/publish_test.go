package publish_test

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/embedded/publish"
	"millrace/node"
	"millrace/node/site"
)

// sample is a small site with text, something that doesn't compress, and a file of three chunks.
func sample(t *testing.T) string {
	t.Helper()
	return write(t, map[string]string{
		"index.html": "<h1>Hello</h1>", "assets/app.js": prose(1, 200_000), "assets/b c.css": prose(2, 5_000),
		"video.mp4": noise(3, 1_300_000), "noise.txt": noise(4, 10_000),
		".well-known/security.txt": "Contact: mailto:a@b.test",
	})
}

func publishTo(t *testing.T, m *mesh, dir string, r publish.Request) (*publish.Result, error) {
	t.Helper()
	r.Site = "www"
	return m.client(t).Publish(t.Context(), scan(t, dir, publish.ScanOptions{}), r)
}

func mustPublish(t *testing.T, m *mesh, dir string, r publish.Request) *publish.Result {
	t.Helper()
	result, err := publishTo(t, m, dir, r)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func TestPublish(t *testing.T) {
	m := newMesh(t)
	dir := sample(t)
	var nodes []string
	first := mustPublish(t, m, dir, publish.Request{Progress: func(p publish.Progress) {
		if p.Node != nil {
			nodes = append(nodes, p.Node.Node+" "+string(p.Node.State))
		}
	}})
	if m.liveID() != first.ID || first.Live != first.ID || first.Was != (node.Digest{}) || first.Files != 6 ||
		first.Already {
		t.Errorf("first publish: %+v", first)
	}
	if got := strings.Join(nodes, ", "); got != "n1 ready, n2 bringing, n2 ready" {
		t.Errorf("nodes heard: %s", got)
	}
	if len(first.Nodes) != 2 || first.Nodes[1].State != "ready" {
		t.Errorf("nodes: %+v", first.Nodes)
	}
	manifest, err := site.Decode(m.blobs[first.ID])
	if err != nil {
		t.Fatal(err)
	}
	if missing := m.missing(manifest); len(missing) > 0 {
		t.Errorf("%d blobs are missing after the publish", len(missing))
	}
	if n := len(manifest.Files["/assets/app.js"].Codings); n != 3 {
		t.Errorf("app.js has %d codings, want 3", n)
	}
	for _, path := range []string{"/noise.txt", "/video.mp4", "/index.html"} {
		if n := len(manifest.Files[path].Codings); n != 0 {
			t.Errorf("%s has %d codings, want none", path, n)
		}
	}

	taken := m.stored()
	again := mustPublish(t, m, dir, publish.Request{})
	if !again.Already || again.ID != first.ID || m.stored() != taken || again.Sent != 0 {
		t.Errorf("the same folder again: %+v, %d blobs sent", again, m.stored()-taken)
	}

	put(t, dir, "index.html", "<h1>Hello again</h1>")
	second := mustPublish(t, m, dir, publish.Request{})
	if second.Was != first.ID || second.Blobs != 1 || m.stored() != taken+1 {
		t.Errorf("one file changed: %+v", second)
	}
}

// The codings of files that the live deploy has are taken over: nothing is compressed again.
func TestCodingsAreTakenOver(t *testing.T) {
	m := newMesh(t)
	dir := sample(t)
	var work int64
	count := func(p publish.Progress) {
		if p.Phase == publish.Encoding {
			work = p.All
		}
	}
	mustPublish(t, m, dir, publish.Request{Progress: count})
	if work == 0 {
		t.Fatal("the first publish made no codings: the test sees nothing")
	}
	work = 0
	put(t, dir, "index.html", "changed")
	mustPublish(t, m, dir, publish.Request{Progress: count})
	if work != 0 {
		t.Errorf("%d bytes were compressed again", work)
	}
	put(t, dir, "assets/new.js", prose(9, 3_000))
	mustPublish(t, m, dir, publish.Request{Progress: count})
	if work != 3*3_000 {
		t.Errorf("%d bytes were compressed for a new file of 3,000", work)
	}
}

// A coding that was taken over, but that the mesh has lost, is made again.
func TestLostCodingIsMadeAgain(t *testing.T) {
	m := newMesh(t)
	dir := sample(t)
	first := mustPublish(t, m, dir, publish.Request{})
	manifest, err := site.Decode(m.blobs[first.ID])
	if err != nil {
		t.Fatal(err)
	}
	lost := manifest.Files["/assets/app.js"].Codings[site.Brotli].Digest
	delete(m.blobs, lost)
	put(t, dir, "index.html", "changed")
	mustPublish(t, m, dir, publish.Request{})
	if m.blobs[lost] == nil {
		t.Error("the lost coding wasn't sent again")
	}
}

// Whatever breaks on the way, each blob is stored, and none is sent again that was stored.
func TestPublishGoesOn(t *testing.T) {
	m := newMesh(t)
	files := map[string]string{"index.html": "x"}
	for i := range 40 {
		files[fmt.Sprintf("f%d.bin", i)] = noise(uint64(i), 300_000)
	}
	var n atomic.Int64
	m.fail = func(r *http.Request) (int, bool) {
		switch n.Add(1) % 4 {
		case 1:
			return 0, strings.HasSuffix(r.URL.Path, "/blobs")
		case 2:
			if !strings.HasSuffix(r.URL.Path, "/www") {
				return http.StatusServiceUnavailable, false
			}
		}
		return 0, false
	}
	retried := false
	result := mustPublish(t, m, write(t, files), publish.Request{Progress: func(p publish.Progress) {
		retried = retried || p.Phase == publish.Retrying
	}})
	if m.stored() < 41 || m.liveID() != result.ID || !retried {
		t.Errorf("%d blobs stored, retried: %v, %+v", m.stored(), retried, result)
	}
}

// The answer to the flip gets lost: the client looks what became of it.
func TestLostAnswer(t *testing.T) {
	m := newMesh(t)
	m.cutLive = true
	result := mustPublish(t, m, sample(t), publish.Request{})
	if m.liveID() != result.ID || len(m.live) != 1 || result.Live != result.ID {
		t.Errorf("live %v, %+v", m.live, result)
	}
}

func TestGivesUp(t *testing.T) {
	m := newMesh(t)
	m.fail = func(r *http.Request) (int, bool) { return 0, strings.HasSuffix(r.URL.Path, "/blobs") }
	_, err := publishTo(t, m, sample(t), publish.Request{})
	if !errors.Is(err, publish.ErrUnreachable) || len(m.live) > 0 {
		t.Errorf("%v, want ErrUnreachable", err)
	}
}

func TestRace(t *testing.T) {
	m := newMesh(t)
	dir := sample(t)
	other := node.DigestOf([]byte("other"))
	first := mustPublish(t, m, dir, publish.Request{})
	m.fail = func(r *http.Request) (int, bool) { // another publisher is quicker
		if strings.HasSuffix(r.URL.Path, "/live") {
			m.mu.Lock()
			m.live = append(m.live, other)
			m.mu.Unlock()
		}
		return 0, false
	}
	put(t, dir, "index.html", "mine")
	_, err := publishTo(t, m, dir, publish.Request{})
	race, ok := errors.AsType[*publish.RaceError](err)
	if !ok || !errors.Is(err, publish.ErrLostRace) || race.Wanted != first.ID || race.Live != other {
		t.Errorf("%v, want a RaceError with both ids", err)
	}
}

// --if-live is looked at before anything is sent.
func TestIfLive(t *testing.T) {
	m := newMesh(t)
	dir := sample(t)
	first := mustPublish(t, m, dir, publish.Request{IfLive: new(node.Digest)})
	put(t, dir, "index.html", "second")
	taken := m.stored()
	for _, id := range []node.Digest{{}, node.DigestOf(nil)} {
		if _, err := publishTo(t, m, dir, publish.Request{IfLive: &id}); !errors.Is(err, publish.ErrLostRace) {
			t.Errorf("if live %s: %v, want ErrLostRace", id, err)
		}
	}
	if m.stored() != taken {
		t.Error("blobs were sent for a publish that can't succeed")
	}
	mustPublish(t, m, dir, publish.Request{IfLive: &first.ID})
}

func TestDryRun(t *testing.T) {
	m := newMesh(t)
	result := mustPublish(t, m, sample(t), publish.Request{DryRun: true})
	if m.posts != 0 || len(m.live) != 0 || !result.DryRun || result.ID == (node.Digest{}) {
		t.Errorf("dry run: %d posts, %+v", m.posts, result)
	}
}

func TestPreview(t *testing.T) {
	m := newMesh(t)
	dir := sample(t)
	first := mustPublish(t, m, dir, publish.Request{})
	put(t, dir, "index.html", "preview")
	result := mustPublish(t, m, dir, publish.Request{Preview: "feature"})
	if m.liveID() != first.ID || m.preview["feature"] != result.ID || result.ID == first.ID {
		t.Errorf("live %v, previews %v, %+v", m.live, m.preview, result)
	}
}

func TestDenied(t *testing.T) {
	m := newMesh(t)
	c, err := publish.NewClient(publish.Config{URL: m.URL, Token: "another", Wait: noWait})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Publish(t.Context(), scan(t, sample(t), publish.ScanOptions{}), publish.Request{Site: "www"})
	if !errors.Is(err, publish.ErrDenied) || !strings.Contains(err.Error(), "the token is wrong") {
		t.Errorf("%v, want ErrDenied with the node's words", err)
	}
}

func TestUnreachable(t *testing.T) {
	m := newMesh(t)
	c := m.client(t)
	m.Close()
	_, err := c.Publish(t.Context(), scan(t, sample(t), publish.ScanOptions{}), publish.Request{Site: "www"})
	if !errors.Is(err, publish.ErrUnreachable) {
		t.Errorf("%v, want ErrUnreachable", err)
	}
}

// A file that changes between reading and sending stops the publish, and wrong bytes never get a digest's name.
func TestChangedBeforeSending(t *testing.T) {
	m := newMesh(t)
	dir := sample(t)
	f := scan(t, dir, publish.ScanOptions{})
	put(t, dir, "video.mp4", noise(77, 1_300_000))
	_, err := m.client(t).Publish(t.Context(), f, publish.Request{Site: "www"})
	if !errors.Is(err, publish.ErrChanged) || !strings.Contains(err.Error(), "video.mp4") || len(m.live) > 0 {
		t.Errorf("%v, want ErrChanged", err)
	}
}

// With --wait all a node that doesn't get ready fails the publish.
func TestNotReady(t *testing.T) {
	m := newMesh(t)
	m.notReady = true
	if _, err := publishTo(t, m, sample(t), publish.Request{WaitAll: true}); !errors.Is(err, publish.ErrNotReady) {
		t.Errorf("%v, want ErrNotReady", err)
	}
	mustPublish(t, m, sample(t), publish.Request{})
}

// Blobs that go between sending and the flip are sent again.
func TestBlobGoesBeforeTheFlip(t *testing.T) {
	m := newMesh(t)
	var once sync.Once
	m.fail = func(r *http.Request) (int, bool) {
		if strings.HasSuffix(r.URL.Path, "/live") {
			once.Do(func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				delete(m.blobs, node.DigestOf([]byte("<h1>Hello</h1>")))
			})
		}
		return 0, false
	}
	if result := mustPublish(t, m, sample(t), publish.Request{}); m.liveID() != result.ID {
		t.Errorf("%+v", result)
	}
}

func TestRollback(t *testing.T) {
	m := newMesh(t)
	c := m.client(t)
	dir := sample(t)
	first := mustPublish(t, m, dir, publish.Request{})
	put(t, dir, "index.html", "second")
	second := mustPublish(t, m, dir, publish.Request{})
	done, err := c.Rollback(t.Context(), "www", node.Digest{}, "me", "oh")
	if err != nil || done.Live != first.ID || done.Was != second.ID {
		t.Errorf("back: %+v, %v", done, err)
	}
	id, err := c.Resolve(t.Context(), "www", second.ID.String()[:8])
	if err != nil || id != second.ID {
		t.Errorf("%s begins with %s: %s, %v", second.ID, second.ID.String()[:8], id, err)
	}
	if done, err = c.Rollback(t.Context(), "www", id, "", ""); err != nil || done.Live != second.ID {
		t.Errorf("to an id: %+v, %v", done, err)
	}
	for _, digits := range []string{"", "12345", "zzzzzzzz"} {
		if _, err := c.Resolve(t.Context(), "www", digits); !errors.Is(err, publish.ErrNotFound) {
			t.Errorf("resolve %q: %v, want ErrNotFound", digits, err)
		}
	}
}

// Nothing temporary stays behind.
func TestTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	m := newMesh(t)
	f, err := publish.Scan(t.Context(), sample(t), publish.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.client(t).Publish(t.Context(), f, publish.Request{Site: "www"}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(dir + "/millrace-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
