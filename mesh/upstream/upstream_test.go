package upstream_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// rig is an upstream named "api" on its own mesh.
type rig struct {
	conn *mesh.Conn
	set  *upstream.Set
}

func start(tb testing.TB, cfg node.Upstream) *rig {
	tb.Helper()
	conn := natsservertest.Connect(tb, natsservertest.Start(tb))
	set, err := upstream.New(upstream.Config{Conn: conn, Log: nodetest.Discard()})
	if err == nil {
		err = set.Apply(tb.Context(), map[string]node.Upstream{"api": cfg})
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := set.Close(); err != nil {
			tb.Error(err)
		}
	})
	return &rig{conn, set}
}

func config(urls ...string) node.Upstream {
	var u node.Upstream
	u.Defaults()
	for _, url := range urls {
		u.Targets = append(u.Targets, node.UpstreamTarget{URL: node.BaseURL(url), Weight: 1})
	}
	return u
}

func (r *rig) do(tb testing.TB, method, target string, body string, header ...mesh.Field) (*mesh.Response, error) {
	tb.Helper()
	resp, err := r.conn.Do(tb.Context(), r.conn.Upstream("api"), &mesh.Request{
		Method: method, Target: target, Host: "shop.example", Header: header, Body: []byte(body),
		Deadline: time.Now().Add(20 * time.Second),
	})
	return readWhole(resp, err)
}

// sendContinuously sends requests from that many clients, with a pause between them, until stop is called. Each must be
// answered 200. sent counts them.
func (r *rig) sendContinuously(t *testing.T, clients int, method, body string, pause time.Duration) (sent *atomic.Int64,
	stop func(),
) {
	t.Helper()
	sent = new(atomic.Int64)
	done := make(chan struct{})
	var load sync.WaitGroup
	for range clients {
		load.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				sent.Add(1)
				if resp, err := r.do(t, method, "/", body); err != nil || resp.Status != 200 {
					t.Errorf("got %+v, %v", resp, err)
					return
				}
				if pause > 0 {
					<-time.After(pause)
				}
			}
		})
	}
	return sent, func() {
		close(done)
		load.Wait()
	}
}

func (r *rig) state(url string) string {
	for _, t := range r.set.Status()[0].Targets {
		if t.URL == url {
			return t.State
		}
	}
	return "unknown"
}

func startServer(tb testing.TB, h http.HandlerFunc) *httptest.Server {
	tb.Helper()
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s
}

func TestForwards(t *testing.T) {
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("Connection", "X-Private")
		w.Header().Set("X-Private", "hop")
		w.Header().Set("Millrace-Busy", "1")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %s %q", r.Method, r.URL, r.Host, r.Header.Get("X-A"), body)
	})
	r := start(t, config(s.URL))
	resp, err := r.do(t, "POST", "/a%20b?c=d%2Fe", "payload", mesh.Field{Name: "X-A", Value: "v"})
	if err != nil {
		t.Fatal(err)
	}
	if want := `POST /a%20b?c=d%2Fe shop.example v "payload"`; resp.Status != 418 || string(resp.Body) != want {
		t.Errorf("got %d %q, want %q", resp.Status, resp.Body, want)
	}
	if got := resp.Header.Values("Set-Cookie"); len(got) != 2 {
		t.Errorf("cookies: %q", got)
	}
	for _, name := range []string{"X-Private", "Connection", "Millrace-Busy"} {
		if resp.Header.Has(name) {
			t.Errorf("%s came through", name)
		}
	}
}

// readWhole reads a response's stream to its end.
func readWhole(resp *mesh.Response, err error) (*mesh.Response, error) {
	if err != nil || resp.Stream == nil {
		return resp, err
	}
	defer resp.Stream.Close()
	resp.Body, err = io.ReadAll(mesh.NewReader(resp.Stream))
	return resp, err
}

