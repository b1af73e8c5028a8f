package edge_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// crowd asks for a path from n clients at once and gives what they saw. meanwhile runs once all have sent.
func (r *cacheRig) crowd(t *testing.T, n int, path string, meanwhile func(), header ...string) []*seen {
	t.Helper()
	out := make([]*seen, n)
	var sent, done sync.WaitGroup
	sent.Add(n)
	request := requestOf("GET", path, header)
	for i := range n {
		done.Go(func() {
			c := r.dial(t)
			defer c.Close()
			_, err := io.WriteString(c, request)
			if sent.Done(); err != nil {
				t.Error(err)
			}
			out[i] = receive(t, bufio.NewReader(c), "GET")
		})
	}
	sent.Wait()
	if meanwhile != nil {
		meanwhile()
	}
	done.Wait()
	return out
}

// gate holds an origin's answer back until it is opened.
func gate(f answer) (held answer, open func()) {
	ch := make(chan struct{})
	return func(req *mesh.Request, n int) *mesh.Response {
		<-ch
		return f(req, n)
	}, sync.OnceFunc(func() { close(ch) })
}

// 200 clients want one cold key: the origin is asked once, and each gets it.
func TestCacheCollapseOneFetchForAll(t *testing.T) {
	r := startCache(t, nil)
	held, open := gate(fresh("body %d"))
	defer open()
	r.on("/a", held)
	list := r.crowd(t, 200, "/a", func() {
		nodetest.Eventually(t, "the origin was asked", func() bool { return r.count("/a") == 1 })
		open()
	})
	for _, s := range list {
		if s.body != "body 1" || s.StatusCode != 200 {
			t.Errorf("got %s", s)
		}
	}
	if n := r.count("/a"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// slowly is a body that comes as the test sends it.
type slowly struct {
	pieces chan string
	gone   chan struct{}
	once   sync.Once
	broken bool // it breaks off at the end
}

func newSlowly() *slowly { return &slowly{pieces: make(chan string), gone: make(chan struct{})} }

func (s *slowly) Read(p []byte) (int, error) {
	select {
	case piece, ok := <-s.pieces:
		switch {
		case ok:
			return copy(p, piece), nil
		case s.broken:
			return 0, io.ErrUnexpectedEOF
		}
		return 0, io.EOF
	case <-s.gone:
		return 0, io.ErrClosedPipe
	}
}

func (s *slowly) Close() error {
	s.once.Do(func() { close(s.gone) })
	return nil
}

// streams answers with a body that comes in pieces; length is announced unless it is negative.
func streams(s *slowly, length int64, header ...string) answer {
	return func(*mesh.Request, int) *mesh.Response {
		return &mesh.Response{Status: 200, Header: fields(header...), Stream: mesh.NewBody(s), Length: length}
	}
}

// reader reads a response's body in steps.
type reader struct {
	t    *testing.T
	conn net.Conn
	resp *http.Response
}

func (r *cacheRig) open(t *testing.T, path string, header ...string) *reader {
	t.Helper()
	c := r.dial(t)
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, requestOf("GET", path, header)); err != nil {
		t.Fatal(err)
	}
	out := &reader{t: t, conn: c}
	out.resp, _ = http.ReadResponse(bufio.NewReader(c), nil)
	if out.resp == nil {
		t.Fatal("no response")
	}
	return out
}

func (r *reader) want(text string) {
	r.t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(r.resp.Body, b); err != nil || string(b) != text {
		r.t.Errorf("read %q, %v, want %q", short(string(b)), err, short(text))
	}
}

func (r *reader) wantEnd() {
	r.t.Helper()
	if rest, err := io.ReadAll(r.resp.Body); err != nil || len(rest) > 0 {
		r.t.Errorf("after the end: %q, %v", short(string(rest)), err)
	}
}

const piece = 600_000 // more than one message takes, so that it streams

// A slow body reaches those who wait while it still comes, and late comers from its beginning; the origin is asked
// once.
func TestCacheCollapseStreamsToWaiters(t *testing.T) {
	r := startCache(t, nil)
	body := newSlowly()
	r.on("/a", streams(body, 2*piece, "Cache-Control", "max-age=60", "Age", "7"))
	a, b := strings.Repeat("a", piece), strings.Repeat("b", piece)
	go feed(body, a)
	first := r.open(t, "/a")
	first.want(a)
	if first.resp.Header.Get("Age") == "" {
		t.Errorf("the origin's Age is lost: %v", first.resp.Header)
	}
	second := r.open(t, "/a")
	second.want(a) // before the rest is there
	go func() {
		feed(body, b)
		close(body.pieces)
	}()
	third := r.open(t, "/a")
	first.want(b)
	second.want(b)
	third.want(a + b)
	for _, x := range []*reader{first, second, third} {
		x.wantEnd()
	}
	nodetest.Eventually(t, "it is stored", func() bool { return r.get(t, "/a").hit })
	r.get(t, "/a").wantHit(t, "afterwards", a+b)
	if n := r.count("/a"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

func feed(s *slowly, text string) {
	for len(text) > 0 {
		n := min(len(text), 1<<10)
		select {
		case s.pieces <- text[:n]:
		case <-s.gone:
			return
		}
		text = text[n:]
	}
}

// What is for one client only goes to none of those who waited: each asks for its own, and later ones don't wait for
// one another.
func TestCacheCollapsePrivateIsNotShared(t *testing.T) {
	for _, control := range []string{"private", "no-store", "cookie", "vary", "error"} {
		r := startCache(t, nil)
		var at sync.WaitGroup
		held, open := gate(func(_ *mesh.Request, n int) *mesh.Response {
			resp := &mesh.Response{
				Status: 200, Header: fields("Cache-Control", "max-age=60, "+control),
				Body: []byte(strconv.Itoa(n)),
			}
			switch control {
			case "cookie":
				resp.Header = fields("Set-Cookie", "id="+strconv.Itoa(n), "Last-Modified", httpDate(time.Hour))
			case "vary":
				resp.Header.Add("Vary", "*")
			case "error":
				resp.Status, resp.Header = 500, nil
			}
			return resp
		})
		defer open()
		r.on("/a", held)
		const n = 30
		list := r.crowd(t, n, "/a", func() {
			nodetest.Eventually(t, "the origin was asked", func() bool { return r.count("/a") > 0 })
			open()
		})
		bodies := map[string]bool{}
		for _, s := range list {
			if bodies[s.body] || s.hit || s.shared {
				t.Errorf("%s: two clients got %s", control, s)
			}
			bodies[s.body] = true
		}
		if got := r.count("/a"); got != n {
			t.Errorf("%s: the origin was asked %d times, want %d", control, got, n)
		}
		if control == "error" {
			continue
		}
		at.Add(n) // hit-for-miss: all of them are at the origin at once, or this never ends
		r.on("/a", func(*mesh.Request, int) *mesh.Response {
			at.Done()
			at.Wait()
			return &mesh.Response{Status: 200, Header: fields("Cache-Control", "private")}
		})
		r.crowd(t, n, "/a", nil)
	}
}

// A URL whose responses weren't stored is stored as soon as one may be.
func TestCacheCollapseHitForMissEnds(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", inTurn(always(200, "%d", "Cache-Control", "no-store"), fresh("%d")))
	r.get(t, "/a")
	r.get(t, "/a")
	r.get(t, "/a").wantHit(t, "once it may be stored", "2")
}

// The client that began a fetch goes away: those who wait get it, and it is stored.
func TestCacheCollapseLeaderGoesAway(t *testing.T) {
	r := startCache(t, nil)
	held, open := gate(fresh("body %d"))
	defer open()
	r.on("/a", held)
	leader := r.dial(t)
	if _, err := io.WriteString(leader, "GET /a HTTP/1.1\r\nHost: example.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.count("/a") == 1 })
	waiting := make(chan *seen)
	go func() { waiting <- r.get(t, "/a") }()
	_ = leader.Close()
	nodetest.Eventually(t, "the leader's end is noticed", func() bool { return r.Connections() <= 1 })
	open()
	if s := <-waiting; s.body != "body 1" {
		t.Errorf("who waited got %s", s)
	}
	r.get(t, "/a").wantHit(t, "afterwards", "body 1")
}

// The same in the middle of a body.
func TestCacheCollapseLeaderGoesAwayInBody(t *testing.T) {
	r := startCache(t, nil)
	body := newSlowly()
	r.on("/a", streams(body, 2*piece, "Cache-Control", "max-age=60"))
	a := strings.Repeat("a", piece)
	go feed(body, a)
	leader := r.open(t, "/a")
	leader.want(a[:1000])
	follower := r.open(t, "/a")
	_ = leader.conn.Close()
	follower.want(a)
	go func() {
		feed(body, a)
		close(body.pieces)
	}()
	follower.want(a)
	follower.wantEnd()
	nodetest.Eventually(t, "it is stored", func() bool { return r.get(t, "/a").hit })
	if n := r.count("/a"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// Requests of different variants wait for their own.
func TestCacheCollapseVariants(t *testing.T) {
	r := startCache(t, nil)
	held, open := gate(func(req *mesh.Request, _ int) *mesh.Response {
		return &mesh.Response{
			Status: 200, Header: fields("Cache-Control", "max-age=60", "Vary", "X-Kind"),
			Body: []byte(req.Header.Get("X-Kind")),
		}
	})
	defer open()
	r.on("/a", held)
	var wg sync.WaitGroup
	for _, kind := range []string{"cat", "dog"} {
		wg.Go(func() {
			for _, s := range r.crowd(t, 30, "/a", nil, "X-Kind", kind) {
				if s.body != kind {
					t.Errorf("%s got %s", kind, s)
				}
			}
		})
	}
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.count("/a") > 0 })
	open()
	wg.Wait()
	if n := r.count("/a"); n < 2 || n > 10 {
		t.Errorf("the origin was asked %d times for two variants", n)
	}
}

// An origin that is away fails once for all who wait.
func TestCacheCollapseUnreachable(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = node.Duration(time.Minute) })
	r.away()
	for _, s := range r.crowd(t, 50, "/a", nil) {
		if s.StatusCode != 503 && s.StatusCode != 502 {
			t.Errorf("got %s", s)
		}
	}
}

// However the requests of one cold key fall in time, with an origin that answers at once, it is asked once.
func TestCacheCollapseStampede(t *testing.T) {
	r := startCache(t, nil)
	for i := range 20 {
		path := "/" + strconv.Itoa(i)
		r.on(path, fresh("body"))
		for _, s := range r.crowd(t, 20, path, nil) {
			if s.body != "body" {
				t.Errorf("%s: %s", path, s)
			}
		}
		if n := r.count(path); n != 1 {
			t.Errorf("%s: the origin was asked %d times", path, n)
		}
	}
}

// A large body that is fetched anew while its clients get the stale one is fetched once, however long it takes.
func TestCacheCollapseRefreshOfLarge(t *testing.T) {
	r := startCache(t, nil)
	body := newSlowly()
	old := text(piece)
	r.on("/a", inTurn(streamed(old, piece, "Cache-Control", "max-age=10, stale-while-revalidate=600", "Age", "20"),
		streams(body, piece, "Cache-Control", "max-age=60")))
	r.get(t, "/a")
	nodetest.Eventually(t, "it is stored", func() bool { return r.has("/a") })
	r.get(t, "/a").wantHit(t, "which begins the refresh", old)
	go feed(body, strings.Repeat("n", piece-1))
	for range 20 {
		if s := r.get(t, "/a"); s.body != old {
			t.Errorf("while it is fetched anew: %s", s)
		}
	}
	feed(body, "n")
	close(body.pieces)
	nodetest.Eventually(t, "the new one is served", func() bool { return r.get(t, "/a").body != old })
	if n := r.count("/a"); n != 2 {
		t.Errorf("the origin was asked %d times", n)
	}
}
