package deploy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/nodetest"
)

var (
	first  = folder{"/index.html": "one", "/assets/app-1a2b3c4d.js": "js one", "/same.txt": "same"}
	second = folder{"/index.html": "two", "/assets/app-5e6f7a8b.js": "js two", "/same.txt": "same"}
	third  = folder{"/index.html": "three", "/large.bin": strings.Repeat("0123456789abcdef", 100_000)}
)

// What was published is served on every node when Publish returns, and only what has changed is sent.
func TestPublish(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*cluster{
		"one server": start(t, 3), "three servers": start(t, 3, natsservertest.StartThree(t)...),
	} {
		id, done := c.nodes[0].publish(t, "www", first)
		if done.Was != (node.Digest{}) || len(done.Behind) != 0 {
			t.Errorf("%s: got %+v", name, done)
		}
		for _, n := range c.nodes {
			if n.live("www") != id {
				t.Fatalf("%s: it isn't live everywhere", name)
			}
			if got := n.content(t, n.Site("www").State().Live, "/index.html"); got != "one" {
				t.Errorf("%s: got %q", name, got)
			}
		}
		begun := c.nodes[1].upload(t, "www", second)
		if len(begun.Missing) != 2 || begun.Live != id {
			t.Errorf("%s: %d blobs are missing, live is %s", name, len(begun.Missing), begun.Live)
		}
		if _, err := c.nodes[1].Publish(t.Context(), "www", deploy.Publication{ID: begun.ID}, nil); err != nil {
			t.Fatal(err)
		}
		again, done := c.nodes[2].publish(t, "www", second)
		if again != begun.ID || done.Was != begun.ID {
			t.Errorf("%s: the same folder is another deploy: %+v", name, done)
		}
	}
}

// Hashed files of deploys that are not live any more, or not yet, are found; their pages aren't.
func TestOthers(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	n.publish(t, "www", first)
	n.publish(t, "www", second)
	state := n.Site("www").State()
	if len(state.Others) != 1 {
		t.Fatalf("%d others", len(state.Others))
	}
	if e := state.Others[0].Index.Asset("/assets/app-1a2b3c4d.js"); e == nil {
		t.Error("the hashed file of the deploy before is gone")
	}
	if e := state.Others[0].Index.Asset("/index.html"); e != nil {
		t.Error("a page of the deploy before is served")
	}
}

// Of two that publish at once one gets LostRaceError, with both ids, and what it lost to is live.
func TestLostRace(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	c.nodes[0].publish(t, "www", third)
	a, b := c.nodes[0].upload(t, "www", first), c.nodes[1].upload(t, "www", second)
	var errs [2]error
	var running sync.WaitGroup
	for i, begun := range []*deploy.Begun{a, b} {
		running.Go(func() {
			_, errs[i] = c.nodes[i].Publish(t.Context(), "www",
				deploy.Publication{ID: begun.ID, IfLive: &begun.Live}, nil)
		})
	}
	running.Wait()
	lost, winner := errs[0], b.ID
	if lost == nil {
		lost, winner = errs[1], a.ID
	}
	race, ok := errors.AsType[*deploy.LostRaceError](lost)
	if !ok || race.Live != winner || race.Wanted != a.Live || (errs[0] == nil) == (errs[1] == nil) {
		t.Errorf("got %v", errs)
	}
	for _, n := range c.nodes {
		nodetest.Eventually(t, "the winner is live", func() bool { return n.live("www") == winner })
	}
}

// Rollback goes to what was live before, or to a deploy that is named, and back and forth.
func TestRollback(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	if _, err := c.nodes[0].Rollback(t.Context(), "www", node.Digest{}, "", ""); !errors.Is(err,
		deploy.ErrUnknownSite) {
		t.Errorf("nothing was published: %v", err)
	}
	one, _ := c.nodes[0].publish(t, "www", first)
	if _, err := c.nodes[0].Rollback(t.Context(), "www", node.Digest{}, "", ""); !errors.Is(err,
		deploy.ErrUnknownDeploy) {
		t.Errorf("nothing was live before: %v", err)
	}
	two, _ := c.nodes[0].publish(t, "www", second)
	three, _ := c.nodes[0].publish(t, "www", third)
	for _, step := range []struct{ to, want node.Digest }{{node.Digest{}, two}, {one, one}, {three, three}, {
		two,
		two,
	}} {
		done, err := c.nodes[1].Rollback(t.Context(), "www", step.to, "tester", "why not")
		if err != nil || done.Live != step.want || len(done.Behind) != 0 {
			t.Fatalf("got %+v, %v", done, err)
		}
		if c.nodes[0].live("www") != step.want || c.nodes[1].live("www") != step.want {
			t.Error("it isn't live everywhere when Rollback returns")
		}
	}
	sum, err := c.nodes[0].Show(t.Context(), "www")
	if err != nil || len(sum.Changes) != 7 || sum.Changes[0].Why != deploy.WhyRollback || sum.By != "tester" ||
		len(sum.Deploys) != 3 || len(sum.Nodes) != 2 {
		t.Errorf("got %+v, %v", sum, err)
	}
	if _, err := c.nodes[0].Rollback(t.Context(), "www", node.DigestOf(nil), "", ""); !errors.Is(err,
		deploy.ErrUnknownDeploy) {
		t.Errorf("such a deploy was never published: %v", err)
	}
}