// All framings of a body by RFC 9112 §6.3, and the answers without one.
func TestBodies(t *testing.T) {
	s := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/chunked":
			for i := range 3 {
				fmt.Fprintf(w, "part%d;", i)
				w.(http.Flusher).Flush()
			}
		case "/none":
			w.WriteHeader(http.StatusNoContent)
		case "/unchanged":
			w.Header().Set("ETag", `"e"`)
			w.WriteHeader(http.StatusNotModified)
		case "/large":
			_, _ = w.Write(make([]byte, mesh.MaxBody))
		case "/larger":
			_, _ = w.Write(make([]byte, 3*mesh.MaxBody))
		default:
			w.Header().Set("Content-Length", "5")
			_, _ = w.Write([]byte("hello"))
		}
	})
	r := start(t, config(s.URL))
	for _, c := range []struct {
		method, target string
		status, length int
	}{
		{"GET", "/", 200, 5},
		{"HEAD", "/", 200, 0},
		{"GET", "/chunked", 200, 18},
		{"GET", "/none", 204, 0},
		{"GET", "/unchanged", 304, 0},
		{"GET", "/large", 200, mesh.MaxBody},
		{"GET", "/larger", 200, 3 * mesh.MaxBody},
	} {
		for range 3 { // over reused connections too
			resp, err := r.do(t, c.method, c.target, "")
			if err != nil {
				t.Fatalf("%s %s: %v", c.method, c.target, err)
			}
			if resp.Status != c.status || len(resp.Body) != c.length {
				t.Errorf("%s %s: got %d with %d bytes", c.method, c.target, resp.Status, len(resp.Body))
			}
		}
	}
	if resp, err := r.do(t, "HEAD", "/", ""); err != nil || resp.Header.Get("Content-Length") != "5" {
		t.Errorf("HEAD: %+v, %v", resp, err)
	}
}

// rawTarget answers each connection with the given bytes and closes it.
func rawTarget(tb testing.TB, answer string) (url string, requests *atomic.Int64) {
	tb.Helper()
	requests = new(atomic.Int64)
	return listeningTarget(tb, func(c net.Conn) {
		requests.Add(1)
		answering(answer)(c)
	}), requests
}

func TestRawResponses(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		body         string
		broken       bool
	}{
		{"until close", "HTTP/1.1 200 OK\r\n\r\nall of it", "all of it", false},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nold", "old", false},
		{"interim first", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" +
			"ok", "ok", false},
		{
			"trailer", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-T: 1\r\n\r\n", "ok",
			false,
		},
		{"same lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", "ok", false},
		{"different lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", "", true},
		{"short body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "", true},
		{"cut chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nok", "", true},
		{"cut before the last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "", true},
		{"bad chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok\r\n0\r\n\r\n", "", true},
		{"huge chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff0\r\nok", "", true},
		{"gzip coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok", "", true},
		{"upgrade", "HTTP/1.1 101 Switching Protocols\r\n\r\n", "", true},
		{"not HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n", "", true},
		{"status 99", "HTTP/1.1 099 X\r\n\r\n", "", true},
		{"endless head", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("a", 70<<10), "", true},
		{"nothing", "", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			url, requests := rawTarget(t, c.answer)
			r := start(t, config(url))
			resp, err := r.do(t, "POST", "/", "x")
			if c.broken {
				if node.CodeOf(err) != node.CodeUpstream {
					t.Errorf("got %+v, %v", resp, err)
				}
			} else if err != nil || string(resp.Body) != c.body {
				t.Errorf("got %+v, %v", resp, err)
			}
			if n := requests.Load(); n != 1 {
				t.Errorf("the POST was sent %d times", n)
			}
		})
	}
}

// Whatever a target answers, nothing crashes and nothing invalid is returned.
func FuzzResponse(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "GET")
	f.Add("HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\nKeep-Alive: timeout=5\r\n\r\n", "HEAD")
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "PUT")
	f.Add("HTTP/1.1 200 OK\nContent-Length: 2\nX : a\n b\n\nok", "GET")
	f.Fuzz(func(t *testing.T, answer, method string) {
		resp, err := upstream.ReadResponse([]byte(answer), method)
		if err == nil && (resp.Status < 200 || resp.Status > 599 || len(resp.Body) > mesh.MaxBody) {
			t.Errorf("%q became %+v", answer, resp)
		}
	})
}

