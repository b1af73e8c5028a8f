package edge_test

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// reflecting is an origin that believes whatever a request says, and repeats it.
func reflecting(req *mesh.Request, n int) *mesh.Response {
	var b strings.Builder
	b.WriteString(req.Method + " " + req.Target + " " + req.Host + " " + string(req.Body) + "\n")
	for _, f := range req.Header {
		if !strings.EqualFold(f.Name, "X-Request-Id") && !strings.EqualFold(f.Name, "Traceparent") {
			b.WriteString(f.Name + ": " + f.Value + "\n")
		}
	}
	return &mesh.Response{
		Status: 200, Header: fields("Cache-Control", "max-age=600", "X-N", strconv.Itoa(n)),
		Body: []byte(b.String()),
	}
}

// Fields that frameworks believe more than the request line, and that the key doesn't hold, reach neither the origin
// nor another client (PortSwigger, Practical Web Cache Poisoning).
func TestCacheAttackUnkeyedHeaders(t *testing.T) {
	r := startCache(t, nil)
	for i, name := range []string{
		"X-Forwarded-Host", "X-Forwarded-Scheme", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix",
		"X-Forwarded-Server", "X-Forwarded-SSL", "X-Forwarded-URL",
		"X-Original-URL", "X-Original-URI", "X-Original-Host", "X-Rewrite-URL", "X-Host", "X-HTTP-Host-Override",
		"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override",
		"Forwarded", "X_Forwarded_Host", "Millrace-Route", "Nats-Msg-Id", "X-Real-IP", "Proxy-Authorization",
	} {
		path := "/" + strconv.Itoa(i)
		r.on(path, reflecting)
		for _, method := range []string{"GET", "HEAD"} {
			if s := r.ask(t, method, path+"?"+method, "", name, "evil.test"); strings.Contains(s.body, "evil.test") {
				t.Errorf("%s reached the origin of a response that is stored: %s", name, s.body)
			}
			if method == "HEAD" && strings.Contains(r.last(path).Header.Get(name), "evil.test") {
				t.Errorf("%s reached the origin with HEAD", name)
			}
		}
		if s := r.get(t, path+"?GET"); strings.Contains(s.body, "evil.test") {
			t.Errorf("%s reached another client", name)
		}
	}
}

// A GET with a body (fat GET): the origin gets it as it is, and its response is for nobody else. Once a response to the
// URL is stored, the body lets nobody ask past it (RFC 9110 §9.3.1: it can't alter what the request means).
func TestCacheAttackFatGet(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = node.Duration(time.Minute) })
	r.on("/a", reflecting)
	for range 2 {
		s := r.ask(t, "GET", "/a", "param=evil")
		if s.fwd != "uri-miss" || s.detail != "request-content" || !strings.Contains(s.body, "param=evil") || s.stored {
			t.Errorf("fat GET: %s", s)
		}
	}
	chunked := "GET /a HTTP/1.1\r\nHost: example.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n"
	s := r.send(t, "GET", chunked)
	if s.fwd != "uri-miss" || !strings.Contains(s.body, "evil") || s.stored {
		t.Errorf("fat GET in chunks: %s", s)
	}
	s = r.get(t, "/a")
	if s.hit || strings.Contains(s.body, "evil") {
		t.Errorf("after fat GETs: %s", s)
	}
	for _, body := range []string{"", "param=evil"} {
		r.ask(t, "GET", "/a", body).wantHit(t, "what is stored, with the body "+body, s.body)
	}
}

