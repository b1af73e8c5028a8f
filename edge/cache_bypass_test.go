package edge_test

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// A freshness that only the route names isn't for clients with credentials either: they get what the origin says to
// them, and drive nothing out.
func TestCacheRouteTTLWithCredentials(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL, c.NegativeTTL = minute, minute })
	r.on("/a", always(200, "%d"))
	r.get(t, "/a").wantFwd(t, "without", "uri-miss", "1")
	for i, name := range []string{"Authorization", "Cookie"} {
		s := r.get(t, "/a", name, "Bearer a")
		if s.hit || s.body != strconv.Itoa(i+2) || s.detail == "" {
			t.Errorf("with %s: %s", name, s)
		}
	}
	r.get(t, "/a").wantHit(t, "without again", "1")
	r.on("/said", fresh("%d"))
	r.get(t, "/said")
	r.get(t, "/said", "Authorization", "Bearer a").wantHit(t, "where the origin names the freshness", "1")
	keyed := startCache(t, func(c *node.Cache) { c.TTL, c.Key = minute, parts("header:Authorization") })
	keyed.on("/a", always(200, "%d"))
	keyed.get(t, "/a")
	if s := keyed.get(t, "/a", "Authorization", "Bearer a"); s.hit {
		t.Errorf("with the credentials in the key: %s", s)
	}
	keyed.get(t, "/a").wantHit(t, "without credentials", "1")
}

// negative_ttl alone makes no error of an anonymous request one for clients with a session.
func TestCacheRouteNegativeTTLWithCredentials(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.NegativeTTL = minute })
	r.on("/a", always(404, "%d"))
	r.get(t, "/a")
	for _, name := range []string{"Authorization", "Cookie"} {
		if s := r.get(t, "/a", name, "a=b"); s.hit {
			t.Errorf("with %s: %s", name, s)
		}
	}
	r.get(t, "/a").wantHit(t, "without", "1")
}

// Nothing that a client adds lets it pass a stored response by: a cache may ignore If-Match and If-Unmodified-Since
// (RFC 9110 §13.1.1, §13.1.4), the content of a GET has no meaning (§9.3.1), and Upgrade may be ignored (§7.8).
func TestCacheAttackPassingBy(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", fresh("%d"))
	r.get(t, "/a")
	for _, h := range [][]string{
		{"If-Match", `"x"`},
		{"If-Match", "*"},
		{"If-Unmodified-Since", httpDate(1e12)},
		{"Upgrade", "x"},
		{"Upgrade", "websocket"},
		{"Connection", "upgrade", "Upgrade", "h2c"},
	} {
		r.get(t, "/a", h...).wantHit(t, h[0]+" "+h[1], "1")
		if s := r.ask(t, "HEAD", "/a", "", h...); !s.hit {
			t.Errorf("HEAD with %q: %s", h, s)
		}
	}
	r.ask(t, "GET", "/a", "x").wantHit(t, "a body of one byte", "1")
	r.ask(t, "GET", "/a", strings.Repeat("x", 400_000)).wantHit(t, "a large body", "1")
	if s := r.send(t, "HEAD", "HEAD /a HTTP/1.1\r\nHost: example.test\r\nContent-Length: 1\r\n\r\nx"); !s.hit {
		t.Errorf("HEAD with a body: %s", s)
	}
	waits := requestOf("GET", "/a", []string{"Expect", "100-continue", "Content-Length", "5"})
	r.send(t, "GET", waits).wantHit(t, "a body that isn't sent until it is wanted", "1")
	if n := r.count("/a"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// A body that nobody wants is drained, so that the request behind it is read from its beginning.
func TestCacheAttackBodyOfHitIsDrained(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", fresh("a %d"))
	r.on("/b", fresh("b %d"))
	r.get(t, "/a")
	r.get(t, "/b")
	c := r.dial(t)
	defer c.Close()
	hidden := "GET /c HTTP/1.1\r\nHost: example.test\r\n\r\n"
	chunked := strconv.FormatInt(int64(len(hidden)), 16) + "\r\n" + hidden + "\r\n0\r\n\r\n"
	length := strconv.Itoa(len(hidden))
	ask := requestOf("GET", "/a", []string{"Content-Length", length}) + hidden +
		requestOf("GET", "/b", []string{"Transfer-Encoding", "chunked"}) + chunked +
		requestOf("GET", "/a", []string{"Connection", "close"})
	if _, err := io.WriteString(c, ask); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(c)
	for _, want := range []string{"a 1", "b 1", "a 1"} {
		receive(t, from, "GET").wantHit(t, "in its turn", want)
	}
	if rest, err := io.ReadAll(from); err != nil || len(rest) > 0 {
		t.Errorf("behind the last: %q, %v", rest, err)
	}
	if r.count("/c") != 0 {
		t.Error("a body was read as a request")
	}
}

// A GET with a body under a freshness that only the route names: the origin has never said that the body doesn't matter
// to it.
func TestCacheRouteTTLWithBody(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = minute })
	r.on("/search", func(req *mesh.Request, _ int) *mesh.Response {
		return &mesh.Response{Status: 200, Body: []byte("found " + string(req.Body))}
	})
	r.get(t, "/search")
	for _, query := range []string{"one", "two"} {
		if s := r.ask(t, "GET", "/search", query); s.hit || s.body != "found "+query {
			t.Errorf("%s: %s", query, s)
		}
	}
	r.get(t, "/search").wantHit(t, "without a body", "found ")
}