// A GET is sent to another target when the first closes the connection. A POST that may have arrived isn't.
func TestRetries(t *testing.T) {
	broken, sent := rawTarget(t, "")
	var served atomic.Int64
	good := startServer(t, func(http.ResponseWriter, *http.Request) { served.Add(1) })
	dead := "http://127.0.0.1:1"
	t.Run("GET", func(t *testing.T) {
		r := start(t, config(broken, good.URL))
		for range 20 {
			if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
				t.Fatalf("got %+v, %v", resp, err)
			}
		}
	})
	t.Run("POST", func(t *testing.T) {
		sent.Store(0)
		served.Store(0)
		r := start(t, config(broken, good.URL))
		for range 20 {
			_, _ = r.do(t, "POST", "/", "x") // fails where it went to the broken one
		}
		if total := sent.Load() + served.Load(); total != 20 {
			t.Errorf("20 POSTs arrived %d times", total)
		}
	})
	t.Run("POST that can't connect", func(t *testing.T) {
		r := start(t, config(dead, good.URL))
		for range 20 {
			if resp, err := r.do(t, "POST", "/", "x"); err != nil || resp.Status != 200 {
				t.Fatalf("got %+v, %v", resp, err)
			}
		}
	})
	t.Run("nobody", func(t *testing.T) {
		r := start(t, config(dead))
		if _, err := r.do(t, "POST", "/", "x"); node.CodeOf(err) != node.CodeUpstream {
			t.Errorf("got %v", err)
		}
	})
}

// An idle connection that the target has closed causes no error, not even for a POST.
func TestStaleConnections(t *testing.T) {
	s := startServer(t, func(http.ResponseWriter, *http.Request) {})
	r := start(t, config(s.URL))
	for _, method := range []string{"GET", "POST", "GET", "POST"} {
		if _, err := r.do(t, method, "/", ""); err != nil {
			t.Fatal(err)
		}
		s.CloseClientConnections()
	}
}

func TestTimeouts(t *testing.T) {
	release := make(chan struct{})
	s := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	cfg := config(s.URL)
	cfg.Timeout = node.Duration(50 * time.Millisecond)
	r := start(t, cfg)
	begin := time.Now()
	if _, err := r.do(t, "POST", "/", ""); node.CodeOf(err) != node.CodeTimeout {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}

// A target may take as long as the route allows, unless the upstream has a shorter timeout.
func TestRouteTimeoutCounts(t *testing.T) {
	now := time.Now()
	req := &mesh.Request{Deadline: now.Add(time.Minute)}
	if at := upstream.DeadlineOf(config(), req); !at.Equal(req.Deadline) {
		t.Errorf("a request of a minute has %s by default", at.Sub(now))
	}
	cfg := config()
	for own, want := range map[time.Duration]time.Duration{10 * time.Second: 10 * time.Second, time.Hour: time.Minute} {
		cfg.Timeout = node.Duration(own)
		if got := upstream.DeadlineOf(cfg, req).Sub(now).Round(time.Second); got != want {
			t.Errorf("a request of a minute to an upstream of %s has %s, want %s", own, got, want)
		}
	}
}

// A target whose health check fails gets no requests until it passes again.
func TestHealth(t *testing.T) {
	var sick atomic.Bool
	var served [2]atomic.Int64
	targets := make([]*httptest.Server, 2)
	for i := range targets {
		targets[i] = startServer(t, func(w http.ResponseWriter, r *http.Request) {
			if i == 1 && sick.Load() {
				w.WriteHeader(http.StatusInternalServerError)
			}
			if r.URL.Path == "/healthz" {
				_, _ = w.Write(make([]byte, mesh.MaxBody+1)) // a page of any length is fine
			}
			if r.URL.Path != "/healthz" {
				served[i].Add(1)
			}
		})
	}
	cfg := config(targets[0].URL, targets[1].URL)
	cfg.Health = &node.Health{Path: "/healthz"}
	cfg.Health.Defaults()
	cfg.Health.Interval = node.Duration(10 * time.Millisecond)
	r := start(t, cfg)
	sick.Store(true)
	nodetest.Eventually(t, "the sick target is down", func() bool { return r.state(targets[1].URL) == "down" })
	cfg.Targets[1].Weight = 5
	if err := r.set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}); err != nil {
		t.Fatal(err)
	}
	if state := r.state(targets[1].URL); state != "down" {
		t.Errorf("a new weight made the target %s", state)
	}
	before := served[1].Load()
	for range 50 {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	if served[1].Load() != before {
		t.Error("the target that is down got requests")
	}
	sick.Store(false)
	nodetest.Eventually(t, "the target is up", func() bool { return r.state(targets[1].URL) == "up" })
	nodetest.Eventually(t, "it gets requests", func() bool {
		_, err := r.do(t, "GET", "/", "")
		return err == nil && served[1].Load() > before
	})
}

