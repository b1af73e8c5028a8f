//go:build system

package chaos_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// siteLeaf publishes to a leaf 80 ms away, cuts its link while somebody publishes, and restarts it without the link. The
// leaf must serve all the time, and what is live soon after the link is whole again.
func siteLeaf(t *testing.T, long bool) (seen string) {
	t.Helper()
	files, size, cut := 200, 5<<20, 3*time.Second
	if long {
		files, size, cut = 2000, 50<<20, 15*time.Second
	}
	listen := nodetest.FreePorts(t, 1)[0]
	hub := startSiteNode(t, t.TempDir(), "hub", `leafs: {listen: "`+listen+`", token: token-of-leafs-for-tests}`)
	link := nodetest.NewLink(t, listen, 40*time.Millisecond)
	leafDir, leafMesh := t.TempDir(), `leaf: {url: "`+link.Addr()+`", token: token-of-leafs-for-tests}`
	leaf := startSiteNode(t, leafDir, "leaf", leafMesh)
	within(t, wait, "the nodes know each other", func() bool { return len(hub.status(t).Nodes) == 2 })

	dir := filepath.Join(t.TempDir(), "deploy")
	random := rand.NewChaCha8([32]byte{2})
	writeRandom(t, dir, random, files, size)
	page := func(n int) { writeText(t, filepath.Join(dir, "index.html"), fmt.Sprintf("deploy %d", n)) }
	page(1)
	done, err := publishTo(t.Context(), hub, dir)
	if err != nil || len(done.Behind) > 0 || pageNumber(leaf) != 1 {
		t.Fatalf("publish: %+v, %v; the leaf serves %d", done, err, pageNumber(leaf))
	}
	var staged float64
	for _, n := range done.Nodes {
		if n.Node == "leaf" {
			staged = n.MS
		}
	}
	link.Cut()
	cutAt := time.Now()
	page(2)
	writeText(t, filepath.Join(dir, "new.bin"), string(randomBytes(random, size/10)))
	if _, err := publishTo(t.Context(), hub, dir); err != nil {
		t.Fatal(err)
	}
	for time.Since(cutAt) < cut {
		if got := pageNumber(leaf); got != 1 {
			t.Errorf("cut off, the leaf serves %d", got)
		}
		<-time.After(100 * time.Millisecond)
	}
	link.Heal()
	healed := within(t, wait, "the leaf serves what is live", func() bool { return pageNumber(leaf) == 2 })

	<-time.After(time.Second) // a node notes what it serves a moment after it serves it
	link.Cut()
	leaf.kill()
	begun := time.Now()
	leaf = startSiteNode(t, leafDir, "leaf", leafMesh)
	within(t, wait, "cut off and started, the leaf serves", func() bool { return pageNumber(leaf) == 2 })
	alone := time.Since(begun)
	link.Heal()
	within(t, wait, "the leaf joins again", func() bool { return len(leaf.status(t).Degraded) == 0 })
	return fmt.Sprintf("%d files of %d MiB were staged 80 ms away after %.0f ms; cut for %s, it served what was live %s "+
		"after the heal; started while cut off, it served after %s", files, size>>20, staged, cut,
		healed.Round(time.Millisecond), alone.Round(time.Millisecond))
}

// startSiteNode starts a node that serves the site www. more are further keys of its mesh.
func startSiteNode(t *testing.T, dir, name, more string) *nodeProcess {
	t.Helper()
	return start(t, dir, embeddedtest.YAML(t, `
		version: 1
		node:
		  name: $NAME
		  data: $DIR/data
		edge: {listen: 127.0.0.1:0, linger: 0s}
		admin: {listen: 127.0.0.1:0}
		mesh:
		  listen: 127.0.0.1:0
		  token: token-for-tests-only
		  $MORE
		`, "NAME", name, "DIR", dir, "MORE", more)+embeddedtest.YAML(t, siteRoutes))
}
