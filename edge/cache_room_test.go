package edge_test

import (
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/kvcache/httpcache"
	"millrace/node"
	"millrace/node/nodetest"
)

// A body of unknown length under a freshness that only the route names is stored if it ends soon, as pages do, and not
// if it keeps coming.
func TestBodyOfUnknownLengthIsStoredUnderARouteTTLIfItEndsSoon(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	r.On("/page", edgetest.Streamed("page", -1))
	r.Get(t, "/page")
	nodetest.Eventually(t, "a page is stored", func() bool { return r.Ask(t, "HEAD", "/page", "").Hit })
	r = edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	r.SetEndsWithin(-1) // nothing does
	for path, control := range map[string]string{"/feed": "x", "/said": "max-age=600"} {
		body := edgetest.NewPacedBody()
		r.On(path, edgetest.Streams(body, -1, "Cache-Control", control))
		x := r.OpenBody(t, path)
		body.Pieces <- "one"
		x.Want("one")
		body.Pieces <- "two"
		x.Want("two")
		close(body.Pieces)
		x.WantEnd()
	}
	nodetest.Eventually(t, "what the origin speaks for is stored", func() bool { return r.Has("/said") })
	r.Get(t, "/said").WantHit(t, "named by the origin", "onetwo")
	r.On("/feed", edgetest.Always(200, "%d", "Cache-Control", "no-store"))
	if s := r.Get(t, "/feed"); s.Hit {
		t.Errorf("a feed is replayed: %s", s)
	}
}

// A fetch that nobody waits for ends as soon as its response turns out to be one that isn't stored.
func TestFetchThatNobodyWaitsForEndsIfItIsNotStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	r.SetEndsWithin(-1) // nothing does
	for path, control := range map[string]string{"/private": "private", "/feed": ""} {
		body := edgetest.NewPacedBody()
		next := edgetest.Streams(body, -1)
		if control != "" {
			next = edgetest.Streams(body, -1, "Cache-Control", control)
		}
		old := edgetest.Always(200, "old", "Cache-Control", "max-age=10, stale-while-revalidate=600", "Age", "20")
		r.On(path, edgetest.InTurn(old, next))
		r.Get(t, path)
		r.Get(t, path).WantHit(t, path, "old")
		for ended := false; !ended; { // it sends as long as somebody reads
			select {
			case body.Pieces <- strings.Repeat("x", 100):
			case <-body.Gone:
				ended = true
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: the stream is still read", path)
			}
		}
	}
}

// What isn't stored for want of room is stored as soon as there is some.
func TestResponseIsStoredAsSoonAsThereIsRoom(t *testing.T) {
	const n = 1 << 20
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Streamed(edgetest.Text(n), n, "Cache-Control", "max-age=600"))
	free := r.TakeRoom()
	if s := r.Get(t, "/a"); s.Stored || s.Text != edgetest.Text(n) {
		t.Errorf("without room: %s", s)
	}
	free()
	if s := r.Get(t, "/a"); !s.Stored {
		t.Errorf("with room: %s", s)
	}
}

// Where there is no room to bring all of a response together, it is passed on from the origin, and stays stored.
func TestLargeResponseWithoutRoomComesFromTheOrigin(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	o := edgetest.InChunks(3 << 20)
	r.On("/a", o.Answer)
	r.StoreLarge(t, "/a")
	nodetest.Eventually(t, "the bucket has it", func() bool {
		return r.RecordOf(t, "/a").Stored.Flags.Has(httpcache.InBucket)
	})
	r.Lose(t, "/a", 1, 2)
	free := r.TakeRoom()
	if s := r.Get(t, "/a"); s.Text != o.Body || s.Broken != nil || s.Hit {
		t.Errorf("without room: %s, %v", s, s.Broken)
	}
	free()
	before := r.Count("/a")
	if s := r.Get(t, "/a"); s.Text != o.Body || !s.Hit || r.Count("/a") != before {
		t.Errorf("with room: %s", s)
	}
}
