package cache_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// byMethod answers GET with get, and all else with other.
func byMethod(get, other edgetest.Answer) edgetest.Answer {
	return func(r *mesh.Request, n int) *mesh.Response {
		if r.Method == "GET" || r.Method == "HEAD" {
			return get(r, n)
		}
		return other(r, n)
	}
}

// An unsafe method makes its target invalid when it succeeds, and what Location and Content-Location name of the same
// origin (RFC 9111 §4.4).
func TestUnsafeMethodInvalidatesItsTarget(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "BREW"} {
		for status, gone := range map[int]bool{200: true, 204: true, 303: true, 404: false, 500: false} {
			path := "/" + method + strconv.Itoa(status)
			r.On(path, byMethod(edgetest.Fresh("%d"), edgetest.Always(status, "")))
			r.Get(t, path)
			s := r.Ask(t, method, path, "x")
			if s.Fwd != "method" || s.Stored {
				t.Errorf("%s: %s", method, s)
			}
			if gone {
				r.Invalidated(t, method+" made its target invalid", path)
			} else if s := r.Get(t, path); !s.Hit {
				t.Errorf("%s answered %d: then %s", method, status, s)
			}
		}
	}
	for _, method := range []string{"OPTIONS", "PROPFIND"} {
		r.On("/safe", byMethod(edgetest.Fresh("%d"), edgetest.Always(200, "")))
		r.Get(t, "/safe")
		r.Ask(t, method, "/safe", "")
		if s := r.Get(t, "/safe"); !s.Hit {
			t.Errorf("%s made a stored response invalid", method)
		}
	}
}

// Which URIs a response may make invalid beside its own (RFC 9111 §4.4).
func TestLocationsOfTheSameOriginAreInvalidated(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for i, c := range []struct {
		field, value string
		gone         bool
	}{
		{"Location", "/b?q=1", true},
		{"Content-Location", "/b?q=1", true},
		{"Location", "http://example.test/b?q=1", true},
		{"Location", "b?q=1", true},
		{"Location", "http://EXAMPLE.test/b?q=1", true},
		{"Location", "/%62?q=1#there", true},
		{"Location", "http://other.test/b?q=1", false},
		{"Location", "https://example.test/b?q=1", false},
		{"Location", "http://example.test:81/b?q=1", false},
		{"Link", "/b?q=1", false},
	} {
		path := "/a" + strconv.Itoa(i)
		r.On("/b", edgetest.Fresh("%d"))
		r.On(path, edgetest.Always(201, "", c.field, c.value))
		r.Get(t, "/b?q=1")
		r.Get(t, "/b?q=1", "Host-Is", "the same").WantHit(t, "before", strconv.Itoa(r.Count("/b")))
		r.Ask(t, "POST", path, "x")
		if c.gone {
			r.Invalidated(t, c.field+" "+c.value, "/b?q=1")
		} else if s := r.Get(t, "/b?q=1"); !s.Hit {
			t.Errorf("%s: %s, then %s", c.field, c.value, s)
		}
		r.Settled(t) // else this one's purge may reach what the next one stores
	}
	r.On("/port", edgetest.Always(201, "", "Location", "http://example.test:80/b?q=1"))
	r.Get(t, "/b?q=1")
	r.Ask(t, "POST", "/port", "x")
	r.Invalidated(t, "a Location with the default port", "/b?q=1")
}

// Groups of an origin, by Cache-Group-Invalidation of an unsafe request's response (RFC 9875 §3).
func TestGroupsAreInvalidatedByUnsafeRequests(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=60", "Cache-Groups", `"g", "h"`))
	r.On("/b", edgetest.Always(200, "%d", "Cache-Control", "max-age=60", "Cache-Groups", `"i"`))
	r.On("/do", edgetest.Always(200, "", "Cache-Group-Invalidation", `"g"`))
	both := func() {
		r.Get(t, "/a")
		r.Get(t, "/b")
	}
	both()
	r.Get(t, "/do")
	r.Get(t, "/a").WantHit(t, "after a safe method", "1")
	r.Send(t, "POST", "POST /do HTTP/1.1\r\nHost: other.test\r\nContent-Length: 0\r\n\r\n")
	r.Get(t, "/a").WantHit(t, "after a request to another origin", "1")
	r.Ask(t, "POST", "/do", "x")
	r.Invalidated(t, "of the group", "/a")
	r.Get(t, "/b").WantHit(t, "of another group", "1")
}

