package cache_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// An origin that can't be reached: what is stored is served though it is stale (RFC 9111 §4.2.4), unless it forbids
// that (§5.2.2.2).
func TestStaleResponseIsServedWhileTheOriginIsAway(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/stale", edgetest.Stale("stale", 5))
	r.On("/fresh", edgetest.Always(200, "fresh", "Cache-Control", "max-age=600"))
	r.On("/must", edgetest.Stale("must", 5, "must-revalidate"))
	r.On("/proxy", edgetest.Stale("proxy", 5, "proxy-revalidate"))
	r.On("/shared", edgetest.Always(200, "shared", "Cache-Control", "s-maxage=10", "Age", "20", "ETag", `"1"`))
	r.On("/no-cache", edgetest.Always(200, "no-cache", "Cache-Control", "no-cache", "ETag", `"1"`))
	paths := []string{"/stale", "/fresh", "/must", "/proxy", "/shared", "/no-cache"}
	for _, path := range paths {
		r.Get(t, path)
	}
	r.EndOrigin()
	r.Get(t, "/fresh").WantHit(t, "fresh", "fresh")
	s := r.Get(t, "/stale")
	if s.Text != "stale" || s.StatusCode != 200 || s.Detail == "" || s.TTL > -5 || !s.HasTTL {
		t.Errorf("stale gave %s", s)
	}
	if age, _ := strconv.Atoi(s.Header.Get("Age")); age < 15 {
		t.Errorf("Age of a stale response is %d", age)
	}
	for _, path := range paths[2:] {
		s := r.Get(t, path)
		if s.StatusCode != 504 || strings.Contains(s.Text, path[1:]+`"`) || s.Header.Get("Proxy-Status") == "" ||
			s.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s gave %s, Proxy-Status %q", path, s, s.Header.Get("Proxy-Status"))
		}
	}
	if s := r.Ask(t, "HEAD", "/stale", ""); s.StatusCode != 200 {
		t.Errorf("HEAD of what is stale gave %s", s)
	}
	if s := r.Get(t, "/cold"); s.StatusCode < 500 || s.Header.Get("Proxy-Status") == "" {
		t.Errorf("cold gave %s", s)
	}
}

// Within stale-if-error a stale response stands in for 500, 502, 503 and 504, and for nothing else (RFC 5861 §4).
func TestStaleIfErrorStandsInForServerErrors(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for _, c := range []struct {
		status  int
		control string
		stale   bool
	}{
		{500, "stale-if-error=60", true},
		{502, "stale-if-error=60", true},
		{503, "stale-if-error=60", true},
		{504, "stale-if-error=60", true},
		{501, "stale-if-error=60", false},
		{404, "stale-if-error=60", false},
		{503, "stale-if-error=4", false},
		{503, "x", false},
		{503, "stale-if-error=60, must-revalidate", false},
		{503, "stale-if-error=60, s-maxage=10", false},
	} {
		path := "/" + strconv.Itoa(c.status) + strconv.Itoa(len(c.control))
		r.On(path, edgetest.InTurn(edgetest.Stale("good", 5, c.control), edgetest.Always(c.status, "bad")))
		r.Get(t, path)
		for range 2 {
			s := r.Get(t, path)
			if (s.Text == "good") != c.stale || (!c.stale && s.StatusCode != c.status) {
				t.Errorf("%d with %s: %s", c.status, c.control, s)
			}
			if c.stale && (s.StatusCode != 200 || s.TTL > -5 || s.Detail == "") {
				t.Errorf("%d with %s: %s", c.status, c.control, s)
			}
		}
		if n := r.Count(path); n != 3 {
			t.Errorf("%d with %s: the origin was asked %d times, want each time", c.status, c.control, n)
		}
	}
}

// The same for what the route says in place of the origin, and for HEAD and parts (RFC 5861 §4).
func TestStaleIfErrorOfTheRouteStandsInForErrors(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.StaleIfError = node.Duration(time.Minute) }))
	r.On("/a", edgetest.InTurn(edgetest.Stale("good", 5), edgetest.Always(503, "bad")))
	r.Get(t, "/a")
	if s := r.Get(t, "/a"); s.Text != "good" {
		t.Errorf("GET: %s", s)
	}
	if s := r.Ask(t, "HEAD", "/a", ""); s.StatusCode != 200 {
		t.Errorf("HEAD: %s", s)
	}
	if s := r.Get(t, "/a", "Range", "bytes=0-1"); s.StatusCode != 206 || s.Text != "go" {
		t.Errorf("Range: %s", s)
	}
}

