package edge_test

import (
	"compress/gzip"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
)

const minute = node.Duration(time.Minute)

func parts(names ...string) []node.RequestPart {
	var out []node.RequestPart
	for _, name := range names {
		var p node.RequestPart
		if err := p.UnmarshalText([]byte(name)); err != nil {
			panic(err)
		}
		out = append(out, p)
	}
	return out
}

// ttl is for successes whose origin says nothing, negative_ttl for errors, force for all that isn't private.
func TestCacheRouteTTL(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL, c.NegativeTTL = minute, minute })
	forced := startCache(t, func(c *node.Cache) { c.TTL, c.Force = minute, true })
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
		f := always(c.status, "")
		if c.control != "" {
			f = always(c.status, "", "Cache-Control", c.control)
		}
		for rig, want := range map[*cacheRig]bool{r: c.plain, forced: c.force} {
			rig.on(path, f)
			rig.get(t, path)
			s := rig.get(t, path)
			if s.hit != want || s.StatusCode != c.status {
				t.Errorf("%d %q, forced %t: %s", c.status, c.control, rig == forced, s)
			}
			if c.status == 204 && len(s.Header.Values("Content-Length")) > 0 { // RFC 9110 §8.6
				t.Errorf("a 204 has a Content-Length: %v", s.Header)
			}
		}
	}
	r.on("/auth", always(200, "%d"))
	forced.on("/auth", always(200, "%d"))
	for _, rig := range []*cacheRig{r, forced} {
		rig.get(t, "/auth", "Authorization", "a")
		rig.get(t, "/auth").wantFwd(t, "after a request with credentials", "uri-miss", "2")
	}
}

// A freshness that only the route names isn't for clients with cookies: they neither fill the cache, nor get what is in
// it, nor drive it out.
func TestCacheRouteTTLWithCookies(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = minute })
	r.on("/a", always(200, "%d"))
	r.get(t, "/a", "Cookie", "id=1").wantFwd(t, "with a cookie", "uri-miss", "1")
	r.get(t, "/a").wantFwd(t, "without", "uri-miss", "2")
	r.get(t, "/a").wantHit(t, "without again", "2")
	r.get(t, "/a", "Cookie", "id=1").wantFwd(t, "with a cookie again", "uri-miss", "3")
	r.get(t, "/a").wantHit(t, "after another's cookie", "2")
	r.on("/said", fresh("%d"))
	r.get(t, "/said", "Cookie", "id=1")
	r.get(t, "/said", "Cookie", "id=2").wantHit(t, "where the origin names the freshness", "1")
	keyed := startCache(t, func(c *node.Cache) { c.TTL, c.Key = minute, parts("cookie:id") })
	keyed.on("/a", always(200, "%d"))
	keyed.get(t, "/a", "Cookie", "id=1")
	keyed.get(t, "/a", "Cookie", "x=2; id=1").wantHit(t, "with the cookie in the key", "1")
	keyed.get(t, "/a", "Cookie", "id=2").wantFwd(t, "with another", "uri-miss", "2")
}

// Responses that set cookies: explicit, pass and strip.
func TestCacheRouteCookies(t *testing.T) {
	for _, c := range []struct {
		cookies      node.Cookies
		said, unsaid bool
	}{{node.CookiesExplicit, true, false}, {node.CookiesPass, false, false}, {node.CookiesStrip, true, true}} {
		r := startCache(t, func(n *node.Cache) { n.Cookies, n.TTL = c.cookies, minute })
		r.on("/said", always(200, "%d", "Set-Cookie", "id=1", "Cache-Control", "max-age=60"))
		r.on("/unsaid", always(200, "%d", "Set-Cookie", "id=1"))
		for path, want := range map[string]bool{"/said": c.said, "/unsaid": c.unsaid} {
			first, s := r.get(t, path, "Cookie", "a=1"), r.get(t, path, "Cookie", "a=2")
			if s.hit != want {
				t.Errorf("%s, %s: %s", c.cookies, path, s)
			}
			for _, s := range []*seen{first, s} {
				if (s.Header.Get("Set-Cookie") == "") != (c.cookies == node.CookiesStrip) {
					t.Errorf("%s, %s: Set-Cookie %q with %s", c.cookies, path, s.Header.Values("Set-Cookie"), s)
				}
			}
			if got := r.last(path).Header.Has("Cookie"); got != (c.cookies != node.CookiesStrip) {
				t.Errorf("%s, %s: the origin got a cookie: %t", c.cookies, path, got)
			}
		}
	}
}

