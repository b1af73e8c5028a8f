package edge_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// text gives n bytes of which each place is known.
func text(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		b.WriteString(strconv.Itoa(i) + ",")
	}
	return b.String()[:n]
}

func streamed(body string, length int64, header ...string) answer {
	return func(*mesh.Request, int) *mesh.Response {
		return &mesh.Response{
			Status: 200, Header: fields(header...), Stream: mesh.NewBody(strings.NewReader(body)),
			Length: length,
		}
	}
}

// A large body is stored in chunks, byte by byte the same, and ranges within it are cut out of them.
func TestCacheLargeInChunks(t *testing.T) {
	r := startCache(t, nil)
	const n = 3 << 20
	body := text(n)
	r.on("/a", streamed(body, n, "Cache-Control", "max-age=600", "ETag", `"1"`))
	if s := r.get(t, "/a"); s.body != body || !s.stored || s.ContentLength != n {
		t.Errorf("the first: %s", s)
	}
	nodetest.Eventually(t, "it is stored", func() bool { return r.get(t, "/a").hit })
	r.get(t, "/a").wantHit(t, "the second", body)
	if s := r.ask(t, "HEAD", "/a", ""); s.ContentLength != n || !s.hit {
		t.Errorf("HEAD: %s, length %d", s, s.ContentLength)
	}
	for _, at := range [][2]int{
		{0, 0},
		{chunk - 1, chunk},
		{chunk, 2*chunk - 1},
		{100, n - 1},
		{2*chunk + 7, 5*chunk + 3},
		{n - 1, n - 1},
		{chunk - 10, chunk - 1},
	} {
		s := r.get(t, "/a", "Range", "bytes="+strconv.Itoa(at[0])+"-"+strconv.Itoa(at[1]))
		if s.StatusCode != 206 || s.body != body[at[0]:at[1]+1] || !s.hit || s.broken != nil {
			t.Errorf("bytes %d to %d: %s, %v", at[0], at[1], s, s.broken)
		}
	}
	if s := r.get(t, "/a", "Range", "bytes=-5,0-4"); s.StatusCode != 206 || !strings.Contains(s.body, body[:5]) ||
		!strings.Contains(s.body, body[n-5:]) {
		t.Errorf("two ranges: %s", s)
	}
	if s := r.get(t, "/a", "If-None-Match", `"1"`); s.StatusCode != 304 || s.body != "" {
		t.Errorf("conditional: %s", s)
	}
	if r.count("/a") != 1 {
		t.Errorf("the origin was asked %d times", r.count("/a"))
	}
}

// A large body is validated without being fetched again, and a 304 that takes it back still answers its own request
// with it.
func TestCacheLargeValidates(t *testing.T) {
	r := startCache(t, nil)
	body := text(1 << 20)
	confirmed := func(control string) answer { return always(304, "", "ETag", `"1"`, "Cache-Control", control) }
	r.on("/a", inTurn(streamed(body, 1<<20, "Cache-Control", "max-age=10", "Age", "20", "ETag", `"1"`),
		confirmed("max-age=60, no-cache"), confirmed("no-store"), fresh("new")))
	r.get(t, "/a")
	nodetest.Eventually(t, "it is stored", func() bool { return r.has("/a") })
	for range 2 {
		if s := r.get(t, "/a"); s.body != body || s.StatusCode != 200 || s.status != 304 || s.broken != nil {
			t.Errorf("validated: %s, %v", s, s.broken)
		}
	}
	r.get(t, "/a").wantFwd(t, "after it was taken back", "uri-miss", "new")
}

// A body without a length goes to its client as it comes and is stored when it has ended; one that turns out too large
// isn't.
func TestCacheLargeUnknownLength(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.MaxObject = 2 * node.MiB })
	for _, size := range []int{0, 10, 300_000, 1 << 20, 2 << 20, 2<<20 + 1, 3 << 20} {
		path := "/" + strconv.Itoa(size)
		body := text(size)
		r.on(path, streamed(body, -1, "Cache-Control", "max-age=600"))
		if s := r.get(t, path); s.body != body || s.broken != nil {
			t.Errorf("%d: %s", size, s)
		}
		if size > 2<<20 {
			if s := r.get(t, path); s.hit || s.body != body {
				t.Errorf("%d was stored: %s", size, s)
			}
			continue
		}
		nodetest.Eventually(t, "it is stored", func() bool { return r.ask(t, "HEAD", path, "").hit })
		r.get(t, path).wantHit(t, strconv.Itoa(size), body)
	}
}

// A body that breaks off never looks whole, to nobody, and is never stored (RFC 9111 §3.3).
func TestCacheRFC9111Section33BrokenOff(t *testing.T) {
	r := startCache(t, nil)
	for name, length := range map[string]int64{"/length": 2 * piece, "/chunked": -1} {
		body := newSlowly()
		body.broken = true
		r.on(name, inTurn(streams(body, length, "Cache-Control", "max-age=600"), fresh("whole")))
		go func() {
			feed(body, strings.Repeat("x", piece))
			close(body.pieces)
		}()
		if s := r.get(t, name); s.broken == nil {
			t.Errorf("%s: looks whole: %s", name, s)
		}
		if s := r.get(t, name); s.body != "whole" || s.hit {
			t.Errorf("%s: afterwards %s", name, s)
		}
	}
}