// A POST whose response says that it is what a GET would get is used for GETs (RFC 9110 §9.3.3), and any other isn't.
func TestPostThatSaysSoIsStoredAsGet(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	for i, c := range []struct {
		used   bool
		header []string
	}{
		{true, []string{"Content-Location", "/p0", "Cache-Control", "max-age=60"}},
		{true, []string{"Content-Location", "http://example.test/p1", "Cache-Control", "max-age=60"}},
		{false, []string{"Content-Location", "/p2"}},
		{false, []string{"Content-Location", "/other", "Cache-Control", "max-age=60"}},
		{false, []string{"Cache-Control", "max-age=60"}},
		{false, []string{"Content-Location", "/p5", "Cache-Control", "max-age=60, private"}},
		{false, []string{"Content-Location", "/p6", "Cache-Control", "no-store"}},
	} {
		path := "/p" + strconv.Itoa(i)
		r.On(path, byMethod(edgetest.Always(200, "got"), edgetest.Always(200, "posted", c.header...)))
		r.Get(t, path)
		r.Ask(t, "POST", path, "x").WantFwd(t, "POST", "method", "posted")
		if c.used { // an invalidation that takes its time (see invalidated) takes the response with it
			nodetest.Eventually(t, "the POST's response is used", func() bool {
				s := r.Get(t, path)
				if !s.Hit || s.Text != "posted" {
					r.Ask(t, "POST", path, "x")
				}
				return s.Hit && s.Text == "posted"
			})
			continue
		}
		r.Invalidated(t, "the POST made its target invalid", path)
		if s := r.Get(t, path); s.Text != "got" {
			t.Errorf("%q: %s", c.header, s)
		}
	}
}

// QUERY is safe, and its body is a part of the key (draft-ietf-httpbis-safe-method-w-body).
func TestBodyOfAQueryIsPartOfTheKey(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Methods = []node.Method{"GET", "QUERY"} }))
	r.On("/q", func(req *mesh.Request, n int) *mesh.Response {
		return edgetest.Always(200, string(req.Body)+" %d", "Cache-Control", "max-age=60")(req, n)
	})
	json := []string{"Content-Type", "application/json"}
	r.Ask(t, "QUERY", "/q", "a", json...).WantFwd(t, "a", "uri-miss", "a 1")
	r.Ask(t, "QUERY", "/q", "b", json...).WantFwd(t, "b", "uri-miss", "b 2")
	r.Ask(t, "QUERY", "/q", "a", json...).WantHit(t, "a again", "a 1")
	r.Ask(t, "QUERY", "/q", "b", json...).WantHit(t, "b again", "b 2")
	r.Ask(t, "QUERY", "/q", "a", "Content-Type", "text/plain").WantFwd(t, "of another type", "uri-miss", "a 3")
	r.Get(t, "/q").WantFwd(t, "GET", "uri-miss", " 4")
	r.Ask(t, "QUERY", "/q", "a", json...).WantHit(t, "after a GET", "a 1")
	r.Ask(t, "POST", "/q", "a", json...)
	nodetest.Eventually(t, "a POST makes it invalid", func() bool {
		return !r.Ask(t, "QUERY", "/q", "a", json...).Hit
	})
	none := edgetest.Start(t, edgetest.Cached(nil))
	none.On("/q", edgetest.Fresh("%d"))
	for i := range 2 {
		none.Ask(t, "QUERY", "/q", "a", json...).WantFwd(t, "a route that doesn't take QUERY", "method",
			strconv.Itoa(i+1))
	}
}

