package cache_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"millrace/edge/cache"
	"millrace/edge/edgetest"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// What each reach of a purge takes, and leaves; hard ones are gone, soft ones are stale.
func TestPurgeTakesWhatItReachesAndNoMore(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	paths := []string{"/a", "/a?q=1", "/a/b", "/c"}
	for _, path := range []string{"/a", "/a/b", "/c"} {
		r.On(path, func(req *mesh.Request, n int) *mesh.Response {
			return edgetest.Always(200, "%d", "Cache-Control", "max-age=600", "Vary", "X-V", "ETag",
				`"`+strconv.Itoa(n)+`"`, "Cache-Tag", "all, "+path[1:2], "Surrogate-Key", "s1 s2")(req, n)
		})
	}
	for _, c := range []struct {
		name   string
		purges []kvcache.Purge
		gone   string // indices of paths
	}{
		{"url", r.URLPurges(t.Context(), "http://EXAMPLE.test:80/%61", false), "0"},
		{"url with a query", r.URLPurges(t.Context(), "http://example.test/a?q=1", false), "1"},
		{"prefix", cache.PrefixPurges("http://example.test/a", false), "012"},
		{"prefix of a directory", cache.PrefixPurges("http://example.test/a/", false), "2"},
		{"host", []kvcache.Purge{{Reach: kvcache.ReachHost, Text: "example.test"}}, "0123"},
		{"another host", []kvcache.Purge{{Reach: kvcache.ReachHost, Text: "other.test"}}, ""},
		{"tag", []kvcache.Purge{{Reach: kvcache.ReachTag, Text: "c"}}, "3"},
		{"surrogate key", []kvcache.Purge{{Reach: kvcache.ReachTag, Text: "s2"}}, "0123"},
		{"all", []kvcache.Purge{{Reach: kvcache.ReachAll}}, "0123"},
		{"nothing of ours", r.URLPurges(t.Context(), "http://example.test/none", false), ""},
	} {
		for _, soft := range []bool{false, true} {
			for _, path := range paths {
				r.Get(t, path, "X-V", "1")
				r.Get(t, path, "X-V", "2")
			}
			for i := range c.purges {
				c.purges[i].Soft = soft
			}
			r.ApplyPurges(t, c.purges...)
			for i, path := range paths {
				for _, v := range []string{"1", "2"} {
					s := r.Get(t, path, "X-V", v)
					reached := strings.Contains(c.gone, strconv.Itoa(i))
					if s.Hit == reached {
						t.Errorf("%s, soft %t: %s of variant %s gave %s", c.name, soft, path, v, s)
					}
					if base, _, _ := strings.Cut(path, "?"); reached &&
						r.Last(base).Header.Has("If-None-Match") != soft {
						t.Errorf("%s, soft %t: %s was validated: %t", c.name, soft, path, !soft)
					}
				}
			}
		}
	}
}

// A soft purge lets stale-while-revalidate serve; a hard one doesn't.
func TestSoftPurgeLeavesStaleWhileRevalidate(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.InTurn(edgetest.Always(200, "old", "Cache-Control", "max-age=60, stale-while-revalidate=60"),
		edgetest.Fresh("new")))
	r.Get(t, "/a")
	r.ApplyPurges(t, r.URLPurges(t.Context(), "http://example.test/a", true)...)
	r.Get(t, "/a").WantHit(t, "after the soft purge", "old")
	nodetest.Eventually(t, "the new one is there", func() bool { return r.Get(t, "/a").Text == "new" })
	if r.Count("/a") != 2 {
		t.Errorf("the origin was asked %d times", r.Count("/a"))
	}
}

// After a hard purge what it took doesn't stand in for an origin that is away.
func TestHardPurgeIsNotServedStale(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a",
		edgetest.Always(200, "secret", "Cache-Control", "max-age=60, stale-while-revalidate=600, stale-if-error=600"))
	r.Get(t, "/a")
	r.ApplyPurges(t, r.URLPurges(t.Context(), "http://example.test/a", false)...)
	r.EndOrigin()
	if s := r.Get(t, "/a"); s.Text == "secret" || s.StatusCode < 500 {
		t.Errorf("got %s", s)
	}
}

