package deploy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"millrace/kvcache/blob"
	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/nodetest"
	"millrace/node/site"
)

// hasRecord fails the test unless the deploy that is live has its record, and with it its files.
func (n *testNode) hasRecord(t *testing.T, name string) {
	t.Helper()
	list, err := n.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sum := range list {
		if sum.Site != name || sum.Live == (node.Digest{}) {
			continue
		}
		if _, err := n.Manifest(t.Context(), name, sum.Live); err != nil {
			t.Errorf("%s is live: %v", sum.Live, err)
		}
	}
}

// A site that is deleted while somebody publishes to it: either order, but what is live has its record.
func TestDeleteBesidePublish(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	c.nodes[0].publish(t, "www", first)
	begun := c.nodes[0].upload(t, "www", second)
	ready := 0
	_, err := c.nodes[0].Publish(t.Context(), "www", deploy.Publication{ID: begun.ID}, func(a *deploy.Answer) {
		if a.State == deploy.NodeReady {
			ready++
		}
		if ready == 2 { // it is about to be live
			ready++
			if _, err := c.nodes[1].Delete(t.Context(), "www", ""); err != nil {
				t.Error(err)
			}
		}
	})
	if !errors.Is(err, deploy.ErrUnknownDeploy) {
		t.Errorf("got %v", err)
	}
	c.nodes[0].hasRecord(t, "www")
	id, _ := c.nodes[0].publish(t, "www", second) // its key has gone, and comes back
	c.nodes[0].hasRecord(t, "www")
	for _, n := range c.nodes {
		nodetest.Eventually(t, "only that is there", func() bool {
			return n.live("www") == id && len(n.Site("www").State().Others) == 0
		})
	}
}

// A deploy that needn't be kept is published again, while it is found that it needn't be kept.
func TestPruneBesidePublish(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	keep := map[string]node.Site{"www": {Keep: node.SiteKeep{Deploys: 1}}}
	one, _ := n.publish(t, "www", first)
	n.publish(t, "www", second)
	prune := func(want int) {
		t.Helper()
		if removed, err := n.Prune(t.Context(), keep); err != nil || removed != want {
			t.Errorf("%d were removed, %v", removed, err)
		}
	}
	pruned := false
	_, err := n.Publish(t.Context(), "www", deploy.Publication{ID: one}, func(*deploy.Answer) {
		if !pruned {
			pruned = true
			prune(0)
		}
	})
	if err != nil {
		t.Error(err)
	}
	n.hasRecord(t, "www")
	c.now.Store(time.Now().Add(11 * time.Minute).UnixNano())
	prune(0) // the other one, when its time comes; this one is live
	n.hasRecord(t, "www")
	prune(0)
	if _, err := n.Rollback(t.Context(), "www", node.Digest{}, "", ""); err != nil { // to one that was about to go
		t.Error(err)
	}
	c.now.Store(time.Now().Add(22 * time.Minute).UnixNano())
	prune(0)
	n.hasRecord(t, "www")
}

// What another version wrote of a site may need any deploy of it: none is deleted.
func TestPruneLaterVersion(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	keep := map[string]node.Site{"www": {Keep: node.SiteKeep{Deploys: 1}}, "old": {Keep: node.SiteKeep{Deploys: 1}}}
	for _, name := range []string{"www", "old"} {
		n.publish(t, name, first)
		n.publish(t, name, second)
	}
	n.put(t, "www.live", `{"v": 2, "live": {"id": "unknown"}}`)
	for _, after := range []time.Duration{0, time.Hour} {
		c.now.Store(time.Now().Add(after).UnixNano())
		if _, err := n.Prune(t.Context(), keep); err != nil {
			t.Fatal(err)
		}
	}
	list, err := n.List(t.Context())
	if err != nil || len(list) != 2 || len(list[0].Deploys) != 1 || len(list[1].Deploys) != 2 {
		t.Errorf("got %+v, %v", list, err)
	}
	if n.live("www") == (node.Digest{}) {
		t.Error("it isn't served any more")
	}
	if _, err := n.Rollback(t.Context(), "www", node.Digest{}, "", ""); err == nil {
		t.Error("the record of a later version was replaced")
	}
}