// Only a WebSocket goes by, whatever is stored of its URL.
func TestCacheSocketPassesBy(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", fresh("%d"))
	r.get(t, "/a")
	s := r.get(t, "/a", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if s.hit || s.StatusCode == http.StatusOK && s.fwd != "bypass" {
		t.Errorf("got %s", s)
	}
}

// All that describes the content of a QUERY is a part of its key, in all of its lines.
func TestCacheQueryKeyHoldsItsMetadata(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Methods = []node.Method{"GET", "QUERY"} })
	r.on("/q", fresh("%d"))
	for i, h := range [][]string{
		{"Content-Type", "text/plain"},
		{"Content-Type", "text/plain", "Content-Language", "de"},
		{"Content-Type", "text/plain", "Content-Language", "en"},
		{"Content-Type", "text/plain", "Content-Encoding", "x"},
		{"Content-Type", "text/plain", "Content-Location", "/x"},
		{"Content-Type", "text/plain", "Content-Type", "application/json"},
		{"Content-Type", "text/plain\tContent-Language: de"},
	} {
		if s := r.ask(t, "QUERY", "/q", "x", h...); s.hit || s.body != strconv.Itoa(i+1) {
			t.Errorf("%q: %s", h, s)
		}
		r.ask(t, "QUERY", "/q", "x", h...).wantHit(t, strings.Join(h, " "), strconv.Itoa(i+1))
	}
	r.ask(t, "QUERY", "/q", "x", "content-type", "text/plain").wantHit(t, "names have no case", "1")
}

// Nor do a HEAD and a body let a page of another origin ask past what is stored again and again, or drop it: the first
// one has the response fetched that is for such pages, too.
func TestCacheAttackPassingByOfOtherOrigins(t *testing.T) {
	r := startCache(t, nil)
	for path, ask := range map[string]func(string) *seen{
		"/head": func(path string) *seen { return r.ask(t, "HEAD", path, "", "Origin", "https://other.test") },
		"/body": func(path string) *seen { return r.ask(t, "GET", path, "x", "Origin", "https://other.test") },
	} {
		r.on(path, func(req *mesh.Request, n int) *mesh.Response {
			return always(200, "body %d", "Cache-Control", "max-age=600", "ETag", `"`+strconv.Itoa(n)+`"`)(req, n)
		})
		r.get(t, path)
		if s := ask(path); s.fwd != "vary-miss" {
			t.Errorf("%s: the first: %s", path, s)
		}
		nodetest.Eventually(t, "what is for other origins is stored", func() bool { return ask(path).hit })
		asked := r.count(path)
		for range 3 {
			if s := ask(path); !s.hit {
				t.Errorf("%s: another: %s", path, s)
			}
		}
		if s := r.get(t, path); !s.hit || r.count(path) != asked {
			t.Errorf("%s: what is stored afterwards: %s", path, s)
		}
	}
	// Where nothing of it can be stored, that is tried once, and what was there before stays.
	r.on("/private", func(req *mesh.Request, n int) *mesh.Response {
		control := "max-age=600"
		if req.Header.Has("Origin") {
			control = "private"
		}
		return always(200, "body %d", "Cache-Control", control, "ETag", `"`+strconv.Itoa(n)+`"`)(req, n)
	})
	r.get(t, "/private")
	for range 4 {
		r.ask(t, "HEAD", "/private", "", "Origin", "https://other.test")
	}
	nodetest.Eventually(t, "no fetch runs", func() bool { return r.CacheFetches() == 0 })
	if n := r.count("/private"); n != 6 {
		t.Errorf("the origin was asked %d times", n)
	}
	r.get(t, "/private").wantHit(t, "what was there", "body 1")
}