// An unsafe request to a route that doesn't cache makes invalid what another route has stored of the URL (RFC 9111
// §4.4), and it is so for this node's own clients as soon as it is answered.
func TestUnsafeMethodInvalidatesWhatOtherRoutesStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		post := edgetest.Route("", "/*", func(r *node.Route) { r.Name, r.Methods = "write", []node.Method{"POST"} })
		post.To.Name = "origin"
		s.Routes[0].Methods = []node.Method{"GET"}
		s.Routes = append(s.Routes, post)
	}))
	r.On("/a", byMethod(edgetest.Fresh("%d"), edgetest.Always(201, "")))
	for range 10 {
		nodetest.Eventually(t, "it is stored, once the invalidation before is over", func() bool {
			return r.Get(t, "/a").Hit
		})
		r.Ask(t, "POST", "/a", "x")
		if s := r.Get(t, "/a"); s.Hit {
			t.Fatalf("a client that has written reads what was before: %s", s)
		}
	}
}

// A purge of a URL as clients ask for it reaches what is stored under less of its query.
func TestPurgeReachesWhatIsStoredUnderLessOfItsQuery(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Query.Drop = []string{"utm"} }))
	r.On("/a", edgetest.Fresh("%d"))
	r.Get(t, "/a?q=1&utm=x")
	if s := r.Get(t, "/a?q=1&utm=y"); !s.Hit {
		t.Fatalf("before: %s", s)
	}
	if _, err := r.Cache.Purge(t.Context(), r.URLPurges(t.Context(), "http://example.test/a?q=1&utm=z", false),
		true); err != nil {
		t.Fatal(err)
	}
	if s := r.Get(t, "/a?q=1&utm=y"); s.Hit {
		t.Errorf("after the purge: %s", s)
	}
}

// The response to a POST stands for that to a GET only if its origin got nothing with it that a GET for others goes
// without, and if the same route has the GETs.
func TestPostThatNoGetCouldBeIsNotStoredAsGet(t *testing.T) {
	r := edgetest.Start(
		t,
		edgetest.Cached(func(c *node.Cache) { c.Query.Drop = []string{"utm"} }, func(s *edgetest.Config) {
			post := edgetest.CachedRoute("/post", nil)
			post.Name, post.Methods = "post", []node.Method{"POST"}
			s.Routes = append(s.Routes, post)
		}),
	)
	says := func(req *mesh.Request, n int) *mesh.Response {
		path, _, _ := strings.Cut(req.Target, "&")
		h := []string{"Cache-Control", "max-age=60", "Content-Location", path}
		if req.Header.Get("X-Coded") != "" {
			h = append(h, "Content-Encoding", "deflate")
		}
		return edgetest.Always(200, req.Method, h...)(req, n)
	}
	for _, c := range []struct {
		stored      bool
		path, query string
		more        string // that only the POST has
		header      []string
	}{
		{true, "/0", "", "", nil},
		{true, "/1", "", "", []string{"Accept-Encoding", "gzip, deflate, br"}},
		{true, "/2", "?a=1", "", []string{"Content-Type", "text/plain"}},
		{false, "/3", "", "", []string{"X-Host", "evil.test"}},
		{false, "/4", "", "", []string{"X_Theme", "evil"}},
		{false, "/5", "", "", []string{"X-HTTP-Method-Override", "PUT"}},
		{false, "/6", "", "", []string{"Range", "bytes=0-0"}},
		{false, "/7", "", "", []string{"Range", "items=0-0"}},
		{false, "/8", "", "", []string{"Accept-Encoding", "gzip, deflate, br", "X-Coded", "1"}},
		{false, "/9", "?a=1", "&utm=evil", nil},
		{false, "/post", "", "", nil},
	} {
		r.On(c.path, says)
		post := func() { r.Ask(t, "POST", c.path+c.query+c.more, "q", c.header...) }
		if post(); c.stored { // see TestPostThatSaysSoIsStoredAsGet
			nodetest.Eventually(t, c.path+" is stored", func() bool {
				s := r.Get(t, c.path+c.query)
				if s.Text == "POST" {
					return s.Hit
				}
				post()
				return false
			})
			continue
		}
		if s := r.Get(t, c.path+c.query); s.Hit || s.Text != "GET" {
			t.Errorf("%s %q: %s", c.path, c.header, s)
		}
	}
}
