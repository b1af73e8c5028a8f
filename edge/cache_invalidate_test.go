package edge_test

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
func byMethod(get, other answer) answer {
	return func(r *mesh.Request, n int) *mesh.Response {
		if r.Method == "GET" || r.Method == "HEAD" {
			return get(r, n)
		}
		return other(r, n)
	}
}

func fresh(body string) answer { return always(200, body, "Cache-Control", "max-age=600") }

// An unsafe method makes its target invalid when it succeeds, and what Location and Content-Location name of the same
// origin (§4.4).
func TestCacheRFC9111Section44UnsafeMethods(t *testing.T) {
	r := startCache(t, nil)
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "BREW"} {
		for status, gone := range map[int]bool{200: true, 204: true, 303: true, 404: false, 500: false} {
			path := "/" + method + strconv.Itoa(status)
			r.on(path, byMethod(fresh("%d"), always(status, "")))
			r.get(t, path)
			s := r.ask(t, method, path, "x")
			if s.fwd != "method" || s.stored {
				t.Errorf("%s: %s", method, s)
			}
			if gone {
				r.invalidated(t, method+" made its target invalid", path)
			} else if s := r.get(t, path); !s.hit {
				t.Errorf("%s answered %d: then %s", method, status, s)
			}
		}
	}
	for _, method := range []string{"OPTIONS", "PROPFIND"} {
		r.on("/safe", byMethod(fresh("%d"), always(200, "")))
		r.get(t, "/safe")
		r.ask(t, method, "/safe", "")
		if s := r.get(t, "/safe"); !s.hit {
			t.Errorf("%s made a stored response invalid", method)
		}
	}
}

// Which URIs a response may make invalid beside its own.
func TestCacheRFC9111Section44Locations(t *testing.T) {
	r := startCache(t, nil)
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
		r.on("/b", fresh("%d"))
		r.on(path, always(201, "", c.field, c.value))
		r.get(t, "/b?q=1")
		r.get(t, "/b?q=1", "Host-Is", "the same").wantHit(t, "before", strconv.Itoa(r.count("/b")))
		r.ask(t, "POST", path, "x")
		if c.gone {
			r.invalidated(t, c.field+" "+c.value, "/b?q=1")
		} else if s := r.get(t, "/b?q=1"); !s.hit {
			t.Errorf("%s: %s, then %s", c.field, c.value, s)
		}
	}
	r.on("/port", always(201, "", "Location", "http://example.test:80/b?q=1"))
	r.get(t, "/b?q=1")
	r.ask(t, "POST", "/port", "x")
	r.invalidated(t, "a Location with the default port", "/b?q=1")
}

// Groups of an origin, by Cache-Group-Invalidation of an unsafe request's response (RFC 9875 §3).
func TestCacheRFC9875Section3Groups(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", always(200, "%d", "Cache-Control", "max-age=60", "Cache-Groups", `"g", "h"`))
	r.on("/b", always(200, "%d", "Cache-Control", "max-age=60", "Cache-Groups", `"i"`))
	r.on("/do", always(200, "", "Cache-Group-Invalidation", `"g"`))
	both := func() {
		r.get(t, "/a")
		r.get(t, "/b")
	}
	both()
	r.get(t, "/do")
	r.get(t, "/a").wantHit(t, "after a safe method", "1")
	r.send(t, "POST", "POST /do HTTP/1.1\r\nHost: other.test\r\nContent-Length: 0\r\n\r\n")
	r.get(t, "/a").wantHit(t, "after a request to another origin", "1")
	r.ask(t, "POST", "/do", "x")
	r.invalidated(t, "of the group", "/a")
	r.get(t, "/b").wantHit(t, "of another group", "1")
}

// A POST whose response says that it is what a GET would get is used for GETs (RFC 9110 §9.3.3), and any other isn't.
func TestCacheRFC9110Section933PostAsGet(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = node.Duration(time.Minute) })
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
		r.on(path, byMethod(always(200, "got"), always(200, "posted", c.header...)))
		r.get(t, path)
		r.ask(t, "POST", path, "x").wantFwd(t, "POST", "method", "posted")
		if c.used { // an invalidation that takes its time (see invalidated) takes the response with it
			nodetest.Eventually(t, "the POST's response is used", func() bool {
				s := r.get(t, path)
				if !s.hit || s.body != "posted" {
					r.ask(t, "POST", path, "x")
				}
				return s.hit && s.body == "posted"
			})
			continue
		}
		r.invalidated(t, "the POST made its target invalid", path)
		if s := r.get(t, path); s.body != "got" {
			t.Errorf("%q: %s", c.header, s)
		}
	}
}

