package cache_test

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

	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/nodetest"
)

// A large body is stored in chunks, byte by byte the same, and ranges within it are cut out of them.
func TestLargeBodyIsStoredByteByByte(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	const n = 3 << 20
	body := edgetest.Text(n)
	r.On("/a", edgetest.Streamed(body, n, "Cache-Control", "max-age=600", "ETag", `"1"`))
	if s := r.Get(t, "/a"); s.Text != body || !s.Stored || s.ContentLength != n {
		t.Errorf("the first: %s", s)
	}
	nodetest.Eventually(t, "it is stored", func() bool { return r.Get(t, "/a").Hit })
	r.Get(t, "/a").WantHit(t, "the second", body)
	if s := r.Ask(t, "HEAD", "/a", ""); s.ContentLength != n || !s.Hit {
		t.Errorf("HEAD: %s, length %d", s, s.ContentLength)
	}
	for _, at := range [][2]int{
		{0, 0},
		{edgetest.ChunkSize - 1, edgetest.ChunkSize},
		{edgetest.ChunkSize, 2*edgetest.ChunkSize - 1},
		{100, n - 1},
		{2*edgetest.ChunkSize + 7, 5*edgetest.ChunkSize + 3},
		{n - 1, n - 1},
		{edgetest.ChunkSize - 10, edgetest.ChunkSize - 1},
	} {
		s := r.Get(t, "/a", "Range", "bytes="+strconv.Itoa(at[0])+"-"+strconv.Itoa(at[1]))
		if s.StatusCode != 206 || s.Text != body[at[0]:at[1]+1] || !s.Hit || s.Broken != nil {
			t.Errorf("bytes %d to %d: %s, %v", at[0], at[1], s, s.Broken)
		}
	}
	if s := r.Get(t, "/a", "Range", "bytes=-5,0-4"); s.StatusCode != 206 || !strings.Contains(s.Text, body[:5]) ||
		!strings.Contains(s.Text, body[n-5:]) {
		t.Errorf("two ranges: %s", s)
	}
	if s := r.Get(t, "/a", "If-None-Match", `"1"`); s.StatusCode != 304 || s.Text != "" {
		t.Errorf("conditional: %s", s)
	}
	if r.Count("/a") != 1 {
		t.Errorf("the origin was asked %d times", r.Count("/a"))
	}
}

// A large body is validated without being fetched again, and a 304 that takes it back still answers its own request
// with it.
func TestLargeBodyIsValidatedWithoutANewFetch(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	body := edgetest.Text(1 << 20)
	confirmed := func(control string) edgetest.Answer {
		return edgetest.Always(304, "", "ETag", `"1"`, "Cache-Control", control)
	}
	r.On(
		"/a",
		edgetest.InTurn(edgetest.Streamed(body, 1<<20, "Cache-Control", "max-age=10", "Age", "20", "ETag", `"1"`),
			confirmed("max-age=60, no-cache"), confirmed("no-store"), edgetest.Fresh("new")),
	)
	r.Get(t, "/a")
	nodetest.Eventually(t, "it is stored", func() bool { return r.Has("/a") })
	for range 2 {
		if s := r.Get(t, "/a"); s.Text != body || s.StatusCode != 200 || s.FwdStatus != 304 || s.Broken != nil {
			t.Errorf("validated: %s, %v", s, s.Broken)
		}
	}
	r.Get(t, "/a").WantFwd(t, "after it was taken back", "uri-miss", "new")
}

// A body without a length goes to its client as it comes and is stored when it has ended; one that turns out too large
// isn't.
func TestBodyOfUnknownLengthIsStoredAtItsEnd(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.MaxObject = 2 * node.MiB }))
	for _, size := range []int{0, 10, 300_000, 1 << 20, 2 << 20, 2<<20 + 1, 3 << 20} {
		path := "/" + strconv.Itoa(size)
		body := edgetest.Text(size)
		r.On(path, edgetest.Streamed(body, -1, "Cache-Control", "max-age=600"))
		if s := r.Get(t, path); s.Text != body || s.Broken != nil {
			t.Errorf("%d: %s", size, s)
		}
		if size > 2<<20 {
			if s := r.Get(t, path); s.Hit || s.Text != body {
				t.Errorf("%d was stored: %s", size, s)
			}
			continue
		}
		nodetest.Eventually(t, "it is stored", func() bool { return r.Ask(t, "HEAD", path, "").Hit })
		r.Get(t, path).WantHit(t, strconv.Itoa(size), body)
	}
}