// A preview doesn't change what is live, expires, and becomes live without another upload.
func TestPreview(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	live, _ := c.nodes[0].publish(t, "www", first)
	begun := c.nodes[0].upload(t, "www", second)
	until := c.clock().Add(time.Hour)
	if _, err := c.nodes[0].Publish(t.Context(), "www",
		deploy.Publication{ID: begun.ID, Preview: "pr-7", Until: until}, nil); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		nodetest.Eventually(t, "the preview is served", func() bool {
			p := n.Site("www").State().Previews["pr-7"]
			return p != nil && p.ID == begun.ID
		})
		if n.live("www") != live {
			t.Error("the preview is live")
		}
	}
	if done, err := c.nodes[1].Promote(t.Context(), "www", "pr-7", "", ""); err != nil || done.Live != begun.ID {
		t.Errorf("got %+v, %v", done, err)
	}
	c.now.Store(until.Add(time.Second).UnixNano())
	for _, n := range c.nodes {
		nodetest.Eventually(t, "it has expired", func() bool { return len(n.Site("www").State().Previews) == 0 })
	}
}

// A node that starts without a server serves what it served before; nothing is asked for.
func TestRestartAlone(t *testing.T) {
	t.Parallel()
	server := natsservertest.Start(t)
	c := start(t, 1, server)
	n := c.nodes[0]
	n.publish(t, "www", first)
	id, _ := n.publish(t, "www", second)
	nodetest.Eventually(t, "it is noted", func() bool {
		data, err := n.note.Load()
		return err == nil && strings.Contains(string(data), id.String())
	})
	n.stop()
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	c.open(0, 1)
	if n.live("www") != id || len(n.Site("www").State().Others) != 1 {
		t.Fatal("what was live is gone")
	}
	if got := n.content(t, n.Site("www").State().Live, "/index.html"); got != "two" {
		t.Errorf("got %q", got)
	}
}