// Delimiters that one side might understand and the other not: what isn't the same URL is never the same key, and what
// the origin gets is what the key was (PortSwigger, Gotta cache 'em all).
func TestCacheAttackPathDelimiters(t *testing.T) {
	r := startCache(t, nil)
	seen := map[string]string{}
	for _, target := range []string{
		"/account", "/account;x.css", "/account%3Bx.css", "/account%23x.css", "/account%3Fx.css", "/account?x.css",
		"/account/x.css", "/account%20x.css", "/account!x.css",
		"/account//x.css", "/Account", "/account.css", "/account%2Ecss?", "/account~x.css", "/account:x.css",
		"/account&x.css",
	} {
		path, _, _ := strings.Cut(target, "?")
		r.on(strings.ReplaceAll(path, "%2E", "."), reflecting)
		first := r.get(t, target)
		if first.StatusCode != 200 || first.hit {
			t.Errorf("%s: %s", target, first)
		}
		got, _, _ := strings.Cut(strings.TrimPrefix(first.body, "GET "), " ")
		if got != strings.ReplaceAll(target, "%2E", ".") {
			t.Errorf("%s reached the origin as %s", target, got)
		}
		if before, known := seen[first.body]; known {
			t.Errorf("%s and %s are the same to the cache", target, before)
		}
		seen[first.body] = target
		r.get(t, target).wantHit(t, target, first.body)
	}
	for _, target := range []string{
		"/account%00.css", "/account%0a.css", "/account%0D%0Ax.css", "/account\\x.css",
		"/a/..%2faccount", "/a/../account", "/account%2f..%2fx.css", "/account#x.css",
	} {
		if s := r.get(t, target); s.StatusCode < 400 || s.hit {
			t.Errorf("%s: %s", target, s)
		}
	}
}

// No suffix of a path makes a response storable that the origin hasn't said anything about (web cache deception).
func TestCacheAttackDeceptionBySuffix(t *testing.T) {
	r := startCache(t, nil)
	for _, path := range []string{"/account/x.css", "/account;x.js", "/account%0bx.png", "/x.ico", "/robots.txt"} {
		r.on(path, always(200, "secret %d", "Content-Type", "text/html"))
		r.get(t, path)
		if s := r.get(t, path); s.hit {
			t.Errorf("%s: %s", path, s)
		}
	}
	r.on("/session.css", always(200, "secret %d", "Set-Cookie", "id=1", "Last-Modified", httpDate(time.Hour)))
	r.get(t, "/session.css")
	if s := r.get(t, "/session.css"); s.hit {
		t.Errorf("a session was cached: %s", s)
	}
}

// What the gateway itself refuses or can't answer is never stored (CPDoS).
func TestCacheAttackGeneratedErrors(t *testing.T) {
	r := startCache(t, func(c *node.Cache) {
		c.TTL, c.NegativeTTL = node.Duration(time.Minute), node.Duration(time.Minute)
	})
	r.on("/a", fresh("good"))
	for name, request := range map[string]string{
		"oversized head": "GET /a HTTP/1.1\r\nHost: example.test\r\nX-Oversized: " + strings.Repeat("x", 70_000) +
			"\r\n\r\n",
		"meta character": "GET /a HTTP/1.1\r\nHost: example.test\r\nX-Meta: a\x01b\r\n\r\n",
		"two lengths":    "GET /a HTTP/1.1\r\nHost: example.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
		"expectation":    "GET /a HTTP/1.1\r\nHost: example.test\r\nExpect: nonsense\r\n\r\n",
		"loop":           "GET /a HTTP/1.1\r\nHost: example.test\r\nVia: 1.1 millrace-abc\r\n\r\n",
		"method":         "TRACE /a HTTP/1.1\r\nHost: example.test\r\n\r\n",
	} {
		if s := r.send(t, "GET", request); s.StatusCode < 400 || s.hit || s.Header.Get("Age") != "" {
			t.Errorf("%s: %s", name, s)
		}
		if s := r.get(t, "/a?"+strings.ReplaceAll(name, " ", "-")); s.StatusCode != 200 || s.hit {
			t.Errorf("after %s: %s", name, s)
		}
	}
	r.get(t, "/a").wantFwd(t, "after all of them", "uri-miss", "good")
}

