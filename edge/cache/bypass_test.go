package cache_test

import (
	"bufio"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// A freshness that only the route names isn't for clients with credentials either: they get what the origin says to
// them, and take nothing out.
func TestRouteTTLIsNotForClientsWithCredentials(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL, c.NegativeTTL = minute, minute }))
	r.On("/a", edgetest.Always(200, "%d"))
	r.Get(t, "/a").WantFwd(t, "without", "uri-miss", "1")
	for i, name := range []string{"Authorization", "Cookie"} {
		s := r.Get(t, "/a", name, "Bearer a")
		if s.Hit || s.Text != strconv.Itoa(i+2) || s.Detail == "" {
			t.Errorf("with %s: %s", name, s)
		}
	}
	r.Get(t, "/a").WantHit(t, "without again", "1")
	r.On("/said", edgetest.Fresh("%d"))
	r.Get(t, "/said")
	r.Get(t, "/said", "Authorization", "Bearer a").WantHit(t, "where the origin names the freshness", "1")
	keyed := edgetest.Start(t,
		edgetest.Cached(func(c *node.Cache) { c.TTL, c.Key = minute, edgetest.RequestParts("header:Authorization") }))
	keyed.On("/a", edgetest.Always(200, "%d"))
	keyed.Get(t, "/a")
	if s := keyed.Get(t, "/a", "Authorization", "Bearer a"); s.Hit {
		t.Errorf("with the credentials in the key: %s", s)
	}
	keyed.Get(t, "/a").WantHit(t, "without credentials", "1")
}

// negative_ttl alone makes no error of an anonymous request one for clients with a session.
func TestRouteNegativeTTLIsNotForClientsWithCredentials(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.NegativeTTL = minute }))
	r.On("/a", edgetest.Always(404, "%d"))
	r.Get(t, "/a")
	for _, name := range []string{"Authorization", "Cookie"} {
		if s := r.Get(t, "/a", name, "a=b"); s.Hit {
			t.Errorf("with %s: %s", name, s)
		}
	}
	r.Get(t, "/a").WantHit(t, "without", "1")
}

// Nothing that a client adds lets it pass a stored response by: a cache may ignore If-Match and If-Unmodified-Since
// (RFC 9110 §13.1.1, §13.1.4), the content of a GET has no meaning (§9.3.1), and Upgrade may be ignored (§7.8).
func TestNothingLetsAClientPassAStoredResponse(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Fresh("%d"))
	r.Get(t, "/a")
	for _, h := range [][]string{
		{"If-Match", `"x"`},
		{"If-Match", "*"},
		{"If-Unmodified-Since", edgetest.HTTPDate(1e12)},
		{"Upgrade", "x"},
		{"Upgrade", "websocket"},
		{"Connection", "upgrade", "Upgrade", "h2c"},
	} {
		r.Get(t, "/a", h...).WantHit(t, h[0]+" "+h[1], "1")
		if s := r.Ask(t, "HEAD", "/a", "", h...); !s.Hit {
			t.Errorf("HEAD with %q: %s", h, s)
		}
	}
	r.Ask(t, "GET", "/a", "x").WantHit(t, "a body of one byte", "1")
	r.Ask(t, "GET", "/a", strings.Repeat("x", 400_000)).WantHit(t, "a large body", "1")
	if s := r.Send(t, "HEAD", "HEAD /a HTTP/1.1\r\nHost: example.test\r\nContent-Length: 1\r\n\r\nx"); !s.Hit {
		t.Errorf("HEAD with a body: %s", s)
	}
	waits := edgetest.RequestHead("GET", "/a", []string{"Expect", "100-continue", "Content-Length", "5"})
	r.Send(t, "GET", waits).WantHit(t, "a body that isn't sent until it is wanted", "1")
	if n := r.Count("/a"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// A body that nobody wants is drained, so that the request behind it is read from its beginning.
func TestBodyOfAHitIsDrained(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Fresh("a %d"))
	r.On("/b", edgetest.Fresh("b %d"))
	r.Get(t, "/a")
	r.Get(t, "/b")
	c := r.Dial(t)
	defer c.Close()
	hidden := "GET /c HTTP/1.1\r\nHost: example.test\r\n\r\n"
	chunked := strconv.FormatInt(int64(len(hidden)), 16) + "\r\n" + hidden + "\r\n0\r\n\r\n"
	length := strconv.Itoa(len(hidden))
	ask := edgetest.RequestHead("GET", "/a", []string{"Content-Length", length}) + hidden +
		edgetest.RequestHead("GET", "/b", []string{"Transfer-Encoding", "chunked"}) + chunked +
		edgetest.RequestHead("GET", "/a", []string{"Connection", "close"})
	if _, err := io.WriteString(c, ask); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(c)
	for _, want := range []string{"a 1", "b 1", "a 1"} {
		edgetest.Receive(t, from, "GET").WantHit(t, "in its turn", want)
	}
	if rest, err := io.ReadAll(from); err != nil || len(rest) > 0 {
		t.Errorf("behind the last: %q, %v", rest, err)
	}
	if r.Count("/c") != 0 {
		t.Error("a body was read as a request")
	}
}

// A GET with a body under a freshness that only the route names: the origin has never said that the body doesn't matter
// to it.
func TestRouteTTLIsNotForAGetWithABody(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = minute }))
	r.On("/search", func(req *mesh.Request, _ int) *mesh.Response {
		return &mesh.Response{Status: 200, Body: []byte("found " + string(req.Body))}
	})
	r.Get(t, "/search")
	for _, query := range []string{"one", "two"} {
		if s := r.Ask(t, "GET", "/search", query); s.Hit || s.Text != "found "+query {
			t.Errorf("%s: %s", query, s)
		}
	}
	r.Get(t, "/search").WantHit(t, "without a body", "found ")
}

// Only a WebSocket goes by, whatever is stored of its URL.
func TestOnlyWebSocketsPassAStoredResponse(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Fresh("%d"))
	r.Get(t, "/a")
	s := r.Get(t, "/a", "Connection", "Upgrade", "Upgrade", "websocket",
		"Sec-WebSocket-Version", "13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	if s.Hit || s.StatusCode == http.StatusOK && s.Fwd != "bypass" {
		t.Errorf("got %s", s)
	}
}

// All that describes the content of a QUERY is a part of its key, in all of its lines.
func TestKeyOfAQueryHoldsItsMetadata(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Methods = []node.Method{"GET", "QUERY"} }))
	r.On("/q", edgetest.Fresh("%d"))
	for i, h := range [][]string{
		{"Content-Type", "text/plain"},
		{"Content-Type", "text/plain", "Content-Language", "de"},
		{"Content-Type", "text/plain", "Content-Language", "en"},
		{"Content-Type", "text/plain", "Content-Encoding", "x"},
		{"Content-Type", "text/plain", "Content-Location", "/x"},
		{"Content-Type", "text/plain", "Content-Type", "application/json"},
		{"Content-Type", "text/plain\tContent-Language: de"},
	} {
		if s := r.Ask(t, "QUERY", "/q", "x", h...); s.Hit || s.Text != strconv.Itoa(i+1) {
			t.Errorf("%q: %s", h, s)
		}
		r.Ask(t, "QUERY", "/q", "x", h...).WantHit(t, strings.Join(h, " "), strconv.Itoa(i+1))
	}
	r.Ask(t, "QUERY", "/q", "x", "content-type", "text/plain").WantHit(t, "names have no case", "1")
}