// put writes a record as it is.
func (n *testNode) put(t *testing.T, key, value string) {
	t.Helper()
	js, err := jetstream.New(n.conn.NATS())
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), n.BucketName())
	if err == nil {
		_, err = kv.Put(t.Context(), key, []byte(value))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A deploy that no node can serve isn't made live: here its manifest lies about the size of a file that is there.
func TestNobodyReady(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.reopen(0, func() { c.set = func(s *deploy.Store) { s.SetReady(time.Second) } })
	live, _ := n.publish(t, "www", first)
	lie := node.Blob{Digest: node.DigestOf([]byte("one")), Size: 4}
	data, err := site.Encode(&site.Manifest{
		Version: site.Version, Files: map[string]site.File{"/index.html": {Blob: lie}},
	})
	if err != nil {
		t.Fatal(err)
	}
	begun, err := n.Begin(t.Context(), "www", data)
	if err != nil || len(begun.Missing) != 0 {
		t.Fatalf("got %+v, %v", begun, err)
	}
	_, err = n.Publish(t.Context(), "www", deploy.Publication{ID: begun.ID}, nil)
	if !errors.Is(err, deploy.ErrNotReady) || n.live("www") != live {
		t.Errorf("got %v", err)
	}
}

// A manifest of another site that lies about a blob doesn't keep anybody from sending it.
func TestReceiveBesideLie(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	for i := range 10 {
		lie := node.Blob{Digest: node.DigestOf([]byte("one")), Size: int64(10 + i)}
		data, err := site.Encode(&site.Manifest{
			Version: site.Version, Files: map[string]site.File{"/index.html": {Blob: lie}},
		})
		if err == nil {
			_, err = n.Begin(t.Context(), "evil", data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	n.publish(t, "www", first)
	stranger := first["/index.html"]
	err := n.Receive(t.Context(), "other", node.DigestOf([]byte(stranger)), int64(len(stranger)),
		strings.NewReader(stranger))
	if !errors.Is(err, deploy.ErrUnknownBlob) {
		t.Errorf("a blob of another site was taken: %v", err)
	}
}

// Whoever publishes what is live already succeeds, whatever was live when it began: it may be a second attempt.
func TestSameAgain(t *testing.T) {
	t.Parallel()
	c := start(t, 2)
	a, b := c.nodes[0].upload(t, "www", first), c.nodes[1].upload(t, "www", first)
	for i, begun := range []*deploy.Begun{a, b} {
		done, err := c.nodes[i].Publish(t.Context(), "www",
			deploy.Publication{ID: begun.ID, IfLive: &node.Digest{}}, nil)
		if err != nil || done.Live != a.ID {
			t.Errorf("got %+v, %v", done, err)
		}
	}
	other := c.nodes[0].upload(t, "www", second)
	_, err := c.nodes[0].Publish(t.Context(), "www", deploy.Publication{ID: other.ID, IfLive: &node.Digest{}}, nil)
	race, ok := errors.AsType[*deploy.LostRaceError](err)
	if !ok || race.Live != a.ID || race.Wanted != (node.Digest{}) {
		t.Errorf("got %v", err)
	}
	if sum, err := c.nodes[0].Show(t.Context(), "www"); err != nil || len(sum.Deploys) != 1 {
		t.Errorf("a deploy was staged that couldn't be made live: %+v, %v", sum, err)
	}
}

// There is no room for a deploy: that is said before anything is sent.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	n.publish(t, "www", first) // makes the stream, of 256 MiB
	m := &site.Manifest{Version: site.Version, Files: map[string]site.File{}}
	for _, name := range []string{"/a", "/b", "/c"} {
		b := node.Blob{Digest: node.DigestOf([]byte(name)), Size: 100 << 20}
		for i := range b.Parts() {
			b.Chunks = append(b.Chunks, node.Digest{1, byte(i)})
		}
		m.Files[name] = site.File{Blob: b}
	}
	data, err := site.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	_, err = n.Begin(t.Context(), "www", data)
	if !errors.Is(err, blob.ErrFull) || !strings.Contains(err.Error(), "301 MiB more, and of the 256 MiB") {
		t.Errorf("got %v", err)
	}
}

// There are at most so many previews of a site, and names that can't be keys are refused.
func TestLimits(t *testing.T) {
	t.Parallel()
	c := start(t, 1)
	n := c.nodes[0]
	id, _ := n.publish(t, "www", first)
	for _, p := range []deploy.Publication{
		{ID: id, Preview: "a.b", Until: time.Now().Add(time.Hour)},
		{ID: id, Preview: "*", Until: time.Now().Add(time.Hour)},
		{ID: id, Preview: "long", Until: time.Now().AddDate(2, 0, 0)},
	} {
		if _, err := n.Publish(t.Context(), "www", p, nil); !errors.Is(err, deploy.ErrLimit) {
			t.Errorf("%s: %v", p.Preview, err)
		}
	}
	if _, err := n.Publish(t.Context(), "*", deploy.Publication{ID: id}, nil); !errors.Is(err, deploy.ErrLimit) {
		t.Errorf("got %v", err)
	}
}
