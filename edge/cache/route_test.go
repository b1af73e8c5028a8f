package cache_test

import (
	"compress/gzip"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

const minute = node.Duration(time.Minute)

// ttl is for successes whose origin says nothing, negative_ttl for errors, force for all that isn't private.
func TestRouteTTLIsForWhatTheOriginLeavesOpen(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL, c.NegativeTTL = minute, minute }))
	forced := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL, c.Force = minute, true }))
	for i, c := range []struct {
		status       int
		control      string
		plain, force bool
	}{
		{200, "", true, true},
		{404, "", true, false},
		{410, "", true, false},
		{403, "", false, false},
		{500, "", false, false},
		{302, "", false, false},
		{301, "", true, true},
		{200, "max-age=0", false, true},
		{200, "no-store", false, true},
		{200, "no-cache", false, true},
		{200, "private", false, false},
		{204, "", true, true},
	} {
		path := "/" + strconv.Itoa(i)
		f := edgetest.Always(c.status, "")
		if c.control != "" {
			f = edgetest.Always(c.status, "", "Cache-Control", c.control)
		}
		for rig, want := range map[*edgetest.Rig]bool{r: c.plain, forced: c.force} {
			rig.On(path, f)
			rig.Get(t, path)
			s := rig.Get(t, path)
			if s.Hit != want || s.StatusCode != c.status {
				t.Errorf("%d %q, forced %t: %s", c.status, c.control, rig == forced, s)
			}
			if c.status == 204 && len(s.Header.Values("Content-Length")) > 0 { // RFC 9110 §8.6
				t.Errorf("a 204 has a Content-Length: %v", s.Header)
			}
		}
	}
	r.On("/auth", edgetest.Always(200, "%d"))
	forced.On("/auth", edgetest.Always(200, "%d"))
	for _, rig := range []*edgetest.Rig{r, forced} {
		rig.Get(t, "/auth", "Authorization", "a")
		rig.Get(t, "/auth").WantFwd(t, "after a request with credentials", "uri-miss", "2")
	}
}

// A freshness that only the route names isn't for clients with cookies: they neither fill the cache, nor get what is in
// it, nor drive it out.
func TestRouteTTLIsNotForClientsWithCookies(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = minute }))
	r.On("/a", edgetest.Always(200, "%d"))
	r.Get(t, "/a", "Cookie", "id=1").WantFwd(t, "with a cookie", "uri-miss", "1")
	r.Get(t, "/a").WantFwd(t, "without", "uri-miss", "2")
	r.Get(t, "/a").WantHit(t, "without again", "2")
	r.Get(t, "/a", "Cookie", "id=1").WantFwd(t, "with a cookie again", "uri-miss", "3")
	r.Get(t, "/a").WantHit(t, "after another's cookie", "2")
	r.On("/said", edgetest.Fresh("%d"))
	r.Get(t, "/said", "Cookie", "id=1")
	r.Get(t, "/said", "Cookie", "id=2").WantHit(t, "where the origin names the freshness", "1")
	keyed := edgetest.Start(t,
		edgetest.Cached(func(c *node.Cache) { c.TTL, c.Key = minute, edgetest.RequestParts("cookie:id") }))
	keyed.On("/a", edgetest.Always(200, "%d"))
	keyed.Get(t, "/a", "Cookie", "id=1")
	keyed.Get(t, "/a", "Cookie", "x=2; id=1").WantHit(t, "with the cookie in the key", "1")
	keyed.Get(t, "/a", "Cookie", "id=2").WantFwd(t, "with another", "uri-miss", "2")
}

