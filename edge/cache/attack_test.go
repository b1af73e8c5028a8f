package cache_test

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// Fields that frameworks believe more than the request line, and that the key doesn't hold, reach neither the origin
// nor another client (PortSwigger, Practical Web Cache Poisoning).
func TestFieldsOutsideTheKeyReachNobody(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for i, name := range []string{
		"X-Forwarded-Host", "X-Forwarded-Scheme", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix",
		"X-Forwarded-Server", "X-Forwarded-SSL", "X-Forwarded-URL",
		"X-Original-URL", "X-Original-URI", "X-Original-Host", "X-Rewrite-URL", "X-Host", "X-HTTP-Host-Override",
		"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
		"Forwarded", "X_Forwarded_Host", "Millrace-Route", "Nats-Msg-Id", "X-Real-IP", "Proxy-Authorization",
	} {
		path := "/" + strconv.Itoa(i)
		r.On(path, edgetest.Reflecting)
		for _, method := range []string{"GET", "HEAD"} {
			if s := r.Ask(t, method, path+"?"+method, "", name, "evil.test"); strings.Contains(s.Text, "evil.test") {
				t.Errorf("%s reached the origin of a response that is stored: %s", name, s.Text)
			}
			if method == "HEAD" && strings.Contains(r.Last(path).Header.Get(name), "evil.test") {
				t.Errorf("%s reached the origin with HEAD", name)
			}
		}
		if s := r.Get(t, path+"?GET"); strings.Contains(s.Text, "evil.test") {
			t.Errorf("%s reached another client", name)
		}
	}
}

// A GET with a body (fat GET): the origin gets it as it is, and its response is for nobody else. Once a response to the
// URL is stored, the body lets nobody ask past it (RFC 9110 §9.3.1: it can't alter what the request means).
func TestResponseToAGetWithABodyIsForThatClientOnly(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	r.On("/a", edgetest.Reflecting)
	for range 2 {
		s := r.Ask(t, "GET", "/a", "param=evil")
		if s.Fwd != "uri-miss" || s.Detail != "request-content" || !strings.Contains(s.Text, "param=evil") || s.Stored {
			t.Errorf("fat GET: %s", s)
		}
	}
	chunked := "GET /a HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"
	s := r.Send(t, "GET", chunked)
	if s.Fwd != "uri-miss" || !strings.Contains(s.Text, "evil") || s.Stored {
		t.Errorf("fat GET in chunks: %s", s)
	}
	s = r.Get(t, "/a")
	if s.Hit || strings.Contains(s.Text, "evil") {
		t.Errorf("after fat GETs: %s", s)
	}
	for _, body := range []string{"", "param=evil"} {
		r.Ask(t, "GET", "/a", body).WantHit(t, "what is stored, with the body "+body, s.Text)
	}
}

// Delimiters that one side might understand and the other not: what isn't the same URL is never the same key, and what
// the origin gets is what the key was (PortSwigger, Gotta cache 'em all).
func TestDelimitersOfPathsMakeDifferentKeys(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	seen := map[string]string{}
	for _, target := range []string{
		"/account", "/account;x.css", "/account%3Bx.css", "/account%23x.css", "/account%3Fx.css", "/account?x.css",
		"/account/x.css", "/account%20x.css", "/account!x.css",
		"/account//x.css", "/Account", "/account.css", "/account%2Ecss?", "/account~x.css", "/account:x.css",
		"/account&x.css",
	} {
		path, _, _ := strings.Cut(target, "?")
		r.On(strings.ReplaceAll(path, "%2E", "."), edgetest.Reflecting)
		first := r.Get(t, target)
		if first.StatusCode != 200 || first.Hit {
			t.Errorf("%s: %s", target, first)
		}
		got, _, _ := strings.Cut(strings.TrimPrefix(first.Text, "GET "), " ")
		if got != strings.ReplaceAll(target, "%2E", ".") {
			t.Errorf("%s reached the origin as %s", target, got)
		}
		if before, known := seen[first.Text]; known {
			t.Errorf("%s and %s are the same to the cache", target, before)
		}
		seen[first.Text] = target
		r.Get(t, target).WantHit(t, target, first.Text)
	}
	for _, target := range []string{
		"/account%00.css", "/account%0a.css", "/account%0D%0Ax.css", "/account\\x.css",
		"/a/..%2faccount", "/a/../account", "/account%2f..%2fx.css", "/account#x.css",
	} {
		if s := r.Get(t, target); s.StatusCode < 400 || s.Hit {
			t.Errorf("%s: %s", target, s)
		}
	}
}