// A stale response is served at once while exactly one refresh runs, whoever asks meanwhile (RFC 5861 §3).
func TestStaleResponseIsRefreshedOnceWhileItIsServed(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	hold := make(chan struct{})
	r.On("/a", edgetest.InTurn(
		edgetest.Stale("old", 5, "stale-while-revalidate=60"),
		func(req *mesh.Request, n int) *mesh.Response {
			<-hold
			return edgetest.Always(200, "new", "Cache-Control", "max-age=60")(req, n)
		},
	))
	r.Get(t, "/a")
	for range 10 { // none of them waits for the origin, which doesn't answer
		s := r.Get(t, "/a")
		s.WantHit(t, "while it is fetched anew", "old")
		if s.TTL > -5 {
			t.Errorf("ttl is %d", s.TTL)
		}
	}
	close(hold)
	nodetest.Eventually(t, "the new one is served", func() bool { return r.Get(t, "/a").Text == "new" })
	if n := r.Count("/a"); n != 2 {
		t.Errorf("the origin was asked %d times, want 2", n)
	}
	if h := r.Last("/a").Header; h.Get("If-None-Match") != `"1"` {
		t.Errorf("the refresh doesn't validate: %v", h)
	}
}

// Outside the window, and where must-revalidate or s-maxage stand against it, the client waits for the origin (RFC 5861
// §3).
func TestClientWaitsOutsideTheStaleWindow(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for i, control := range []string{
		"stale-while-revalidate=4", "stale-while-revalidate=60, must-revalidate",
		"stale-while-revalidate=60, s-maxage=10", "stale-while-revalidate=60, no-cache",
	} {
		path := "/" + strconv.Itoa(i)
		r.On(path, edgetest.Stale("%d", 5, control))
		r.Get(t, path)
		if s := r.Get(t, path); s.Hit || s.Text != "2" {
			t.Errorf("%s: %s", control, s)
		}
	}
}

// A refresh that fails leaves what is there for as long as its window lasts (RFC 5861 §3).
func TestFailedRefreshLeavesWhatIsStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.InTurn(edgetest.Stale("old", 5, "stale-while-revalidate=60"), edgetest.Always(500, "bad")))
	r.Get(t, "/a")
	nodetest.Eventually(t, "four refreshes were tried", func() bool {
		r.Get(t, "/a").WantHit(t, "while refreshes fail", "old")
		return r.Count("/a") > 4
	})
}

// Requests that want fresher, or are content with staler, where the route lets them (RFC 9111 §5.2.1).
func TestRequestDirectivesCountWhereTheRouteLetsThem(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.RequestDirectives = true }))
	r.On("/fresh", edgetest.Always(200, "%d", "Cache-Control", "max-age=600", "Age", "100", "ETag", `"1"`))
	r.On("/immutable", edgetest.Always(200, "%d", "Cache-Control", "max-age=600, immutable", "Age", "100"))
	r.On("/stale", edgetest.Stale("%d", 5))
	r.On("/must", edgetest.Stale("%d", 5, "must-revalidate"))
	for _, path := range []string{"/fresh", "/immutable", "/stale", "/must"} {
		r.Get(t, path)
	}
	for _, c := range []struct {
		path, directive string
		hit             bool
	}{
		{"/fresh", "max-age=200", true},
		{"/fresh", "min-fresh=400", true},
		{"/fresh", "only-if-cached", true},
		{"/fresh", "no-transform", true},
		{"/immutable", "max-age=0", true}, // a reload (RFC 8246 §2)
		{"/stale", "max-stale", true},
		{"/stale", "max-stale=60", true},
		{"/must", "max-stale=60", false},
		{"/stale", "max-stale=1", false},
		{"/fresh", "max-age=50", false},
		{"/fresh", "max-age=0", false},
		{"/fresh", "no-cache", false},
		{"/fresh", "min-fresh=550", false},
		{"/immutable", "no-cache", false}, // a forced reload
	} {
		s := r.Get(t, c.path, "Cache-Control", c.directive)
		if s.Hit != c.hit {
			t.Errorf("%s with %s: %s", c.path, c.directive, s)
		}
		if want := map[string]string{
			"/fresh": "request", "/immutable": "request", "/must": "stale",
			"/stale": "stale",
		}[c.path]; !c.hit && s.Fwd != want {
			t.Errorf("%s with %s: fwd=%s, want %s (RFC 9211 §2.2)", c.path, c.directive, s.Fwd, want)
		}
	}
	if s := r.Get(t, "/fresh", "Pragma", "no-cache"); s.Hit {
		t.Errorf("Pragma: %s", s)
	}
	r.On("/no-store", edgetest.Always(200, "%d", "Cache-Control", "max-age=60"))
	r.Get(t, "/no-store", "Cache-Control", "no-store")
	if s := r.Get(t, "/no-store"); s.Hit {
		t.Errorf("what a request forbade to store was stored: %s", s)
	}
}