// A node whose files are gone brings them again.
func TestLostFiles(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	id, _ := c.nodes[0].publish(t, "www", third)
	c.nodes[1].stop()
	entries, err := os.ReadDir(c.nodes[1].dir)
	if err != nil || len(entries) == 0 {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(c.nodes[1].dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	c.open(1, 1)
	nodetest.Eventually(t, "it serves again", func() bool { return c.nodes[1].live("www") == id })
	nodetest.Eventually(t, "it has the files again", func() bool {
		return c.nodes[1].blobs.Has(c.nodes[1].Site("www").State().Live.Index.Entry("/large.bin").Blob)
	})
	if got := c.nodes[1].content(t, c.nodes[1].Site("www").State().Live, "/large.bin"); got != third["/large.bin"] {
		t.Error("wrong bytes")
	}
}

// A change names the nodes that don't have it, and fails if all must.
func TestNodeBehind(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	c.nodes[0].publish(t, "www", first)
	c.nodes[1].stop()
	c.dead[1].Store(true)
	id, done := c.nodes[0].publish(t, "www", second)
	if len(done.Behind) != 1 || done.Behind[0] != "n2" {
		t.Errorf("behind: %v", done.Behind)
	}
	begun := c.nodes[0].upload(t, "www", third)
	_, err := c.nodes[0].Publish(t.Context(), "www", deploy.Publication{ID: begun.ID, All: true}, nil)
	if !errors.Is(err, deploy.ErrNotReady) || !strings.Contains(err.Error(), "n2") || c.nodes[0].live("www") != id {
		t.Errorf("got %v", err)
	}
	c.open(1, 1)
	nodetest.Eventually(t, "the node has caught up", func() bool { return c.nodes[1].live("www") == id })
}

// A deploy whose files weren't all sent never becomes live.
func TestMissingFiles(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	manifest, blobs := first.manifest(t)
	begun, err := c.nodes[0].Begin(t.Context(), "www", manifest)
	if err != nil || len(begun.Missing) != 3 {
		t.Fatalf("got %+v, %v", begun, err)
	}
	d := begun.Missing[0]
	if err := c.nodes[0].Receive(t.Context(), "www", d, int64(len(blobs[d])), strings.NewReader(blobs[d])); err != nil {
		t.Fatal(err)
	}
	_, err = c.nodes[0].Publish(t.Context(), "www", deploy.Publication{ID: begun.ID}, nil)
	if missing, ok := errors.AsType[*deploy.MissingError](err); !ok || len(missing.Missing) != 2 {
		t.Errorf("got %v", err)
	}
	stranger := "nobody named this"
	err = c.nodes[0].Receive(t.Context(), "www", node.DigestOf([]byte(stranger)), int64(len(stranger)),
		strings.NewReader(stranger))
	if !errors.Is(err, deploy.ErrUnknownBlob) {
		t.Errorf("got %v", err)
	}
	if _, err := c.nodes[0].Begin(t.Context(), "www", []byte(`{"version": 99}`)); !errors.Is(err, deploy.ErrManifest) {
		t.Errorf("got %v", err)
	}
}

// Deleting a site takes it from every node; publishing again brings it back.
func TestDelete(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	c.nodes[0].publish(t, "www", first)
	if _, err := c.nodes[1].Delete(t.Context(), "www", ""); err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		nodetest.Eventually(t, "it is gone", func() bool {
			state := n.Site("www").State()
			return state.Live == nil && len(state.Others) == 0
		})
	}
	if _, err := c.nodes[0].Delete(t.Context(), "www", ""); !errors.Is(err, deploy.ErrUnknownSite) {
		t.Errorf("got %v", err)
	}
	id, _ := c.nodes[0].publish(t, "www", first)
	if c.nodes[1].live("www") != id {
		t.Error("it doesn't come back")
	}
}

// Old deploys go when neither their number nor their age since they were live keeps them, and their files with them;
// what is live never does.
func TestPruneAndCollect(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	keep := map[string]node.Site{"www": {Keep: node.SiteKeep{Deploys: 1, Assets: node.Duration(time.Hour)}}}
	one, _ := n.publish(t, "www", first)
	n.publish(t, "www", third)
	if removed, err := n.Prune(t.Context(), keep); removed != 0 || err != nil {
		t.Errorf("%d young ones were removed, %v", removed, err)
	}
	if _, err := n.Rollback(t.Context(), "www", one, "", ""); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	for _, step := range []struct {
		at              time.Duration
		removed, others int
	}{
		{2 * time.Hour, 0, 2},                // third is to go
		{2*time.Hour + 11*time.Minute, 1, 1}, // it goes; first was live until 11 minutes ago
		{3*time.Hour + time.Minute, 0, 1},    // first is to go
		{3*time.Hour + 5*time.Minute, 0, 1},
		{3*time.Hour + 12*time.Minute, 1, 0},
	} {
		c.now.Store(begun.Add(step.at).UnixNano())
		if step.removed == 0 && step.others == 2 {
			n.publish(t, "www", second)
		}
		if removed, err := n.Prune(t.Context(), keep); removed != step.removed || err != nil {
			t.Errorf("after %s %d were removed, %v", step.at, removed, err)
		}
		nodetest.Eventually(t, "the others are gone", func() bool {
			return len(n.Site("www").State().Others) == step.others
		})
	}
	bytes, err := n.Sweep(t.Context())
	if err != nil || bytes < int64(len(third["/large.bin"])) {
		t.Errorf("%d bytes were freed, %v", bytes, err)
	}
	if got := n.content(t, n.Site("www").State().Live, "/same.txt"); got != "same" {
		t.Errorf("got %q", got)
	}
}

// A node that fills on demand serves a deploy before it has any file; one that fills html has the small files first and
// the large ones soon.
func TestFill(t *testing.T) {
	t.Parallel()
	c := start(t, 3)
	for i, mode := range []node.Fill{node.FillDemand, node.FillHTML} {
		c.nodes[i+1].stop()
		c.fill[i+1] = mode
		c.open(i+1, 1)
	}
	id, done := c.nodes[0].publish(t, "www", third)
	if len(done.Behind) != 0 {
		t.Errorf("behind: %v", done.Behind)
	}
	small, large := node.DigestOf([]byte("three")), node.DigestOf([]byte(third["/large.bin"]))
	blobs := map[node.Digest]node.Blob{}
	for _, b := range c.nodes[0].Site("www").State().Live.Index.Blobs() {
		blobs[b.Digest] = b
	}
	if n := c.nodes[1]; n.live("www") != id || n.blobs.Has(blobs[small]) || n.blobs.Has(blobs[large]) {
		t.Error("on demand: it has files that nobody asked for, or isn't live")
	}
	if n := c.nodes[2]; n.live("www") != id || !n.blobs.Has(blobs[small]) {
		t.Error("html: it is live without its pages")
	}
	nodetest.Eventually(t, "the large file follows", func() bool { return c.nodes[2].blobs.Has(blobs[large]) })
}