// No suffix of a path makes a response storable that the origin hasn't said anything about (web cache deception).
func TestSuffixOfAPathMakesNothingStorable(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for _, path := range []string{"/account/x.css", "/account;x.js", "/account%0bx.png", "/x.ico", "/robots.txt"} {
		r.On(path, edgetest.Always(200, "secret %d", "Content-Type", "text/html"))
		r.Get(t, path)
		if s := r.Get(t, path); s.Hit {
			t.Errorf("%s: %s", path, s)
		}
	}
	r.On("/session.css",
		edgetest.Always(200, "secret %d", "Set-Cookie", "id=1", "Last-Modified", edgetest.HTTPDate(time.Hour)))
	r.Get(t, "/session.css")
	if s := r.Get(t, "/session.css"); s.Hit {
		t.Errorf("a session was cached: %s", s)
	}
}

// What the gateway itself refuses or can't answer is never stored (CPDoS).
func TestOwnErrorsAreNotStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) {
		c.TTL, c.NegativeTTL = node.Duration(time.Minute), node.Duration(time.Minute)
	}))
	r.On("/a", edgetest.Fresh("good"))
	for name, request := range map[string]string{
		"oversized head": "GET /a HTTP/1.1\r\nHost: example.test\r\nX-Oversized: " + strings.Repeat("x", 70_000) +
			"\r\n\r\n",
		"meta character": "GET /a HTTP/1.1\r\nHost: example.test\r\nX-Meta: a\x01b\r\n\r\n",
		"two lengths":    "GET /a HTTP/1.1\r\nHost: example.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"expectation":    "GET /a HTTP/1.1\r\nHost: example.test\r\nExpect: nonsense\r\n\r\n",
		"loop":           "GET /a HTTP/1.1\r\nHost: example.test\r\nVia: 1.1 millrace-abc\r\n\r\n",
		"method":         "TRACE /a HTTP/1.1\r\nHost: example.test\r\n\r\n",
	} {
		if s := r.Send(t, "GET", request); s.StatusCode < 400 || s.Hit || s.Header.Get("Age") != "" {
			t.Errorf("%s: %s", name, s)
		}
		if s := r.Get(t, "/a?"+strings.ReplaceAll(name, " ", "-")); s.StatusCode != 200 || s.Hit {
			t.Errorf("after %s: %s", name, s)
		}
	}
	r.Get(t, "/a").WantFwd(t, "after all of them", "uri-miss", "good")
}

// An origin's error to a request that is odd isn't for others, unless the origin says for how long (CPDoS).
func TestErrorsOfTheOriginAreNotStoredUnlessItSaysSo(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	for _, status := range []int{400, 403, 404, 413, 414, 429, 431, 500, 501, 503} {
		path := "/" + strconv.Itoa(status)
		r.On(path, edgetest.InTurn(edgetest.Always(status, "bad"), edgetest.Always(200, "good")))
		if s := r.Get(t, path, "X-Odd", "1"); s.StatusCode != status {
			t.Errorf("%d: %s", status, s)
		}
		if s := r.Get(t, path); s.StatusCode != 200 || s.Hit {
			t.Errorf("after a %d: %s", status, s)
		}
	}
	r.On("/said",
		edgetest.InTurn(edgetest.Always(404, "gone", "Cache-Control", "max-age=60"), edgetest.Always(200, "good")))
	r.Get(t, "/said")
	r.Get(t, "/said").WantHit(t, "a 404 with a freshness of its own", "gone")
}

// A method override doesn't make a GET's response out of another method's.
func TestMethodOverrideIsNotAnsweredToAGet(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
			if v := req.Header.Get(name); v != "" {
				return edgetest.Always(200, "did "+v)(req, n)
			}
		}
		return edgetest.Always(200, "did "+req.Method)(req, n)
	})
	for _, name := range []string{
		"X-HTTP-Method-Override", "x-http-method", "X-Method-Override",
		"X_HTTP_Method_Override",
	} {
		if s := r.Get(t, "/a?"+name, name, "DELETE"); s.Text != "did GET" {
			t.Errorf("%s: %s", name, s)
		}
	}
	if s := r.Ask(t, "POST", "/a", "x", "X-HTTP-Method-Override", "PATCH"); s.Text != "did PATCH" {
		t.Errorf("a POST may still be overridden, it isn't cached: %s", s)
	}
}

