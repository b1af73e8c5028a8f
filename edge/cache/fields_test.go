package cache_test

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// What belongs to one connection or to one answer isn't stored (RFC 9111 §3.1), all else is, in its order.
func TestFieldsOfOneConnectionAreNotStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=60", "Connection", "X-Hop, close", "X-Hop", "1",
		"Keep-Alive", "timeout=5", "Proxy-Authenticate", "Basic", "TE", "x",
		"RateLimit", `"d";r=1;t=2`, "RateLimit-Policy", `"d";q=10;w=5`, "RateLimit-Limit", "10", "RateLimit-Remaining",
		"9", "RateLimit-Reset", "5", "X-RateLimit-Remaining", "9",
		"Cache-Status", "Other; hit; ttl=5", "Proxy-Status", "Other", "X-Request-Id", "of-the-origin",
		"Clear-Site-Data", `"cache"`, "Set-Cookie", "a=1", "Set-Cookie", "b=2",
		"X-B", "1", "X-A", "2", "Link", "</a>", "Link", "</b>"))
	first := r.Get(t, "/a")
	if lines := first.Header.Values("Cache-Status"); !strings.HasPrefix(strings.Join(lines, ", "),
		"Other; hit; ttl=5, ") || first.Header.Get("RateLimit") == "" {
		t.Errorf("the first has what the origin said of this answer: %v", first.Header)
	}
	s := r.Get(t, "/a")
	s.WantHit(t, "the second", "1")
	for _, name := range []string{
		"X-Hop", "Keep-Alive", "Proxy-Authenticate", "TE", "RateLimit", "RateLimit-Policy", "RateLimit-Limit",
		"RateLimit-Remaining", "RateLimit-Reset", "X-RateLimit-Remaining", "Proxy-Status",
	} {
		if v := s.Header.Get(name); v != "" {
			t.Errorf("%s: %s was stored", name, v)
		}
	}
	if id := s.Header.Get("X-Request-Id"); id == "of-the-origin" || id == first.Header.Get("X-Request-Id") || id == "" {
		t.Errorf("the request id is %q", id)
	}
	if strings.Contains(strings.Join(s.Header.Values("Cache-Status"), ","), "Other") {
		t.Errorf("Cache-Status of another answer: %v", s.Header.Values("Cache-Status"))
	}
	for name, want := range map[string]string{
		"Set-Cookie": "a=1|b=2", "Link": "</a>|</b>", "X-A": "2", "X-B": "1",
		"Clear-Site-Data": `"cache"`,
	} {
		if got := strings.Join(s.Header.Values(name), "|"); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// Fields that no-cache= names aren't given out without asking (RFC 9111 §5.2.2.4), and must-understand decides with the
// status (§5.2.2.3).
func TestMustUnderstandAndNoCacheFieldsAreObeyed(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On(
		"/qualified",
		edgetest.Always(200, "%d", "Cache-Control", `max-age=60, no-cache="X-Secret, x-other"`, "X-Secret", "1",
			"X-Other", "2", "X-Free", "3"),
	)
	r.Get(t, "/qualified")
	if s := r.Get(t, "/qualified"); !s.Hit || s.Header.Get("X-Secret")+s.Header.Get("X-Other") != "" ||
		s.Header.Get("X-Free") != "3" {
		t.Errorf("no-cache= : %s, %v", s, s.Header)
	}
	r.On("/known", edgetest.Always(200, "%d", "Cache-Control", "max-age=60, must-understand, no-store"))
	r.On("/unknown", edgetest.Always(299, "%d", "Cache-Control", "max-age=60, must-understand"))
	r.On("/plain", edgetest.Always(299, "%d", "Cache-Control", "max-age=60"))
	for path, hit := range map[string]bool{"/known": true, "/unknown": false, "/plain": true} {
		r.Get(t, path)
		if s := r.Get(t, path); s.Hit != hit {
			t.Errorf("%s: %s", path, s)
		}
	}
}

// A browser that waits for a page is told at once what the page linked last time (RFC 8297); nobody else is.
func TestBrowsersGetEarlyHintsOfWhatIsStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=10", "Age", "20", "ETag", `"1"`, "Link",
		"</style.css>; rel=preload; as=style", "Link", "</next>; rel=next", "Set-Cookie", "a=1"))
	r.Get(t, "/a")
	s := r.Get(t, "/a", "Sec-Fetch-Mode", "navigate")
	if len(s.Interim) != 1 || s.Interim[0].StatusCode != 103 || s.StatusCode != 200 {
		t.Fatalf("interim responses: %v, then %s", s.Interim, s)
	}
	if h := s.Interim[0].Header; len(h.Values("Link")) != 1 || !strings.Contains(h.Get("Link"), "style.css") ||
		len(h) != 1 {
		t.Errorf("103 with %v", h)
	}
	for _, h := range [][]string{nil, {"Sec-Fetch-Mode", "cors"}} {
		if s := r.Get(t, "/a", h...); len(s.Interim) != 0 {
			t.Errorf("%q: %v", h, s.Interim)
		}
	}
	old := r.Send(t, "GET", "GET /a HTTP/1.0\r\nHost: example.test\r\nSec-Fetch-Mode: navigate\r\n\r\n")
	if len(old.Interim) != 0 || old.StatusCode != 200 { // RFC 9110 §15.2
		t.Errorf("HTTP/1.0: %v, %s", old.Interim, old)
	}
	r.On("/fresh", edgetest.Always(200, "%d", "Cache-Control", "max-age=60", "Link", "</style.css>; rel=preload"))
	r.Get(t, "/fresh")
	if s := r.Get(t, "/fresh", "Sec-Fetch-Mode", "navigate"); len(s.Interim) != 0 || !s.Hit {
		t.Errorf("a hit needs no hints: %v, %s", s.Interim, s)
	}
}