// A body that breaks off never looks whole, to nobody, and is never stored (RFC 9111 §3.3).
func TestBodyThatBreaksOffIsNotStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for name, length := range map[string]int64{"/length": 2 * edgetest.OverMessage, "/chunked": -1} {
		body := edgetest.NewPacedBody()
		body.Broken = true
		r.On(name,
			edgetest.InTurn(edgetest.Streams(body, length, "Cache-Control", "max-age=600"), edgetest.Fresh("whole")))
		go func() {
			edgetest.Feed(body, strings.Repeat("x", edgetest.OverMessage))
			close(body.Pieces)
		}()
		if s := r.Get(t, name); s.Broken == nil {
			t.Errorf("%s: looks whole: %s", name, s)
		}
		if s := r.Get(t, name); s.Text != "whole" || s.Hit {
			t.Errorf("%s: afterwards %s", name, s)
		}
	}
}

// A short body, and one that an upstream breaks off, on real sockets (RFC 9111 §3.3).
func TestBodyThatAnUpstreamBreaksOffIsNotStored(t *testing.T) {
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
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(app.Close)
	r := edgetest.Start(t, edgetest.Cached(nil, edgetest.ToUpstream))
	r.Upstream(t, app.URL)
	for _, path := range []string{"/length", "/chunked"} {
		for range 2 {
			c := r.Dial(t)
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
			s := r.Get(t, path)
			return s.Text == "whole" || s.Text == "part"
		})
		if s := r.Get(t, path); s.Text != "whole" {
			t.Errorf("%s: %s", path, s)
		}
	}
}

// An upstream that refuses connections: 502 with Proxy-Status (RFC 9209), and what is stored is served.
func TestStoredResponseIsServedWhileTheUpstreamIsAway(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "max-age=10")
		w.Header().Set("Age", "20")
		w.Header().Set("Etag", `"1"`)
		_, _ = io.WriteString(w, "stale")
	}))
	r := edgetest.Start(t, edgetest.Cached(nil, edgetest.ToUpstream))
	r.Upstream(t, app.URL)
	if s := r.Get(t, "/a"); s.Text != "stale" {
		t.Fatalf("first: %s", s)
	}
	app.Close()
	for range 3 {
		if s := r.Get(t, "/a"); s.Text != "stale" || s.StatusCode != 200 || s.Detail == "" {
			t.Errorf("stored: %s", s)
		}
		if s := r.Get(t, "/b"); (s.StatusCode != 502 && s.StatusCode != 503) ||
			!strings.Contains(s.Header.Get("Proxy-Status"), "error=") {
			t.Errorf("not stored: %s, Proxy-Status %q", s, s.Header.Get("Proxy-Status"))
		}
	}
}

// An origin that doesn't answer in time: 504 with Proxy-Status, or what is stored (RFC 9209).
func TestTimeoutIs504OrWhatIsStored(t *testing.T) {
	r := edgetest.Start(t,
		edgetest.Cached(nil, func(s *edgetest.Config) { s.Routes[0].Timeout = node.Duration(100 * time.Millisecond) }))
	held, open := edgetest.Gate(edgetest.Fresh("late"))
	defer open()
	r.On("/a", edgetest.InTurn(edgetest.Stale("stale", 5), held))
	r.On("/b", held)
	r.Get(t, "/a")
	if s := r.Get(t, "/a"); s.Text != "stale" || s.Detail == "" {
		t.Errorf("stored: %s", s)
	}
	if s := r.Get(t, "/b"); s.StatusCode != 504 ||
		!strings.Contains(s.Header.Get("Proxy-Status"), "error=http_response_timeout") {
		t.Errorf("not stored: %s, %v", s, s.Header)
	}
}

// A client that reads nothing of a large stored body and goes away keeps nothing of it.
func TestClientThatReadsNothingHoldsNothing(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	const n = 3 << 20
	r.On("/a", edgetest.Streamed(edgetest.Text(n), n, "Cache-Control", "max-age=600"))
	r.Get(t, "/a")
	for range 5 {
		x := r.OpenBody(t, "/a")
		_ = x.Conn.Close()
	}
	nodetest.Eventually(t, "the connections are gone", func() bool { return r.Connections() == 0 })
	if s := r.Get(t, "/a"); s.Text != edgetest.Text(n) || errors.Is(s.Broken, net.ErrClosed) {
		t.Errorf("afterwards: %s", s)
	}
}