// QUERY is safe, and its body is a part of the key (draft-ietf-httpbis-safe-method-w-body).
func TestCacheQueryMethod(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Methods = []node.Method{"GET", "QUERY"} })
	r.on("/q", func(req *mesh.Request, n int) *mesh.Response {
		return always(200, string(req.Body)+" %d", "Cache-Control", "max-age=60")(req, n)
	})
	json := []string{"Content-Type", "application/json"}
	r.ask(t, "QUERY", "/q", "a", json...).wantFwd(t, "a", "uri-miss", "a 1")
	r.ask(t, "QUERY", "/q", "b", json...).wantFwd(t, "b", "uri-miss", "b 2")
	r.ask(t, "QUERY", "/q", "a", json...).wantHit(t, "a again", "a 1")
	r.ask(t, "QUERY", "/q", "b", json...).wantHit(t, "b again", "b 2")
	r.ask(t, "QUERY", "/q", "a", "Content-Type", "text/plain").wantFwd(t, "of another type", "uri-miss", "a 3")
	r.get(t, "/q").wantFwd(t, "GET", "uri-miss", " 4")
	r.ask(t, "QUERY", "/q", "a", json...).wantHit(t, "after a GET", "a 1")
	r.ask(t, "POST", "/q", "a", json...)
	nodetest.Eventually(t, "a POST makes it invalid", func() bool {
		return !r.ask(t, "QUERY", "/q", "a", json...).hit
	})
	none := startCache(t, nil)
	none.on("/q", fresh("%d"))
	for i := range 2 {
		none.ask(t, "QUERY", "/q", "a", json...).wantFwd(t, "a route that doesn't take QUERY", "method",
			strconv.Itoa(i+1))
	}
}

// An unsafe request to a route that doesn't cache makes invalid what another route has stored of the URL (§4.4), and it
// is so for this node's own clients as soon as it is answered.
func TestCacheRFC9111Section44AcrossRoutes(t *testing.T) {
	r := startCache(t, nil, func(s *cacheSetup) {
		post := edgetest.Route("", "/*", func(r *node.Route) { r.Name, r.Methods = "write", []node.Method{"POST"} })
		post.To.Name = "origin"
		s.routes[0].Methods = []node.Method{"GET"}
		s.routes = append(s.routes, post)
	})
	r.on("/a", byMethod(fresh("%d"), always(201, "")))
	for range 10 {
		nodetest.Eventually(t, "it is stored, once the invalidation before is over", func() bool {
			return r.get(t, "/a").hit
		})
		r.ask(t, "POST", "/a", "x")
		if s := r.get(t, "/a"); s.hit {
			t.Fatalf("a client that has written reads what was before: %s", s)
		}
	}
}

// A purge of a URL as clients ask for it reaches what is stored under less of its query.
func TestCachePurgeOfAReducedURL(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Query.Drop = []string{"utm"} })
	r.on("/a", fresh("%d"))
	r.get(t, "/a?q=1&utm=x")
	if s := r.get(t, "/a?q=1&utm=y"); !s.hit {
		t.Fatalf("before: %s", s)
	}
	if _, err := r.cache.Purge(t.Context(), r.URLPurges(t.Context(), "http://example.test/a?q=1&utm=z", false),
		true); err != nil {
		t.Fatal(err)
	}
	if s := r.get(t, "/a?q=1&utm=y"); s.hit {
		t.Errorf("after the purge: %s", s)
	}
}

// The response to a POST stands for that to a GET only if its origin got nothing with it that a GET for others goes
// without, and if the same route has the GETs.
func TestCachePostThatNoGetCouldBe(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Query.Drop = []string{"utm"} }, func(s *cacheSetup) {
		post := cachedRoute("/post", nil)
		post.Name, post.Methods = "post", []node.Method{"POST"}
		s.routes = append(s.routes, post)
	})
	says := func(req *mesh.Request, n int) *mesh.Response {
		path, _, _ := strings.Cut(req.Target, "&")
		h := []string{"Cache-Control", "max-age=60", "Content-Location", path}
		if req.Header.Get("X-Coded") != "" {
			h = append(h, "Content-Encoding", "deflate")
		}
		return always(200, req.Method, h...)(req, n)
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
		r.on(c.path, says)
		post := func() { r.ask(t, "POST", c.path+c.query+c.more, "q", c.header...) }
		if post(); c.stored { // see TestCacheRFC9110Section933PostAsGet
			nodetest.Eventually(t, c.path+" is stored", func() bool {
				s := r.get(t, c.path+c.query)
				if s.body == "POST" {
					return s.hit
				}
				post()
				return false
			})
			continue
		}
		if s := r.get(t, c.path+c.query); s.hit || s.body != "GET" {
			t.Errorf("%s %q: %s", c.path, c.header, s)
		}
	}
}