// Which parameters count, and that the origin gets only those.
func TestCacheRouteQuery(t *testing.T) {
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
		r := startCache(t, func(n *node.Cache) { n.Query = c.q })
		r.on("/a", fresh("%d"))
		r.get(t, "/a"+c.first)
		if got := r.last("/a").Target; got != "/a"+c.origin {
			t.Errorf("%s: the origin got %s", name, got)
		}
		r.get(t, "/a"+c.same).wantHit(t, name, "1")
		r.get(t, "/a"+c.other).wantFwd(t, name, "uri-miss", "2")
	}
}

// Fields in the key, and requests that pass by.
func TestCacheRouteKeyAndBypass(t *testing.T) {
	r := startCache(t, func(c *node.Cache) {
		c.Key, c.Bypass = parts("header:X-Tenant"), parts("cookie:session", "header:X-Preview")
	})
	r.on("/a", fresh("%d"))
	r.get(t, "/a", "X-Tenant", "1").wantFwd(t, "one", "uri-miss", "1")
	r.get(t, "/a", "X-Tenant", "2").wantFwd(t, "two", "uri-miss", "2")
	r.get(t, "/a").wantFwd(t, "none", "uri-miss", "3")
	r.get(t, "/a", "X-Tenant", "").wantFwd(t, "empty", "uri-miss", "4")
	r.get(t, "/a", "x-tenant", "1").wantHit(t, "one again", "1")
	for i, h := range [][]string{{"Cookie", "a=1; session=2"}, {"X-Preview", ""}} {
		r.get(t, "/a", append(h, "X-Tenant", "1")...).wantFwd(t, h[0], "bypass", strconv.Itoa(5+i))
	}
	r.get(t, "/a", "X-Tenant", "1", "Cookie", "sessions=2").wantHit(t, "another cookie", "1")
}

// What is larger than max_object goes through whole, and isn't stored.
func TestCacheRouteMaxObject(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.MaxObject = 2 * node.KiB })
	for size, hit := range map[int]bool{2048: true, 2049: false, 700_000: false} {
		body := strings.Repeat("x", size)
		path := "/" + strconv.Itoa(size)
		r.on(path, fresh(body))
		if size > 524_288 {
			r.on(path, func(*mesh.Request, int) *mesh.Response {
				return &mesh.Response{
					Status: 200, Header: fields("Cache-Control", "max-age=60"),
					Stream: mesh.NewBody(strings.NewReader(body)), Length: int64(size),
				}
			})
		}
		if s := r.get(t, path); s.body != body || s.stored != hit {
			t.Errorf("%d: %s", size, s)
		}
		if s := r.get(t, path); s.hit != hit || s.body != body {
			t.Errorf("%d again: %s", size, s)
		}
	}
}