// A purge that comes while the origin is being asked: the stale response doesn't stand in for its failure either.
func TestPurgeDuringAFailingValidationIsNotServedStale(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	held, open := edgetest.Gate(edgetest.Always(503, "bad"))
	defer open()
	r.On("/a", edgetest.InTurn(edgetest.Stale("secret", 5, "stale-if-error=600"), held))
	r.Get(t, "/a")
	got := make(chan *edgetest.Seen)
	go func() { got <- r.Get(t, "/a") }()
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.Count("/a") == 2 })
	r.ApplyPurges(t, r.URLPurges(t.Context(), "http://example.test/a", false)...)
	open()
	if s := <-got; s.Text == "secret" {
		t.Errorf("got %s", s)
	}
}

// A response whose fetch began before a purge is never given out after it, in one message or streamed.
func TestFetchThatBeganBeforeAPurgeIsNotServedAfterIt(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	held, open := edgetest.Gate(edgetest.Fresh("%d"))
	defer open()
	r.On("/a", held)
	got := make(chan *edgetest.Seen)
	go func() { got <- r.Get(t, "/a") }()
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.Count("/a") == 1 })
	r.ApplyPurges(t, r.URLPurges(t.Context(), "http://example.test/a", false)...)
	open()
	<-got
	r.Get(t, "/a").WantFwd(t, "after a late fill", "uri-miss", "2")
	r.Get(t, "/a").WantHit(t, "then", "2")

	body := edgetest.NewPacedBody()
	r.On("/big", edgetest.InTurn(edgetest.Streams(body, edgetest.OverMessage, "Cache-Control", "max-age=60"),
		edgetest.Fresh("new")))
	old := strings.Repeat("x", edgetest.OverMessage)
	go edgetest.Feed(body, old[:1000])
	first := r.OpenBody(t, "/big")
	first.Want(old[:1000])
	r.ApplyPurges(t, r.URLPurges(t.Context(), "http://example.test/big", false)...)
	if s := r.Get(t, "/big"); s.Text != "new" { // it must not follow the one that grows
		t.Errorf("while the old one grows: %s", s)
	}
	edgetest.Feed(body, old[1000:])
	close(body.Pieces)
	first.Want(old[1000:])
	first.WantEnd()
	if s := r.Get(t, "/big"); s.Text != "new" {
		t.Errorf("after the late fill: %s", s)
	}
}

// A validation that began before a purge doesn't bring back what the purge took.
func TestValidationThatBeganBeforeAPurgeBringsNothingBack(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	held, open := edgetest.Gate(edgetest.Always(304, "", "ETag", `"1"`, "Cache-Control", "max-age=60"))
	defer open()
	r.On("/a", edgetest.InTurn(edgetest.Stale("old", 5), held, edgetest.Fresh("new")))
	r.Get(t, "/a")
	got := make(chan *edgetest.Seen)
	go func() { got <- r.Get(t, "/a") }()
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.Count("/a") == 2 })
	r.ApplyPurges(t, r.URLPurges(t.Context(), "http://example.test/a", false)...)
	open()
	<-got
	if s := r.Get(t, "/a"); s.Text != "new" {
		t.Errorf("after a late validation: %s", s)
	}
}