// What the origin hints while it works reaches the client whose request the fetch is (RFC 8297).
func TestHintsOfTheOriginReachTheClientOfTheFetch(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		req.Interim(103, edgetest.Fields("Link", "</style.css>; rel=preload"))
		return edgetest.Fresh("%d")(req, n)
	})
	s := r.Get(t, "/a")
	if len(s.Interim) != 1 || s.Interim[0].StatusCode != 103 || s.Text != "1" {
		t.Errorf("interim responses: %v, then %s", s.Interim, s)
	}
	if s := r.Get(t, "/a"); len(s.Interim) != 0 || !s.Hit {
		t.Errorf("a hit: %v, %s", s.Interim, s)
	}
}

// Hits to HTTP/1.0, with and without keep-alive, and many on one connection (RFC 9112).
func TestHitsKeepConnectionsAsTheirVersionSays(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Fresh("body"))
	r.Get(t, "/a")
	for i := range 2 {
		s := r.Send(t, "GET", "GET /a HTTP/1.0\r\nHost: example.test\r\n\r\n")
		s.WantHit(t, "HTTP/1.0", "body")
		if !s.Close && s.Header.Get("Connection") != "close" {
			t.Errorf("request %d of HTTP/1.0 keeps its connection: %v", i, s.Header)
		}
	}
	c := r.Dial(t)
	defer c.Close()
	from := bufio.NewReader(c)
	for i := range 50 {
		method := []string{"GET", "HEAD"}[i%2]
		if _, err := io.WriteString(c, method+" /a HTTP/1.1\r\nHost: example.test\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		s := edgetest.Receive(t, from, method)
		s.WantHit(t, method, map[string]string{"GET": "body"}[method])
	}
	if _, err := io.WriteString(c, "GET /a HTTP/1.1\r\nHost: example.test\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if s := edgetest.Receive(t, from, "GET"); !s.Hit || !s.Close {
		t.Errorf("the last: %s, ends the connection: %t", s, s.Close)
	}
	if _, err := from.ReadByte(); err != io.EOF {
		t.Errorf("after the last: %v", err)
	}
}

// One URL on two routes that a field tells apart has two answers.
func TestRoutesByHeaderHaveKeysOfTheirOwn(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		s.Routes = append(s.Routes, edgetest.CachedRoute("/*", nil, edgetest.Needs("X-Beta", "1")))
	}))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		return edgetest.Fresh(req.Header.Get("X-Beta")+" %d")(req, n)
	})
	r.Get(t, "/a").WantFwd(t, "plain", "uri-miss", " 1")
	r.Get(t, "/a", "X-Beta", "1").WantFwd(t, "beta", "uri-miss", "1 2")
	r.Get(t, "/a").WantHit(t, "plain", " 1")
	r.Get(t, "/a", "X-Beta", "1").WantHit(t, "beta", "1 2")
	r.Ask(t, "POST", "/a", "x")
	r.Invalidated(t, "a POST to the URL reaches the other route's", "/a", "X-Beta", "1")
}

// A trusted proxy tells the scheme, which is a part of the key; nobody else does.
func TestSchemeOfATrustedProxyIsPartOfTheKey(t *testing.T) {
	for _, trusted := range []bool{true, false} {
		r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
			if trusted {
				s.Edge = func(e *node.Edge) { e.TrustedProxies = []node.Prefix{edgetest.Prefix("127.0.0.0/8")} }
			}
		}))
		r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
			return edgetest.Fresh(req.Header.Get("X-Forwarded-Proto")+" %d")(req, n)
		})
		r.Get(t, "/a")
		if s := r.Get(t, "/a", "X-Forwarded-Proto", "https"); s.Hit == trusted {
			t.Errorf("trusted %t: %s", trusted, s)
		}
	}
}