// Responses that set cookies: explicit, pass and strip.
func TestSetCookieIsStoredAsTheRouteSays(t *testing.T) {
	for _, c := range []struct {
		cookies      node.Cookies
		said, unsaid bool
	}{{node.CookiesExplicit, true, false}, {node.CookiesPass, false, false}, {node.CookiesStrip, true, true}} {
		r := edgetest.Start(t, edgetest.Cached(func(n *node.Cache) { n.Cookies, n.TTL = c.cookies, minute }))
		r.On("/said", edgetest.Always(200, "%d", "Set-Cookie", "id=1", "Cache-Control", "max-age=60"))
		r.On("/unsaid", edgetest.Always(200, "%d", "Set-Cookie", "id=1"))
		for path, want := range map[string]bool{"/said": c.said, "/unsaid": c.unsaid} {
			first, s := r.Get(t, path, "Cookie", "a=1"), r.Get(t, path, "Cookie", "a=2")
			if s.Hit != want {
				t.Errorf("%s, %s: %s", c.cookies, path, s)
			}
			for _, s := range []*edgetest.Seen{first, s} {
				if (s.Header.Get("Set-Cookie") == "") != (c.cookies == node.CookiesStrip) {
					t.Errorf("%s, %s: Set-Cookie %q with %s", c.cookies, path, s.Header.Values("Set-Cookie"), s)
				}
			}
			if got := r.Last(path).Header.Has("Cookie"); got != (c.cookies != node.CookiesStrip) {
				t.Errorf("%s, %s: the origin got a cookie: %t", c.cookies, path, got)
			}
		}
	}
}

// Which parameters count, and that the origin gets only those.
func TestQueryIsReducedForKeyAndOrigin(t *testing.T) {
	for name, c := range map[string]struct {
		q             node.Query
		first, origin string
		same, other   string
	}{
		"keep": {node.Query{Keep: []string{"a", "b"}}, "?b=1&utm=2&a=3", "?b=1&a=3", "?b=1&a=3&x=9", "?a=3&b=1"},
		"drop": {node.Query{Drop: []string{"utm"}}, "?b=1&utm=2&a=3", "?b=1&a=3", "?utm=9&b=1&a=3", "?b=1"},
		"sort": {node.Query{Sort: true}, "?b=1&a=3&b=0", "?a=3&b=1&b=0", "?b=1&b=0&a=3", "?b=0&b=1&a=3"},
		"none": {node.Query{}, "?b=1&a=3", "?b=1&a=3", "?b=1&a=3", "?a=3&b=1"},
	} {
		r := edgetest.Start(t, edgetest.Cached(func(n *node.Cache) { n.Query = c.q }))
		r.On("/a", edgetest.Fresh("%d"))
		r.Get(t, "/a"+c.first)
		if got := r.Last("/a").Target; got != "/a"+c.origin {
			t.Errorf("%s: the origin got %s", name, got)
		}
		r.Get(t, "/a"+c.same).WantHit(t, name, "1")
		r.Get(t, "/a"+c.other).WantFwd(t, name, "uri-miss", "2")
	}
}

// Fields in the key, and requests that pass by.
func TestRouteAddsToTheKeyAndBypasses(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) {
		c.Key, c.Bypass = edgetest.RequestParts(
			"header:X-Tenant"), edgetest.RequestParts("cookie:session", "header:X-Preview")
	}))
	r.On("/a", edgetest.Fresh("%d"))
	r.Get(t, "/a", "X-Tenant", "1").WantFwd(t, "one", "uri-miss", "1")
	r.Get(t, "/a", "X-Tenant", "2").WantFwd(t, "two", "uri-miss", "2")
	r.Get(t, "/a").WantFwd(t, "none", "uri-miss", "3")
	r.Get(t, "/a", "X-Tenant", "").WantFwd(t, "empty", "uri-miss", "4")
	r.Get(t, "/a", "x-tenant", "1").WantHit(t, "one again", "1")
	for i, h := range [][]string{{"Cookie", "a=1; session=2"}, {"X-Preview", ""}} {
		r.Get(t, "/a", append(h, "X-Tenant", "1")...).WantFwd(t, h[0], "bypass", strconv.Itoa(5+i))
	}
	r.Get(t, "/a", "X-Tenant", "1", "Cookie", "sessions=2").WantHit(t, "another cookie", "1")
}