// A short body, and one that an upstream breaks off, on real sockets.
func TestCacheRFC9111Section33UpstreamBreaksOff(t *testing.T) {
	n := 0
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Cache-Control", "max-age=600")
		if n++; n > 4 {
			_, _ = io.WriteString(w, "whole")
			return
		}
		if strings.HasPrefix(req.URL.Path, "/length") {
			w.Header().Set("Content-Length", "1000")
		}
		_, _ = io.WriteString(w, "part")
		w.(http.Flusher).Flush() //nolint:forcetypeassert // net/http's are
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(app.Close)
	r := startCache(t, nil, func(s *cacheSetup) { s.routes[0].To = node.Target{Kind: node.KindUpstream, Name: "app"} })
	r.upstream(t, app.URL)
	for _, path := range []string{"/length", "/chunked"} {
		for range 2 {
			c := r.dial(t)
			_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: example.test\r\n\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err == nil && resp.StatusCode == 200 {
				_, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			if err == nil && resp.StatusCode == 200 {
				t.Errorf("%s looks whole", path)
			}
			_ = c.Close()
		}
	}
	for _, path := range []string{"/length", "/chunked"} {
		nodetest.Eventually(t, "the upstream is asked again", func() bool {
			s := r.get(t, path)
			return s.body == "whole" || s.body == "part"
		})
		if s := r.get(t, path); s.body != "whole" {
			t.Errorf("%s: %s", path, s)
		}
	}
}

// upstream makes the upstream "app" of the rig's mesh.
func (r *cacheRig) upstream(tb testing.TB, url string) {
	tb.Helper()
	set, err := upstream.New(upstream.Config{Conn: r.conn, Log: nodetest.Discard()})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = set.Close() })
	var u node.Upstream
	u.Defaults()
	u.Targets = []node.UpstreamTarget{{URL: node.BaseURL(url), Weight: 1}}
	if err := set.Apply(tb.Context(), map[string]node.Upstream{"app": u}); err != nil {
		tb.Fatal(err)
	}
}

// An upstream that refuses connections: 502 with Proxy-Status (RFC 9209), and what is stored is served.
func TestCacheRFC9209UpstreamAway(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Age", "20")
		w.Header().Set("Etag", `"1"`)
		_, _ = io.WriteString(w, "stale")
	}))
	r := startCache(t, nil, func(s *cacheSetup) { s.routes[0].To = node.Target{Kind: node.KindUpstream, Name: "app"} })
	r.upstream(t, app.URL)
	if s := r.get(t, "/a"); s.body != "stale" {
		t.Fatalf("first: %s", s)
	}
	app.Close()
	for range 3 {
		if s := r.get(t, "/a"); s.body != "stale" || s.StatusCode != 200 || s.detail == "" {
			t.Errorf("stored: %s", s)
		}
		if s := r.get(t, "/b"); (s.StatusCode != 502 && s.StatusCode != 503) ||
			!strings.Contains(s.Header.Get("Proxy-Status"), "error=") {
			t.Errorf("not stored: %s, Proxy-Status %q", s, s.Header.Get("Proxy-Status"))
		}
	}
}

// An origin that doesn't answer in time: 504 with Proxy-Status, or what is stored.
func TestCacheRFC9209Timeout(t *testing.T) {
	r := startCache(t, nil, func(s *cacheSetup) { s.routes[0].Timeout = node.Duration(100 * time.Millisecond) })
	held, open := gate(fresh("late"))
	defer open()
	r.on("/a", inTurn(stale("stale", 5), held))
	r.on("/b", held)
	r.get(t, "/a")
	if s := r.get(t, "/a"); s.body != "stale" || s.detail == "" {
		t.Errorf("stored: %s", s)
	}
	if s := r.get(t, "/b"); s.StatusCode != 504 ||
		!strings.Contains(s.Header.Get("Proxy-Status"), "error=http_response_timeout") {
		t.Errorf("not stored: %s, %v", s, s.Header)
	}
}

// A client that reads nothing of a large stored body and goes away keeps nothing of it.
func TestCacheLargeClientGoesAway(t *testing.T) {
	r := startCache(t, nil)
	const n = 3 << 20
	r.on("/a", streamed(text(n), n, "Cache-Control", "max-age=600"))
	r.get(t, "/a")
	for range 5 {
		x := r.open(t, "/a")
		_ = x.conn.Close()
	}
	nodetest.Eventually(t, "the connections are gone", func() bool { return r.Connections() == 0 })
	if s := r.get(t, "/a"); s.body != text(n) || errors.Is(s.broken, net.ErrClosed) {
		t.Errorf("afterwards: %s", s)
	}
}