// Text is compressed once, for those who take it; each coding is a representation with an ETag of its own (RFC 9110
// §8.8.3).
func TestCacheRouteCompress(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Compress = true })
	text := strings.Repeat("all work and no play ", 500)
	for path, h := range map[string][]string{
		"/text": {"Content-Type", "text/html"}, "/kept": {"Content-Type", "text/html", "Cache-Control", "no-transform"},
		"/image": {"Content-Type", "image/png"}, "/coded": {"Content-Type", "text/html", "Content-Encoding", "x-own"},
	} {
		r.on(path, always(200, text, append(h, "Cache-Control", "max-age=600", "ETag", `"1"`)...))
		etags := map[string]bool{}
		for _, coding := range []string{"gzip", "br", "zstd", ""} {
			ask := func() *seen {
				if coding == "" {
					return r.get(t, path)
				}
				return r.get(t, path, "Accept-Encoding", coding)
			}
			ask()
			s := ask()
			coded := path == "/text" && coding != ""
			if !s.hit && path == "/text" || (s.body != text) != coded ||
				(coded && s.Header.Get("Content-Encoding") != coding) {
				t.Errorf("%s for %q: %s, %v", path, coding, s, s.Header)
			}
			if path == "/text" && !strings.EqualFold(s.Header.Get("Vary"), "Accept-Encoding") {
				t.Errorf("%s for %q: Vary %q", path, coding, s.Header.Get("Vary"))
			}
			etags[s.Header.Get("ETag")] = true
			if s := r.get(t, path, "Accept-Encoding", coding, "If-None-Match",
				s.Header.Get("ETag")); s.StatusCode != 304 && coded {
				t.Errorf("%s for %q with its own ETag: %s", path, coding, s)
			}
		}
		if want := map[string]int{"/text": 4}[path]; want != 0 && len(etags) != want {
			t.Errorf("%s has the ETags %v", path, etags)
		}
	}
	s := r.get(t, "/text", "Accept-Encoding", "gzip")
	z, err := gzip.NewReader(strings.NewReader(s.body))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := io.ReadAll(z); err != nil || string(plain) != text {
		t.Errorf("decoded to %q, %v", short(string(plain)), err)
	}
}

// A compressed response is validated with the ETag that its origin knows, and stays compressed.
func TestCacheRouteCompressValidates(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Compress = true })
	text := strings.Repeat("all work and no play ", 500)
	r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
		h := []string{"Cache-Control", "max-age=10", "ETag", `"1"`, "Content-Type", "text/plain"}
		if n == 1 {
			h = append(h, "Age", "20")
		}
		if req.Header.Get("If-None-Match") == `"1"` {
			return always(304, "", h...)(req, n)
		}
		return always(200, text, h...)(req, n)
	})
	r.get(t, "/a", "Accept-Encoding", "gzip")
	if s := r.get(t, "/a", "Accept-Encoding", "gzip"); s.status != 304 || s.Header.Get("Content-Encoding") != "gzip" {
		t.Errorf("validated: %s", s)
	}
	s := r.get(t, "/a", "Accept-Encoding", "gzip")
	if !s.hit || s.Header.Get("Content-Encoding") != "gzip" || s.Header.Get("ETag") == `"1"` ||
		len(s.body) >= len(text) {
		t.Errorf("afterwards: %s, %v", s, s.Header)
	}
	if r.count("/a") != 2 {
		t.Errorf("the origin was asked %d times", r.count("/a"))
	}
}

// Tags stay inside where the route says so, and are there otherwise.
func TestCacheRouteStripTags(t *testing.T) {
	for _, strip := range []bool{true, false} {
		r := startCache(t, func(c *node.Cache) { c.StripTags = strip })
		r.on("/a", always(200, "%d", "Cache-Control", "max-age=60", "Cache-Tag", "a", "Surrogate-Key", "b", "xkey", "c",
			"Cache-Groups", `"d"`, "ETag", `"1"`))
		for _, h := range [][]string{nil, nil, {"If-None-Match", `"1"`}, {"Range", "bytes=0-0"}} {
			s := r.get(t, "/a", h...)
			for _, name := range []string{"Cache-Tag", "Surrogate-Key", "xkey", "Cache-Groups"} {
				if (s.Header.Get(name) == "") != strip {
					t.Errorf("strip %t, %q: %s is %q", strip, h, name, s.Header.Get(name))
				}
			}
		}
	}
}
