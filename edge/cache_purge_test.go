package edge_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"millrace/edge/cache"
	"millrace/kvcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

func (r *cacheRig) purge(t *testing.T, purges ...kvcache.Purge) {
	t.Helper()
	if _, err := r.cache.Purge(t.Context(), purges, true); err != nil {
		t.Fatal(err)
	}
}

// What each reach of a purge takes, and leaves; hard ones are gone, soft ones are stale.
func TestCachePurgeReaches(t *testing.T) {
	r := startCache(t, nil)
	paths := []string{"/a", "/a?q=1", "/a/b", "/c"}
	for _, path := range []string{"/a", "/a/b", "/c"} {
		r.on(path, func(req *mesh.Request, n int) *mesh.Response {
			return always(200, "%d", "Cache-Control", "max-age=600", "Vary", "X-V", "ETag", `"`+strconv.Itoa(n)+`"`,
				"Cache-Tag", "all, "+path[1:2], "Surrogate-Key", "s1 s2")(req, n)
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
				r.get(t, path, "X-V", "1")
				r.get(t, path, "X-V", "2")
			}
			for i := range c.purges {
				c.purges[i].Soft = soft
			}
			r.purge(t, c.purges...)
			for i, path := range paths {
				for _, v := range []string{"1", "2"} {
					s := r.get(t, path, "X-V", v)
					reached := strings.Contains(c.gone, strconv.Itoa(i))
					if s.hit == reached {
						t.Errorf("%s, soft %t: %s of variant %s gave %s", c.name, soft, path, v, s)
					}
					if base, _, _ := strings.Cut(path, "?"); reached &&
						r.last(base).Header.Has("If-None-Match") != soft {
						t.Errorf("%s, soft %t: %s was validated: %t", c.name, soft, path, !soft)
					}
				}
			}
		}
	}
}

// A soft purge lets stale-while-revalidate serve; a hard one doesn't.
func TestCachePurgeSoftServesWhileRevalidating(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", inTurn(always(200, "old", "Cache-Control", "max-age=60, stale-while-revalidate=60"), fresh("new")))
	r.get(t, "/a")
	r.purge(t, r.URLPurges(t.Context(), "http://example.test/a", true)...)
	r.get(t, "/a").wantHit(t, "after the soft purge", "old")
	nodetest.Eventually(t, "the new one is there", func() bool { return r.get(t, "/a").body == "new" })
	if r.count("/a") != 2 {
		t.Errorf("the origin was asked %d times", r.count("/a"))
	}
}

// After a hard purge what it took doesn't stand in for an origin that is away.
func TestCachePurgeHardIsNotServedStale(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", always(200, "secret", "Cache-Control", "max-age=60, stale-while-revalidate=600, stale-if-error=600"))
	r.get(t, "/a")
	r.purge(t, r.URLPurges(t.Context(), "http://example.test/a", false)...)
	r.away()
	if s := r.get(t, "/a"); s.body == "secret" || s.StatusCode < 500 {
		t.Errorf("got %s", s)
	}
}

// A purge that comes while the origin is being asked: the stale response doesn't stand in for its failure either.
func TestCachePurgeDuringFailingValidation(t *testing.T) {
	r := startCache(t, nil)
	held, open := gate(always(503, "bad"))
	defer open()
	r.on("/a", inTurn(stale("secret", 5, "stale-if-error=600"), held))
	r.get(t, "/a")
	got := make(chan *seen)
	go func() { got <- r.get(t, "/a") }()
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.count("/a") == 2 })
	r.purge(t, r.URLPurges(t.Context(), "http://example.test/a", false)...)
	open()
	if s := <-got; s.body == "secret" {
		t.Errorf("got %s", s)
	}
}

// A response whose fetch began before a purge is never given out after it, in one message or streamed.
func TestCachePurgeLateFill(t *testing.T) {
	r := startCache(t, nil)
	held, open := gate(fresh("%d"))
	defer open()
	r.on("/a", held)
	got := make(chan *seen)
	go func() { got <- r.get(t, "/a") }()
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.count("/a") == 1 })
	r.purge(t, r.URLPurges(t.Context(), "http://example.test/a", false)...)
	open()
	<-got
	r.get(t, "/a").wantFwd(t, "after a late fill", "uri-miss", "2")
	r.get(t, "/a").wantHit(t, "then", "2")

	body := newSlowly()
	r.on("/big", inTurn(streams(body, piece, "Cache-Control", "max-age=60"), fresh("new")))
	old := strings.Repeat("x", piece)
	go feed(body, old[:1000])
	first := r.open(t, "/big")
	first.want(old[:1000])
	r.purge(t, r.URLPurges(t.Context(), "http://example.test/big", false)...)
	if s := r.get(t, "/big"); s.body != "new" { // it must not follow the one that grows
		t.Errorf("while the old one grows: %s", s)
	}
	feed(body, old[1000:])
	close(body.pieces)
	first.want(old[1000:])
	first.wantEnd()
	if s := r.get(t, "/big"); s.body != "new" {
		t.Errorf("after the late fill: %s", s)
	}
}