// PURGE is for configured clients, and answers when it is done; for all others it is a method like any.
func TestPurgeMethodIsForConfiguredClients(t *testing.T) {
	for name, clients := range map[string][]node.Prefix{
		"nobody": nil, "others": {edgetest.Prefix("192.0.2.0/24")},
		"me": {edgetest.Prefix("127.0.0.0/8")},
	} {
		r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) {
			c.Query.Drop = []string{"utm"}
		}, func(s *edgetest.Config) { s.Cache.Store = func(c *node.CacheStore) { c.PurgeClients = clients } }))
		for _, path := range []string{"/a", "/b"} {
			r.On(path, byMethod(edgetest.Fresh("%d"), edgetest.Always(405, "")))
		}
		get := func(path string) *edgetest.Seen { return r.Get(t, path, "Accept-Language", "de") }
		get("/a")
		get("/b?x=1&utm=2")
		s := r.Ask(t, "PURGE", "/a", "")
		want := map[string]int{"nobody": 405, "others": 403, "me": 200}[name]
		if s.StatusCode != want || (want == 200 && !json.Valid([]byte(s.Text))) {
			t.Errorf("%s: PURGE gave %s", name, s)
		}
		if s := get("/a"); s.Hit != (want != 200) {
			t.Errorf("%s: after PURGE %s", name, s)
		}
		r.Ask(t, "PURGE", "/b?x=1&utm=3", "") // the same to the cache
		if s := get("/b?x=1&utm=2"); s.Hit != (want != 200) {
			t.Errorf("%s: after PURGE with a parameter that doesn't count %s", name, s)
		}
	}
}

// X-Forwarded-For doesn't make a purge client of anybody.
func TestForwardedAddressMakesNoPurgeClient(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		s.Cache.Store = func(c *node.CacheStore) { c.PurgeClients = []node.Prefix{edgetest.Prefix("192.0.2.0/24")} }
	}))
	r.On("/a", edgetest.Fresh("%d"))
	r.Get(t, "/a")
	if s := r.Ask(t, "PURGE", "/a", "", "X-Forwarded-For", "192.0.2.1", "X-Real-Ip", "192.0.2.1", "Forwarded",
		"for=192.0.2.1"); s.StatusCode != 403 {
		t.Errorf("got %s", s)
	}
	r.Get(t, "/a").WantHit(t, "after the attempt", "1")
}

// A node that can't hear of purges asks the origin before each use, and gives out nothing that it can't ask about; with
// offline: serve it goes on.
func TestNodeThatHearsNoPurgesAsksTheOrigin(t *testing.T) {
	rigs := map[node.Offline]*edgetest.Rig{}
	for _, offline := range []node.Offline{node.OfflineValidate, node.OfflineServe} {
		r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
			s.Cache.Shared, s.Cache.Apart = true, true
			s.Cache.Store = func(c *node.CacheStore) { c.Offline = offline }
		}))
		r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
			if req.Header.Has("If-None-Match") {
				return edgetest.Always(304, "", "ETag", `"1"`)(req, n)
			}
			return edgetest.Always(200, "%d",
				"Cache-Control", "max-age=600, stale-if-error=600, stale-while-revalidate=600", "ETag", `"1"`)(req, n)
		})
		r.On("/error", edgetest.InTurn(edgetest.Always(200, "%d", "Cache-Control", "max-age=600, stale-if-error=600"),
			edgetest.Always(503, "bad")))
		for _, path := range []string{"/a", "/error"} {
			r.Get(t, path)
			r.Get(t, path).WantHit(t, "with a lease", "1")
		}
		r.CloseCache()
		rigs[offline] = r
	}
	for offline, r := range rigs {
		nodetest.Eventually(t, "the lease is over", func() bool { return !r.Cache.Leased() })
		serves := offline == node.OfflineServe
		for range 2 {
			if s := r.Get(t, "/a"); s.Hit != serves || s.Text != "1" || (!serves && s.FwdStatus != 304) {
				t.Errorf("%s: %s", offline, s)
			}
		}
		if s := r.Get(t, "/error"); (s.Text == "1") != serves {
			t.Errorf("%s, the origin errs: %s", offline, s)
		}
		r.EndOrigin()
		if s := r.Get(t, "/a"); (s.Text == "1") != serves {
			t.Errorf("%s, the origin is away: %s", offline, s)
		}
	}
}
