package edge_test

import (
	"strconv"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// A page of another origin can't ask past what is stored, or drop it, with a HEAD or a body: its first request has the
// response fetched that is for such pages, too.
func TestPageOfAnotherOriginCanNotPassAStoredResponse(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for path, ask := range map[string]func(string) *edgetest.Seen{
		"/head": func(path string) *edgetest.Seen { return r.Ask(t, "HEAD", path, "", "Origin", "https://other.test") },
		"/body": func(path string) *edgetest.Seen { return r.Ask(t, "GET", path, "x", "Origin", "https://other.test") },
	} {
		r.On(path, func(req *mesh.Request, n int) *mesh.Response {
			return edgetest.Always(200, "body %d", "Cache-Control", "max-age=600", "ETag",
				`"`+strconv.Itoa(n)+`"`)(req, n)
		})
		r.Get(t, path)
		if s := ask(path); s.Fwd != "vary-miss" {
			t.Errorf("%s: the first: %s", path, s)
		}
		nodetest.Eventually(t, "what is for other origins is stored", func() bool { return ask(path).Hit })
		asked := r.Count(path)
		for range 3 {
			if s := ask(path); !s.Hit {
				t.Errorf("%s: another: %s", path, s)
			}
		}
		if s := r.Get(t, path); !s.Hit || r.Count(path) != asked {
			t.Errorf("%s: what is stored afterwards: %s", path, s)
		}
	}
	// Where nothing of it can be stored, that is tried once, and what was there before stays.
	r.On("/private", func(req *mesh.Request, n int) *mesh.Response {
		control := "max-age=600"
		if req.Header.Has("Origin") {
			control = "private"
		}
		return edgetest.Always(200, "body %d", "Cache-Control", control, "ETag", `"`+strconv.Itoa(n)+`"`)(req, n)
	})
	r.Get(t, "/private")
	for range 4 {
		r.Ask(t, "HEAD", "/private", "", "Origin", "https://other.test")
	}
	nodetest.Eventually(t, "no fetch runs", func() bool { return r.CacheFetches() == 0 })
	if n := r.Count("/private"); n != 6 {
		t.Errorf("the origin was asked %d times", n)
	}
	r.Get(t, "/private").WantHit(t, "what was there", "body 1")
}

// What came at one moment isn't fetched anew at one: each response has a moment of its own in the last twentieth of its
// time, and is a hit until then.
func TestResponsesAreRefreshedAtDifferentMoments(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(200 * time.Second) }))
	refreshed := func(age string) (n int) {
		for i := range 40 {
			path := "/" + age + "/" + strconv.Itoa(i)
			r.On(path, edgetest.Always(200, "%d", "Age", age))
			r.Get(t, path)
			r.Get(t, path).WantHit(t, path, "1")
		}
		nodetest.Eventually(t, "the fetches are over", func() bool { return r.CacheFetches() == 0 })
		for i := range 40 {
			if r.Count("/"+age+"/"+strconv.Itoa(i)) > 1 {
				n++
			}
		}
		return n
	}
	if n := refreshed("150"); n != 0 {
		t.Errorf("%d of 40 were fetched anew in the middle of their time", n)
	}
	if n := refreshed("195"); n < 5 || n > 35 { // half of the last twentieth is left
		t.Errorf("%d of 40 were fetched anew, want about half", n)
	}
}
