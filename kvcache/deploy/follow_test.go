package deploy_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/nodetest"
)

// loseBucket deletes the bucket.
func (n *testNode) loseBucket(t *testing.T) {
	t.Helper()
	js, err := jetstream.New(n.conn.NATS())
	if err == nil {
		err = js.DeleteStream(t.Context(), "KV_"+n.BucketName())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The bucket is lost. Nodes serve on, also after a restart; and what is published then is served when Publish returns,
// although its revision is smaller than what they know.
func TestAnotherBucket(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	for i := range 10 {
		c.nodes[0].publish(t, "www", folder{"/index.html": strconv.Itoa(i)})
	}
	old, _ := c.nodes[0].publish(t, "www", second)
	for _, n := range c.nodes {
		nodetest.Eventually(t, "it is noted", func() bool {
			data, _ := n.note.Load()
			return strings.Contains(string(data), old.String())
		})
		n.stop()
	}
	c.nodes[0].loseBucket(t)
	for i := range c.nodes {
		c.open(i, 1)
	}
	for _, f := range []folder{first, third, first} {
		id, done := c.nodes[1].publish(t, "www", f)
		if len(done.Behind) != 0 || c.nodes[0].live("www") != id || c.nodes[1].live("www") != id {
			t.Errorf("%s: got %+v", id, done)
		}
	}
	for _, n := range c.nodes {
		nodetest.Eventually(t, "what the bucket doesn't have is gone", func() bool {
			return len(n.Site("www").State().Others) == 1
		})
	}
}

// As before, but nothing is published: what was live stays.
func TestLostBucket(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	n.publish(t, "www", first)
	id, _ := n.publish(t, "www", second)
	n.stop()
	n.loseBucket(t)
	for range 2 {
		c.open(0, 1)
		nodetest.Eventually(t, "the new bucket is followed", func() bool {
			_, _, trouble := n.Status(t.Context())
			return trouble == nil && n.Heard(t.Context())
		})
		nodetest.Eventually(t, "it serves on", func() bool {
			return n.live("www") == id && len(n.Site("www").State().Others) == 1
		})
		n.stop()
	}
}

// A node that was away while deploys were deleted, and the marks of that too, doesn't have them any more.
func TestMissedDeletion(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	keep := map[string]node.Site{"www": {Keep: node.SiteKeep{Deploys: 1}}}
	c.nodes[0].publish(t, "www", first)
	id, _ := c.nodes[0].publish(t, "www", second)
	nodetest.Eventually(t, "both are noted", func() bool {
		data, _ := c.nodes[1].note.Load()
		return strings.Count(string(data), `"manifest"`) == 2 && strings.Contains(string(data), id.String())
	})
	c.nodes[1].stop()
	removed := 0
	for i := range 3 {
		c.now.Store(time.Now().Add(time.Duration(i) * 25 * time.Hour).UnixNano())
		n, err := c.nodes[0].Prune(t.Context(), keep)
		if err != nil {
			t.Fatal(err)
		}
		removed += n
	}
	if keys := c.nodes[0].keys(t); removed != 1 || len(keys) != 2 {
		t.Errorf("%d were removed, the bucket has %v", removed, keys)
	}
	c.open(1, 1)
	nodetest.Eventually(t, "it is forgotten", func() bool {
		return c.nodes[1].live("www") == id && len(c.nodes[1].Site("www").State().Others) == 0
	})
	// The bucket's last revision is one that no watch passes on. Publishing goes on.
	if id, done := c.nodes[1].publish(t, "www", third); len(done.Behind) != 0 || c.nodes[0].live("www") != id {
		t.Errorf("got %+v", done)
	}
}

// keys returns the subjects in the bucket.
func (n *testNode) keys(t *testing.T) (out []string) {
	t.Helper()
	js, err := jetstream.New(n.conn.NATS())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_"+n.BucketName())
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(t.Context(), jetstream.WithSubjectFilter(">"))
	if err != nil {
		t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		out = append(out, subject)
	}
	return out
}

// gate holds calls up.
type gate struct {
	mu   sync.Mutex
	open chan struct{} // nil if nothing is held up
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

func (g *gate) lift() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.open != nil {
		close(g.open)
		g.open = nil
	}
}

func (g *gate) pass(ctx context.Context) error {
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	if open == nil {
		return nil
	}
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// slowNote is a deploy.Notes whose disk may hang.
type slowNote struct {
	deploy.Notes

	gate *gate
}

func (n slowNote) Save(data []byte) error {
	if err := n.gate.pass(context.Background()); err != nil {
		return err
	}
	return n.Notes.Save(data)
}

// A node whose disk or whose journal hangs changes what is live nevertheless, and answers.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	var g gate
	n := c.reopen(0, func() {
		c.config = func(_ int, cfg *deploy.Config) {
			cfg.Notes = slowNote{cfg.Notes, &g}
			cfg.Event = func(deploy.Event) { _ = g.pass(context.Background()) }
		}
	})
	n.publish(t, "www", first)
	g.shut()
	defer g.lift()
	for _, f := range []folder{second, third, first} {
		if id, done := n.publish(t, "www", f); len(done.Behind) != 0 || n.live("www") != id {
			t.Fatalf("got %+v", done)
		}
	}
}

// slowBlobs holds up the bringing of large files.
type slowBlobs struct {
	deploy.Blobs

	gate *gate
}

func (s slowBlobs) Bring(ctx context.Context, blobs []node.Blob, progress func(int64)) error {
	for i := range blobs {
		if blobs[i].Size > 1<<20 {
			if err := s.gate.pass(ctx); err != nil {
				return err
			}
		}
	}
	return s.Blobs.Bring(ctx, blobs, progress)
}

// Large files that come slowly, be they what was left for later or deploys that aren't live yet, keep no other deploy
// from becoming ready, nor the node from closing.
func TestSlowFiles(t *testing.T) {
	t.Parallel()
	for _, mode := range []node.Fill{node.FillHTML, node.FillAll} {
		c := start(t, 2)
		var g gate
		n := c.reopen(1, func() {
			c.fill[1] = mode
			c.config = func(i int, cfg *deploy.Config) {
				if i == 1 {
					cfg.Blobs = slowBlobs{cfg.Blobs, &g}
				}
			}
		})
		c.nodes[0].publish(t, "www", first)
		nodetest.Eventually(t, "it is served", func() bool { return n.live("www") != (node.Digest{}) })
		g.shut()
		c.dead[1].Store(true) // nobody waits for it
		large := strings.Repeat("0123456789abcdef", 17<<16)
		for i := range 4 {
			name := fmt.Sprintf("large%d", i)
			c.nodes[0].publish(t, name, folder{"/a.bin": large, "/a.txt": name})
		}
		c.dead[1].Store(false)
		if id, done := c.nodes[0].publish(t, "www", second); len(done.Behind) != 0 || n.live("www") != id {
			t.Errorf("%s: got %+v", mode, done)
		}
		n.stop()
		g.lift()
	}
}

// After a reload the files that are here have other URLs.
func TestSetSites(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	n.publish(t, "www", folder{"/index.html": "one", "/about.html": "two"})
	find := func() string { return n.Site("www").State().Live.Index.Find("/about").Rule }
	if got := find(); got != "clean URL" {
		t.Fatalf("got %q", got)
	}
	if err := n.SetSites(t.Context(), map[string]node.Site{"www": {Slash: node.SlashKeep}}); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "it is so", func() bool { return find() == "" })
	if err := n.SetSites(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "it is as before", func() bool { return find() == "clean URL" })
}

// Of deploys that are only kept, no more files are in memory than may be, but the hashed ones; they can be live again.
func TestLight(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.reopen(0, func() { c.set = func(s *deploy.Store) { s.SetFullFiles(2) } })
	one, _ := n.publish(t, "www", first)
	n.publish(t, "www", second)
	n.publish(t, "www", third)
	light := func() (out []node.Digest) {
		for _, d := range n.Site("www").State().Others {
			if d.Light() {
				out = append(out, d.ID)
			}
		}
		return out
	}
	nodetest.Eventually(t, "the oldest is light", func() bool { got := light(); return len(got) == 1 && got[0] == one })
	d := n.Site("www").State().Others[1]
	if d.Index.Asset("/assets/app-1a2b3c4d.js") == nil || d.Index.Entry("/index.html") != nil {
		t.Error("it isn't the hashed files that are left")
	}
	if _, err := n.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	done, err := n.Rollback(t.Context(), "www", one, "", "")
	if err != nil || len(done.Behind) != 0 || n.live("www") != one {
		t.Fatalf("got %+v, %v", done, err)
	}
	if got := n.content(t, n.Site("www").State().Live, "/index.html"); got != "one" {
		t.Errorf("got %q", got)
	}
	nodetest.Eventually(t, "another one is light", func() bool {
		got := light()
		return len(got) == 1 && got[0] != one
	})
}

// The node with the smallest id follows no sites. Another one prunes, but only one within ten minutes.
func TestKeep(t *testing.T) {
	t.Parallel()
	c := start(t, 3)
	keep := map[string]node.Site{"www": {Keep: node.SiteKeep{Deploys: 1}}}
	c.nodes[0].stop()
	c.dead[0].Store(true)
	c.nodes[1].publish(t, "www", first)
	c.nodes[1].publish(t, "www", second)
	c.dead[0].Store(false)
	marked := func(n *testNode) (out time.Time) {
		n.KeepOnce(t.Context(), keep)
		sum, err := n.Show(t.Context(), "www")
		if err != nil || len(sum.Deploys) != 2 {
			t.Fatalf("got %+v, %v", sum, err)
		}
		return sum.Deploys[1].Leaves
	}
	at := marked(c.nodes[1])
	if at.IsZero() || !marked(c.nodes[2]).Equal(at) {
		t.Error("nobody prunes, or two do")
	}
	c.now.Store(time.Now().Add(11 * time.Minute).UnixNano())
	c.nodes[2].KeepOnce(t.Context(), keep)
	if sum, err := c.nodes[2].Show(t.Context(), "www"); err != nil || len(sum.Deploys) != 1 {
		t.Errorf("got %+v, %v", sum, err)
	}
}

// A node closes at once, also while the bucket is away.
func TestCloseAlone(t *testing.T) {
	t.Parallel()
	server := natsservertest.Start(t)
	c := start(t, 1, server)
	c.nodes[0].publish(t, "www", first)
	if err := server.Close(); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	c.nodes[0].stop()
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
}

// The bucket was restored from a backup: what it says counts, although the node has heard of later revisions.
func TestOlderBucket(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	one, _ := n.publish(t, "www", first)
	n.publish(t, "www", second)
	var data []byte
	nodetest.Eventually(t, "it is noted", func() bool {
		data, _ = n.note.Load()
		return strings.Contains(string(data), n.live("www").String())
	})
	n.stop()
	// The bucket as it was in the note is five changes ahead of the one that there is: its revisions are 1 to 4.
	later := strings.NewReplacer(`"revision":4`, `"revision":9`, `"revision":3`, `"revision":8`).Replace(string(data))
	if err := n.note.Save([]byte(later)); err != nil {
		t.Fatal(err)
	}
	c.open(0, 1)
	nodetest.Eventually(t, "the bucket is followed", func() bool { return n.Heard(t.Context()) })
	for range 3 {
		if done, err := n.Rollback(t.Context(), "www", node.Digest{}, "", ""); err != nil || len(done.Behind) != 0 {
			t.Errorf("got %+v, %v", done, err)
		}
	}
	if n.live("www") != one {
		t.Error("another deploy is live")
	}
}