// A validation that began before a purge doesn't bring back what the purge took.
func TestCachePurgeLateValidation(t *testing.T) {
	r := startCache(t, nil)
	held, open := gate(always(304, "", "ETag", `"1"`, "Cache-Control", "max-age=60"))
	defer open()
	r.on("/a", inTurn(stale("old", 5), held, fresh("new")))
	r.get(t, "/a")
	got := make(chan *seen)
	go func() { got <- r.get(t, "/a") }()
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.count("/a") == 2 })
	r.purge(t, r.URLPurges(t.Context(), "http://example.test/a", false)...)
	open()
	<-got
	if s := r.get(t, "/a"); s.body != "new" {
		t.Errorf("after a late validation: %s", s)
	}
}

// PURGE is for configured clients, and answers when it is done; for all others it is a method like any.
func TestCachePurgeMethod(t *testing.T) {
	for name, clients := range map[string][]node.Prefix{
		"nobody": nil, "others": {prefix("192.0.2.0/24")},
		"me": {prefix("127.0.0.0/8")},
	} {
		r := startCache(t, func(c *node.Cache) {
			c.Query.Drop = []string{"utm"}
		}, func(s *cacheSetup) { s.store.PurgeClients = clients })
		for _, path := range []string{"/a", "/b"} {
			r.on(path, byMethod(fresh("%d"), always(405, "")))
		}
		get := func(path string) *seen { return r.get(t, path, "Accept-Language", "de") }
		get("/a")
		get("/b?x=1&utm=2")
		s := r.ask(t, "PURGE", "/a", "")
		want := map[string]int{"nobody": 405, "others": 403, "me": 200}[name]
		if s.StatusCode != want || (want == 200 && !json.Valid([]byte(s.body))) {
			t.Errorf("%s: PURGE gave %s", name, s)
		}
		if s := get("/a"); s.hit != (want != 200) {
			t.Errorf("%s: after PURGE %s", name, s)
		}
		r.ask(t, "PURGE", "/b?x=1&utm=3", "") // the same to the cache
		if s := get("/b?x=1&utm=2"); s.hit != (want != 200) {
			t.Errorf("%s: after PURGE with a parameter that doesn't count %s", name, s)
		}
	}
}

// X-Forwarded-For doesn't make a purge client of anybody.
func TestCacheAttackPurgeBySpoofedAddress(t *testing.T) {
	r := startCache(t, nil, func(s *cacheSetup) { s.store.PurgeClients = []node.Prefix{prefix("192.0.2.0/24")} })
	r.on("/a", fresh("%d"))
	r.get(t, "/a")
	if s := r.ask(t, "PURGE", "/a", "", "X-Forwarded-For", "192.0.2.1", "X-Real-Ip", "192.0.2.1", "Forwarded",
		"for=192.0.2.1"); s.StatusCode != 403 {
		t.Errorf("got %s", s)
	}
	r.get(t, "/a").wantHit(t, "after the attempt", "1")
}

// A node that can't hear of purges asks the origin before each use, and gives out nothing that it can't ask about; with
// offline: serve it goes on.
func TestCacheLeaseLost(t *testing.T) {
	rigs := map[node.Offline]*cacheRig{}
	for _, offline := range []node.Offline{node.OfflineValidate, node.OfflineServe} {
		r := startCache(t, nil, func(s *cacheSetup) { s.alone, s.apart, s.store.Offline = false, true, offline })
		r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
			if req.Header.Has("If-None-Match") {
				return always(304, "", "ETag", `"1"`)(req, n)
			}
			return always(200, "%d", "Cache-Control", "max-age=600, stale-if-error=600, stale-while-revalidate=600",
				"ETag", `"1"`)(req, n)
		})
		r.on("/error", inTurn(always(200, "%d", "Cache-Control", "max-age=600, stale-if-error=600"),
			always(503, "bad")))
		for _, path := range []string{"/a", "/error"} {
			r.get(t, path)
			r.get(t, path).wantHit(t, "with a lease", "1")
		}
		if err := r.nats.Close(); err != nil {
			t.Fatal(err)
		}
		rigs[offline] = r
	}
	for offline, r := range rigs {
		nodetest.Eventually(t, "the lease is over", func() bool { return !r.cache.Leased() })
		serves := offline == node.OfflineServe
		for range 2 {
			if s := r.get(t, "/a"); s.hit != serves || s.body != "1" || (!serves && s.status != 304) {
				t.Errorf("%s: %s", offline, s)
			}
		}
		if s := r.get(t, "/error"); (s.body == "1") != serves {
			t.Errorf("%s, the origin errs: %s", offline, s)
		}
		r.away()
		if s := r.get(t, "/a"); (s.body == "1") != serves {
			t.Errorf("%s, the origin is away: %s", offline, s)
		}
	}
}