// What is larger than max_object goes through whole, and isn't stored.
func TestLargerThanMaxObjectIsNotStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.MaxObject = 2 * node.KiB }))
	for size, hit := range map[int]bool{2048: true, 2049: false, 700_000: false} {
		body := strings.Repeat("x", size)
		path := "/" + strconv.Itoa(size)
		r.On(path, edgetest.Fresh(body))
		if size > 524_288 {
			r.On(path, func(*mesh.Request, int) *mesh.Response {
				return &mesh.Response{
					Status: 200, Header: edgetest.Fields("Cache-Control", "max-age=60"),
					Stream: mesh.NewBody(strings.NewReader(body)), Length: int64(size),
				}
			})
		}
		if s := r.Get(t, path); s.Text != body || s.Stored != hit {
			t.Errorf("%d: %s", size, s)
		}
		if s := r.Get(t, path); s.Hit != hit || s.Text != body {
			t.Errorf("%d again: %s", size, s)
		}
	}
}

// Text is compressed once, for those who take it; each coding is a representation with an ETag of its own (RFC 9110
// §8.8.3).
func TestTextIsCompressedForThoseWhoTakeIt(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Compress = true }))
	text := strings.Repeat("all work and no play ", 500)
	for path, h := range map[string][]string{
		"/text": {"Content-Type", "text/html"}, "/kept": {"Content-Type", "text/html", "Cache-Control", "no-transform"},
		"/image": {"Content-Type", "image/png"}, "/coded": {"Content-Type", "text/html", "Content-Encoding", "x-own"},
	} {
		r.On(path, edgetest.Always(200, text, append(h, "Cache-Control", "max-age=600", "ETag", `"1"`)...))
		etags := map[string]bool{}
		for _, coding := range []string{"gzip", "br", "zstd", ""} {
			ask := func() *edgetest.Seen {
				if coding == "" {
					return r.Get(t, path)
				}
				return r.Get(t, path, "Accept-Encoding", coding)
			}
			ask()
			s := ask()
			coded := path == "/text" && coding != ""
			if !s.Hit && path == "/text" || (s.Text != text) != coded ||
				(coded && s.Header.Get("Content-Encoding") != coding) {
				t.Errorf("%s for %q: %s, %v", path, coding, s, s.Header)
			}
			if path == "/text" && !strings.EqualFold(s.Header.Get("Vary"), "Accept-Encoding") {
				t.Errorf("%s for %q: Vary %q", path, coding, s.Header.Get("Vary"))
			}
			etags[s.Header.Get("ETag")] = true
			if s := r.Get(t, path, "Accept-Encoding", coding, "If-None-Match",
				s.Header.Get("ETag")); s.StatusCode != 304 && coded {
				t.Errorf("%s for %q with its own ETag: %s", path, coding, s)
			}
		}
		if want := map[string]int{"/text": 4}[path]; want != 0 && len(etags) != want {
			t.Errorf("%s has the ETags %v", path, etags)
		}
	}
	s := r.Get(t, "/text", "Accept-Encoding", "gzip")
	z, err := gzip.NewReader(strings.NewReader(s.Text))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(z); err != nil || string(plain) != text {
		t.Errorf("decoded to %q, %v", edgetest.Shorten(string(plain)), err)
	}
}

// A compressed response is validated with the ETag that its origin knows, and stays compressed.
func TestCompressedResponseIsValidatedWithTheOriginsETag(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Compress = true }))
	text := strings.Repeat("all work and no play ", 500)
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		h := []string{"Cache-Control", "max-age=10", "ETag", `"1"`, "Content-Type", "text/plain"}
		if n == 1 {
			h = append(h, "Age", "20")
		}
		if req.Header.Get("If-None-Match") == `"1"` {
			return edgetest.Always(304, "", h...)(req, n)
		}
		return edgetest.Always(200, text, h...)(req, n)
	})
	r.Get(t, "/a", "Accept-Encoding", "gzip")
	if s := r.Get(t, "/a", "Accept-Encoding", "gzip"); s.FwdStatus != 304 ||
		s.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("validated: %s", s)
	}
	s := r.Get(t, "/a", "Accept-Encoding", "gzip")
	if !s.Hit || s.Header.Get("Content-Encoding") != "gzip" || s.Header.Get("ETag") == `"1"` ||
		len(s.Text) >= len(text) {
		t.Errorf("afterwards: %s, %v", s, s.Header)
	}
	if r.Count("/a") != 2 {
		t.Errorf("the origin was asked %d times", r.Count("/a"))
	}
}