// An origin's error to a request that is odd isn't for others, unless the origin says for how long (CPDoS).
func TestCacheAttackErrorsOfTheOrigin(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = node.Duration(time.Minute) })
	for _, status := range []int{400, 403, 404, 413, 414, 429, 431, 500, 501, 503} {
		path := "/" + strconv.Itoa(status)
		r.on(path, inTurn(always(status, "bad"), always(200, "good")))
		if s := r.get(t, path, "X-Odd", "1"); s.StatusCode != status {
			t.Errorf("%d: %s", status, s)
		}
		if s := r.get(t, path); s.StatusCode != 200 || s.hit {
			t.Errorf("after a %d: %s", status, s)
		}
	}
	r.on("/said", inTurn(always(404, "gone", "Cache-Control", "max-age=60"), always(200, "good")))
	r.get(t, "/said")
	r.get(t, "/said").wantHit(t, "a 404 with a freshness of its own", "gone")
}

// A method override doesn't make a GET's response out of another method's.
func TestCacheAttackMethodOverride(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = node.Duration(time.Minute) })
	r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
		for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
			if v := req.Header.Get(name); v != "" {
				return always(200, "did "+v)(req, n)
			}
		}
		return always(200, "did "+req.Method)(req, n)
	})
	for _, name := range []string{
		"X-HTTP-Method-Override", "x-http-method", "X-Method-Override",
		"X_HTTP_Method_Override",
	} {
		if s := r.get(t, "/a?"+name, name, "DELETE"); s.body != "did GET" {
			t.Errorf("%s: %s", name, s)
		}
	}
	if s := r.ask(t, "POST", "/a", "x", "X-HTTP-Method-Override", "PATCH"); s.body != "did PATCH" {
		t.Errorf("a POST may still be overridden, it isn't cached: %s", s)
	}
}

// Spellings of one host share a key only where they mean one host, and two hosts never do.
func TestCacheAttackHostGames(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
		return always(200, strings.ToLower(req.Host)+" %d", "Cache-Control", "max-age=60")(req, n)
	})
	ask := func(line, host string) *seen { return r.send(t, "GET", "GET "+line+" HTTP/1.1\r\n"+host+"\r\n") }
	ask("/a", "Host: example.test\r\n").wantFwd(t, "first", "uri-miss", "example.test 1")
	ask("/a", "Host: EXAMPLE.test\r\n").wantHit(t, "case", "example.test 1")
	ask("/a", "Host: example.test:80\r\n").wantHit(t, "default port", "example.test 1")
	ask("/a", "Host: example.test.\r\n").wantHit(t, "a dot at the end", "example.test 1")
	ask("http://example.test/a", "Host: example.test\r\n").wantHit(t, "absolute-form", "example.test 1")
	for i, host := range []string{"example.test:8080", "other.test", "example.test:443"} {
		if s := ask("/a", "Host: "+host+"\r\n"); s.hit || s.body != host+" "+strconv.Itoa(i+2) {
			t.Errorf("%s: %s", host, s)
		}
	}
	if s := ask("http://evil.test/a", "Host: example.test\r\n"); strings.HasPrefix(s.body, "example.test ") ||
		(s.StatusCode == 200 && !strings.HasPrefix(s.body, "evil.test ")) {
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
	ask("/a", "Host: example.test\r\n").wantHit(t, "after all of them", "example.test 1")
}

// Parameters keep their order and their doubles, and no delimiter but & counts (parameter cloaking).
func TestCacheAttackParameterCloaking(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Query.Drop = []string{"utm"} })
	r.on("/a", reflecting)
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
		s := r.get(t, "/a"+c.query)
		got, _, _ := strings.Cut(strings.TrimPrefix(s.body, "GET /a"), " ")
		if s.hit || got != c.origin {
			t.Errorf("%s reached the origin as %q, want %q: %s", c.query, got, c.origin, s)
		}
	}
}

// Two requests on one connection don't get each other's answers, hit or miss (response queue poisoning).
func TestCacheAttackPipelining(t *testing.T) {
	r := startCache(t, nil)
	for _, path := range []string{"/a", "/b", "/c"} {
		r.on(path, fresh(path+" %d"))
	}
	r.get(t, "/a")
	c := r.dial(t)
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
		if s := receive(t, from, "GET"); s.body != path+" 1" {
			t.Errorf("answer %d: %s, want %s", i, s, path)
		}
	}
}