// Spellings of one host share a key only where they mean one host, and two hosts never do.
func TestSpellingsOfOneHostShareAKey(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		return edgetest.Always(200, strings.ToLower(req.Host)+" %d", "Cache-Control", "max-age=60")(req, n)
	})
	ask := func(line, host string) *edgetest.Seen {
		return r.Send(t, "GET", "GET "+line+" HTTP/1.1\r\n"+host+"\r\n")
	}
	ask("/a", "Host: example.test\r\n").WantFwd(t, "first", "uri-miss", "example.test 1")
	ask("/a", "Host: EXAMPLE.test\r\n").WantHit(t, "case", "example.test 1")
	ask("/a", "Host: example.test:80\r\n").WantHit(t, "default port", "example.test 1")
	ask("/a", "Host: example.test.\r\n").WantHit(t, "a dot at the end", "example.test 1")
	ask("http://example.test/a", "Host: example.test\r\n").WantHit(t, "absolute-form", "example.test 1")
	for i, host := range []string{"example.test:8080", "other.test", "example.test:443"} {
		if s := ask("/a", "Host: "+host+"\r\n"); s.Hit || s.Text != host+" "+strconv.Itoa(i+2) {
			t.Errorf("%s: %s", host, s)
		}
	}
	if s := ask("http://evil.test/a", "Host: example.test\r\n"); strings.HasPrefix(s.Text, "example.test ") ||
		(s.StatusCode == 200 && !strings.HasPrefix(s.Text, "evil.test ")) {
		t.Errorf("absolute-form against Host: %s", s) // RFC 9112 §3.2.2: the target wins
	}
	for _, host := range []string{
		"Host: a.test\r\nHost: example.test\r\n", "", "Host: example.test, a.test\r\n",
		"Host: example.test/x\r\n", "Host: a@example.test\r\n", "Host: example.test:80:80\r\n",
	} {
		if s := ask("/a", host); s.StatusCode != 400 {
			t.Errorf("%q: %s", host, s)
		}
	}
	ask("/a", "Host: example.test\r\n").WantHit(t, "after all of them", "example.test 1")
}

// Parameters keep their order and their doubles, and no delimiter but & counts (parameter cloaking).
func TestParametersKeepTheirOrderAndDoubles(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Query.Drop = []string{"utm"} }))
	r.On("/a", edgetest.Reflecting)
	for _, c := range []struct{ query, origin string }{
		{"?a=1&a=2", "?a=1&a=2"},
		{"?a=2&a=1", "?a=2&a=1"},
		{"?utm=1;a=3&a=1", "?a=1"},
		{"?utm=x%26a=3&a=5", "?a=5"},
		{"?a=6&%75tm=3", "?a=6"},
		{"?a=7&UTM=3", "?a=7&UTM=3"},
		{"?utm=1", ""},
		{"?a=8&utm[]=1", "?a=8&utm[]=1"},
		{"?a=9;utm=1", "?a=9;utm=1"},
		{"?", "?"},
	} {
		s := r.Get(t, "/a"+c.query)
		got, _, _ := strings.Cut(strings.TrimPrefix(s.Text, "GET /a"), " ")
		if s.Hit || got != c.origin {
			t.Errorf("%s reached the origin as %q, want %q: %s", c.query, got, c.origin, s)
		}
	}
}

// Two requests on one connection don't get each other's answers, hit or miss (response queue poisoning).
func TestPipelinedRequestsGetTheirOwnResponses(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for _, path := range []string{"/a", "/b", "/c"} {
		r.On(path, edgetest.Fresh(path+" %d"))
	}
	r.Get(t, "/a")
	c := r.Dial(t)
	defer c.Close()
	var b strings.Builder
	order := []string{"/a", "/b", "/a", "/c", "/b", "/a"}
	for _, path := range order {
		b.WriteString("GET " + path + " HTTP/1.1\r\nHost: example.test\r\n\r\n")
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(c)
	for i, path := range order {
		if s := edgetest.Receive(t, from, "GET"); s.Text != path+" 1" {
			t.Errorf("answer %d: %s, want %s", i, s, path)
		}
	}
}