// Tags stay inside where the route says so, and are there otherwise.
func TestTagsAreStrippedWhereTheRouteSaysSo(t *testing.T) {
	for _, strip := range []bool{true, false} {
		r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.StripTags = strip }))
		r.On(
			"/a",
			edgetest.Always(200, "%d", "Cache-Control", "max-age=60", "Cache-Tag", "a", "Surrogate-Key", "b",
				"xkey", "c", "Cache-Groups", `"d"`, "ETag", `"1"`),
		)
		for _, h := range [][]string{nil, nil, {"If-None-Match", `"1"`}, {"Range", "bytes=0-0"}} {
			s := r.Get(t, "/a", h...)
			for _, name := range []string{"Cache-Tag", "Surrogate-Key", "xkey", "Cache-Groups"} {
				if (s.Header.Get(name) == "") != strip {
					t.Errorf("strip %t, %q: %s is %q", strip, h, name, s.Header.Get(name))
				}
			}
		}
	}
}

// The freshness that a route names is the one that is told and kept: cache: 30s isn't 28 seconds.
func TestRouteTTLIsToldAsItIs(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(30 * time.Second) }))
	for i := range 40 {
		path := "/" + strconv.Itoa(i)
		r.On(path, edgetest.Always(200, "%d"))
		r.Get(t, path)
		if s := r.Get(t, path); !s.Hit || s.TTL < 29 || s.TTL > 30 {
			t.Errorf("%s: %s", path, s)
		}
	}
}

// With compress every response says that it depends on Accept-Encoding, the first of each coding too, and each client
// gets the same as all after it.
func TestFirstCompressedResponseVaries(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Compress = true }))
	text := strings.Repeat("all work and no play ", 500)
	html := []string{"Content-Type", "text/html", "Cache-Control", "max-age=600"}
	r.On("/a",
		edgetest.Always(200, text, append(html, "ETag", `"1"`, "Content-Digest", "sha-256=:x:", "Vary", "X-A")...))
	for _, coding := range []string{"gzip", "br", "zstd", ""} {
		h := []string{"Accept-Encoding", coding}
		if coding == "" {
			h = nil
		}
		first, second := r.Get(t, "/a", h...), r.Get(t, "/a", h...)
		if first.Hit || !second.Hit {
			t.Errorf("%q: %s, then %s", coding, first, second)
		}
		for _, s := range []*edgetest.Seen{first, second} {
			if vary := strings.ToLower(s.Header.Get("Vary")); vary != "accept-encoding, x-a" {
				t.Errorf("%q: Vary %q of %s", coding, vary, s)
			}
			if s.Header.Get("Content-Encoding") != coding || (coding != "" && s.Header.Get("Content-Digest") != "") {
				t.Errorf("%q: %v", coding, s.Header)
			}
		}
		if first.Text != second.Text || first.Header.Get("ETag") != second.Header.Get("ETag") {
			t.Errorf("%q: the first got another representation: %v, then %v", coding, first.Header, second.Header)
		}
	}
	s := r.Get(t, "/a", "Accept-Encoding", "gzip", "X-A", "1")
	z, err := gzip.NewReader(strings.NewReader(s.Text))
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	if plain, err := io.ReadAll(z); err != nil || string(plain) != text {
		t.Errorf("decoded to %q, %v", edgetest.Shorten(string(plain)), err)
	}
	r.On("/b", func(req *mesh.Request, _ int) *mesh.Response {
		resp := &mesh.Response{
			Status: 200,
			Header: edgetest.Fields(append(html, "Content-Length", strconv.Itoa(len(text)))...),
		}
		if req.Method == "GET" {
			resp.Body = []byte(text)
		}
		return resp
	})
	if s := r.Ask(t, "HEAD", "/b", ""); !strings.EqualFold(s.Header.Get("Vary"), "Accept-Encoding") {
		t.Errorf("HEAD of what isn't stored: %v", s.Header)
	}
	r.On("/post", edgetest.Always(200, text, append(html, "Content-Location", "/post")...))
	if s := r.Ask(t, "POST", "/post", "x", "Accept-Encoding", "gzip"); s.Text != text {
		t.Errorf("the response to a POST is compressed: %s", s)
	}
}