// Once the health check has noticed that a target stopped, no client sees an error, whatever the method.
func TestStoppedTarget(t *testing.T) {
	stays := startServer(t, func(http.ResponseWriter, *http.Request) {})
	stops := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	cfg := config(stays.URL, stops.URL)
	cfg.Health = &node.Health{Path: "/"}
	cfg.Health.Defaults()
	cfg.Health.Interval = node.Duration(10 * time.Millisecond)
	r := start(t, cfg)
	for range 20 {
		if _, err := r.do(t, "POST", "/", "x"); err != nil {
			t.Fatal(err)
		}
	}
	stops.Close()
	nodetest.Eventually(t, "the stopped target is down", func() bool { return r.state(stops.URL) == "down" })
	for i := range 200 {
		method := []string{"GET", "POST"}[i%2]
		if resp, err := r.do(t, method, "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("%s after the check noticed: %+v, %v", method, resp, err)
		}
	}
	stays.Close()
	nodetest.Eventually(t, "both are down", func() bool { return r.state(stays.URL) == "down" })
	if _, err := r.do(t, "GET", "/", ""); node.CodeOf(err) != node.CodeNoTarget {
		t.Errorf("with no healthy target: %v", err)
	}
}

// A target that fails requests in a row is ejected and returns. It is used while ejected if there is no other.
func TestEjection(t *testing.T) {
	broken, sent := rawTarget(t, "")
	good := startServer(t, func(http.ResponseWriter, *http.Request) {})
	r := start(t, config(broken, good.URL))
	nodetest.Eventually(t, "the failing target rests", func() bool {
		_, _ = r.do(t, "GET", "/", "")
		return r.state(broken) == "resting"
	})
	before := sent.Load()
	for range 20 {
		if _, err := r.do(t, "GET", "/", ""); err != nil {
			t.Fatal(err)
		}
	}
	if n := sent.Load() - before; n > 1 { // one, if the ejection just ended
		t.Errorf("the resting target got %d requests", n)
	}
	nodetest.Eventually(t, "it is tried again", func() bool {
		_, _ = r.do(t, "GET", "/", "")
		return sent.Load() > before
	})
	alone := start(t, config(broken))
	for range 10 {
		_, _ = alone.do(t, "GET", "/", "")
	}
	before = sent.Load()
	_, _ = alone.do(t, "GET", "/", "")
	if sent.Load() == before {
		t.Error("the only target wasn't tried because it rests")
	}
}

// Weights distribute the requests. Of two equal targets the slow one gets fewer.
func TestBalance(t *testing.T) {
	var counts [2]atomic.Int64
	handler := func(i int, delay time.Duration) http.HandlerFunc {
		return func(_ http.ResponseWriter, r *http.Request) {
			counts[i].Add(1)
			if delay > 0 {
				select {
				case <-time.After(delay):
				case <-r.Context().Done():
				}
			}
		}
	}
	load := func(r *rig, n int) {
		counts[0].Store(0)
		counts[1].Store(0)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range n / 8 {
					if _, err := r.do(t, "POST", "/", ""); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	cfg := config(startServer(t, handler(0, 0)).URL, startServer(t, handler(1, 0)).URL)
	cfg.Targets[1].Weight = 3
	load(start(t, cfg), 1600)
	if share := float64(counts[1].Load()) / 1600; share < 0.6 || share > 0.9 {
		t.Errorf("the target of weight 3 in 4 got %.0f %%", share*100)
	}
	load(start(t, config(startServer(t, handler(0, 0)).URL, startServer(t, handler(1, 5*time.Millisecond)).URL)), 800)
	if counts[1].Load() >= counts[0].Load() {
		t.Errorf("the slow target got %d requests, the fast one %d", counts[1].Load(), counts[0].Load())
	}
}

// Canceling a request ends the call to the target.
func TestCancelReachesTarget(t *testing.T) {
	started, ended := make(chan struct{}), make(chan struct{})
	s := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		close(started)
		<-r.Context().Done()
		close(ended)
	})
	r := start(t, config(s.URL))
	go func() {
		_, _ = r.conn.Do(t.Context(), r.conn.Upstream("api"),
			&mesh.Request{Method: "POST", Target: "/", Host: "h", Deadline: time.Now().Add(300 * time.Millisecond)})
	}()
	<-started
	<-ended // the test's own timeout fails this
}

func BenchmarkUpstream(b *testing.B) {
	s := startServer(b, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) })
	r := start(b, config(s.URL))
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := r.do(b, "GET", "/", ""); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