// only-if-cached gets what is stored, or 504, and the origin hears nothing (RFC 9111 §5.2.1.7).
func TestOnlyIfCachedNeverAsksTheOrigin(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.RequestDirectives = true }))
	for _, method := range []string{"GET", "HEAD"} {
		if s := r.Ask(t, method, "/cold", "", "Cache-Control", "only-if-cached"); s.StatusCode != 504 {
			t.Errorf("%s cold: %s", method, s)
		}
	}
	if s := r.Get(t, "/cold", "Cache-Control", "only-if-cached", "Range", "bytes=0-1"); s.StatusCode != 504 {
		t.Errorf("Range cold: %s", s)
	}
	r.On("/stale", edgetest.Stale("stale", 5))
	r.Get(t, "/stale")
	if s := r.Get(t, "/stale", "Cache-Control", "only-if-cached"); s.StatusCode != 504 {
		t.Errorf("stale: %s", s)
	}
	r.Get(t, "/stale", "Cache-Control", "only-if-cached, max-stale=60").WantHit(t, "with max-stale", "stale")
	if r.Count("/cold") != 0 || r.Count("/stale") != 1 {
		t.Errorf("the origin was asked %d and %d times", r.Count("/cold"), r.Count("/stale"))
	}
}

// By default what a request asks of the cache doesn't count, so that no client can send the cache to the origin.
func TestRequestDirectivesDoNotCountByDefault(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=60"))
	r.Get(t, "/a", "Cache-Control", "no-store")
	for _, h := range [][]string{
		{"Cache-Control", "no-cache"},
		{"Cache-Control", "max-age=0"},
		{"Cache-Control", "no-store"},
		{"Pragma", "no-cache"},
	} {
		r.Get(t, "/a", h...).WantHit(t, h[1], "1")
	}
}

// A failed connection is remembered, so that not each client waits for it, but no longer than a second.
func TestConnectFailureIsRememberedForASecond(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.EndOrigin()
	if s := r.Get(t, "/a"); s.StatusCode < 502 || s.StatusCode > 504 || s.Header.Get("Proxy-Status") == "" {
		t.Errorf("got %s", s)
	}
	r.On("/a", edgetest.Always(200, "back", "Cache-Control", "max-age=60"))
	begun := time.Now()
	r.StartOrigin(t)
	nodetest.Eventually(t, "the origin is asked again", func() bool { return r.Get(t, "/a").Text == "back" })
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

// Shortly before a response is stale, one of its clients has it fetched anew, the sooner the longer a fetch takes
// (XFetch; checklist item 41), and all get what is stored.
func TestResponseIsRefreshedShortlyBeforeItIsStale(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", func(_ *mesh.Request, n int) *mesh.Response {
		if n == 1 {
			timer := time.NewTimer(500 * time.Millisecond)
			defer timer.Stop()
			<-timer.C
		}
		return edgetest.Always(200, "%d", "Cache-Control", "max-age=100", "Age", "98")(nil, n)
	})
	r.Get(t, "/a")
	nodetest.Eventually(t, "it is fetched anew", func() bool {
		s := r.Get(t, "/a")
		if !s.Hit && r.Count("/a") == 1 {
			t.Fatalf("it became stale first: %s", s)
		}
		return r.Count("/a") > 1
	})
	for _, c := range r.CacheStats() {
		if c.Refreshed == 0 {
			t.Errorf("the fetch was no refresh: %+v", c)
		}
	}
}

// A validation for one client says nothing of what is stored for others: it stays, to be validated by them.
func TestValidationWithCredentialsKeepsWhatIsStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.RequestDirectives = true }))
	for i, c := range []struct {
		control string // of the 304
		header  []string
	}{
		{"max-age=10", []string{"Authorization", "Basic eDp5"}},
		{"private, max-age=10", []string{"Authorization", "Basic eDp5"}},
		{"max-age=10", []string{"Cache-Control", "no-store"}},
	} {
		path := "/" + strconv.Itoa(i)
		var whole atomic.Int64
		r.On(path, func(req *mesh.Request, n int) *mesh.Response {
			if req.Header.Get("If-None-Match") != "" {
				return edgetest.Always(304, "", "Cache-Control", c.control, "ETag", `"1"`)(req, n)
			}
			whole.Add(1)
			return edgetest.Stale("body", 5)(req, n)
		})
		r.Get(t, path)
		for range 2 {
			if s := r.Get(t, path, c.header...); s.StatusCode != 200 || s.Text != "body" || s.FwdStatus != 304 ||
				s.Stored {
				t.Errorf("%s, %s: %s", c.header, c.control, s)
			}
		}
		if s := r.Get(t, path); s.Text != "body" || s.FwdStatus != 304 || whole.Load() != 1 {
			t.Errorf("after %s, %s: %s; %d times the whole", c.header, c.control, s, whole.Load())
		}
	}
}

// A refresh in the background for a client with credentials says nothing of what is stored for others.
func TestRefreshWithCredentialsKeepsWhatIsStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.InTurn(edgetest.Stale("body", 5, "stale-while-revalidate=600"),
		edgetest.Always(304, "", "Cache-Control", "max-age=10, stale-while-revalidate=600", "ETag", `"1"`)))
	r.Get(t, "/a")
	nodetest.Eventually(t, "it was validated four times", func() bool {
		r.Get(t, "/a", "Authorization", "Basic eDp5").WantHit(t, "with credentials", "body")
		return r.Count("/a") > 4
	})
	r.Get(t, "/a").WantHit(t, "without", "body")
}
