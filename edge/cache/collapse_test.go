package cache_test

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// getAtOnce asks for a path from n clients at once and gives what they saw. meanwhile runs once all have sent.
func getAtOnce(t *testing.T, r *edgetest.Rig, n int, path string, meanwhile func(), header ...string) []*edgetest.Seen {
	t.Helper()
	out := make([]*edgetest.Seen, n)
	var sent, done sync.WaitGroup
	sent.Add(n)
	request := edgetest.RequestHead("GET", path, header)
	for i := range n {
		done.Go(func() {
			c := r.Dial(t)
			defer c.Close()
			_, err := io.WriteString(c, request)
			if sent.Done(); err != nil {
				t.Error(err)
			}
			out[i] = edgetest.Receive(t, bufio.NewReader(c), "GET")
		})
	}
	sent.Wait()
	if meanwhile != nil {
		meanwhile()
	}
	done.Wait()
	return out
}

// 200 clients want one cold key: the origin is asked once, and each gets it.
func TestColdKeyIsFetchedOnceForAll(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	held, open := edgetest.Gate(edgetest.Fresh("body %d"))
	defer open()
	r.On("/a", held)
	list := getAtOnce(t, r, 200, "/a", func() {
		nodetest.Eventually(t, "the origin was asked", func() bool { return r.Count("/a") == 1 })
		open()
	})
	for _, s := range list {
		if s.Text != "body 1" || s.StatusCode != 200 {
			t.Errorf("got %s", s)
		}
	}
	if n := r.Count("/a"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// A slow body reaches those who wait while it still comes, and late comers from its beginning; the origin is asked
// once.
func TestSlowBodyStreamsToAllWhoWait(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	body := edgetest.NewPacedBody()
	r.On("/a", edgetest.Streams(body, 2*edgetest.OverMessage, "Cache-Control", "max-age=60", "Age", "7"))
	a, b := strings.Repeat("a", edgetest.OverMessage), strings.Repeat("b", edgetest.OverMessage)
	go edgetest.Feed(body, a)
	first := r.OpenBody(t, "/a")
	first.Want(a)
	if first.Resp.Header.Get("Age") == "" {
		t.Errorf("the origin's Age is lost: %v", first.Resp.Header)
	}
	second := r.OpenBody(t, "/a")
	second.Want(a) // before the rest is there
	go func() {
		edgetest.Feed(body, b)
		close(body.Pieces)
	}()
	third := r.OpenBody(t, "/a")
	first.Want(b)
	second.Want(b)
	third.Want(a + b)
	for _, x := range []*edgetest.BodyReader{first, second, third} {
		x.WantEnd()
	}
	nodetest.Eventually(t, "it is stored", func() bool { return r.Get(t, "/a").Hit })
	r.Get(t, "/a").WantHit(t, "afterwards", a+b)
	if n := r.Count("/a"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// What is for one client only goes to none of those who waited: each asks for its own, and later ones don't wait for
// one another.
func TestPrivateResponseGoesToNoneWhoWaited(t *testing.T) {
	for _, control := range []string{"private", "no-store", "cookie", "vary", "error"} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		var at sync.WaitGroup
		held, open := edgetest.Gate(func(_ *mesh.Request, n int) *mesh.Response {
			resp := &mesh.Response{
				Status: 200, Header: edgetest.Fields("Cache-Control", "max-age=60, "+control),
				Body: []byte(strconv.Itoa(n)),
			}
			switch control {
			case "cookie":
				resp.Header = edgetest.Fields("Set-Cookie", "id="+strconv.Itoa(n), "Last-Modified",
					edgetest.HTTPDate(time.Hour))
			case "vary":
				resp.Header.Add("Vary", "*")
			case "error":
				resp.Status, resp.Header = 500, nil
			}
			return resp
		})
		defer open()
		r.On("/a", held)
		const n = 30
		list := getAtOnce(t, r, n, "/a", func() {
			nodetest.Eventually(t, "the origin was asked", func() bool { return r.Count("/a") > 0 })
			open()
		})
		bodies := map[string]bool{}
		for _, s := range list {
			if bodies[s.Text] || s.Hit || s.Collapsed {
				t.Errorf("%s: two clients got %s", control, s)
			}
			bodies[s.Text] = true
		}
		if got := r.Count("/a"); got != n {
			t.Errorf("%s: the origin was asked %d times, want %d", control, got, n)
		}
		if control == "error" {
			continue
		}
		at.Add(n) // hit-for-miss: all of them are at the origin at once, or this never ends
		r.On("/a", func(*mesh.Request, int) *mesh.Response {
			at.Done()
			at.Wait()
			return &mesh.Response{Status: 200, Header: edgetest.Fields("Cache-Control", "private")}
		})
		getAtOnce(t, r, n, "/a", nil)
	}
}

// A URL whose responses weren't stored is stored as soon as one may be.
func TestURLIsStoredAsSoonAsItMayBe(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.InTurn(edgetest.Always(200, "%d", "Cache-Control", "no-store"), edgetest.Fresh("%d")))
	r.Get(t, "/a")
	r.Get(t, "/a")
	r.Get(t, "/a").WantHit(t, "once it may be stored", "2")
}

// The client that began a fetch goes away: those who wait get it, and it is stored.
func TestFetchOutlivesTheClientThatBeganIt(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	held, open := edgetest.Gate(edgetest.Fresh("body %d"))
	defer open()
	r.On("/a", held)
	leader := r.Dial(t)
	if _, err := io.WriteString(leader, "GET /a HTTP/1.1\r\nHost: example.test\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.Count("/a") == 1 })
	waiting := make(chan *edgetest.Seen)
	go func() { waiting <- r.Get(t, "/a") }()
	_ = leader.Close()
	nodetest.Eventually(t, "the leader's end is noticed", func() bool { return r.Connections() <= 1 })
	open()
	if s := <-waiting; s.Text != "body 1" {
		t.Errorf("who waited got %s", s)
	}
	r.Get(t, "/a").WantHit(t, "afterwards", "body 1")
}

// The same in the middle of a body.
func TestFetchOutlivesTheClientThatBeganItInTheBody(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	body := edgetest.NewPacedBody()
	r.On("/a", edgetest.Streams(body, 2*edgetest.OverMessage, "Cache-Control", "max-age=60"))
	a := strings.Repeat("a", edgetest.OverMessage)
	go edgetest.Feed(body, a)
	leader := r.OpenBody(t, "/a")
	leader.Want(a[:1000])
	follower := r.OpenBody(t, "/a")
	_ = leader.Conn.Close()
	follower.Want(a)
	go func() {
		edgetest.Feed(body, a)
		close(body.Pieces)
	}()
	follower.Want(a)
	follower.WantEnd()
	nodetest.Eventually(t, "it is stored", func() bool { return r.Get(t, "/a").Hit })
	if n := r.Count("/a"); n != 1 {
		t.Errorf("the origin was asked %d times", n)
	}
}

// Requests of different variants wait for their own.
func TestVariantsAreFetchedApart(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	held, open := edgetest.Gate(func(req *mesh.Request, _ int) *mesh.Response {
		return &mesh.Response{
			Status: 200, Header: edgetest.Fields("Cache-Control", "max-age=60", "Vary", "X-Kind"),
			Body: []byte(req.Header.Get("X-Kind")),
		}
	})
	defer open()
	r.On("/a", held)
	var wg sync.WaitGroup
	for _, kind := range []string{"cat", "dog"} {
		wg.Go(func() {
			for _, s := range getAtOnce(t, r, 30, "/a", nil, "X-Kind", kind) {
				if s.Text != kind {
					t.Errorf("%s got %s", kind, s)
				}
			}
		})
	}
	nodetest.Eventually(t, "the origin was asked", func() bool { return r.Count("/a") > 0 })
	open()
	wg.Wait()
	if n := r.Count("/a"); n < 2 || n > 10 {
		t.Errorf("the origin was asked %d times for two variants", n)
	}
}

// An origin that is away fails once for all who wait.
func TestOriginThatIsAwayFailsOnceForAllWhoWait(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	r.EndOrigin()
	for _, s := range getAtOnce(t, r, 50, "/a", nil) {
		if s.StatusCode != 503 && s.StatusCode != 502 {
			t.Errorf("got %s", s)
		}
	}
}

// However the requests of one cold key fall in time, with an origin that answers at once, it is asked once.
func TestColdKeyIsFetchedOnceHoweverRequestsFallInTime(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for i := range 20 {
		path := "/" + strconv.Itoa(i)
		r.On(path, edgetest.Fresh("body"))
		for _, s := range getAtOnce(t, r, 20, path, nil) {
			if s.Text != "body" {
				t.Errorf("%s: %s", path, s)
			}
		}
		if n := r.Count(path); n != 1 {
			t.Errorf("%s: the origin was asked %d times", path, n)
		}
	}
}

// A large body that is fetched anew while its clients get the stale one is fetched once, however long it takes.
func TestLargeBodyIsRefreshedOnce(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	body := edgetest.NewPacedBody()
	old := edgetest.Text(edgetest.OverMessage)
	r.On("/a", edgetest.InTurn(
		edgetest.Streamed(old, edgetest.OverMessage, "Cache-Control", "max-age=10, stale-while-revalidate=600",
			"Age", "20"),
		edgetest.Streams(body, edgetest.OverMessage, "Cache-Control", "max-age=60"),
	))
	r.Get(t, "/a")
	nodetest.Eventually(t, "it is stored", func() bool { return r.Has("/a") })
	r.Get(t, "/a").WantHit(t, "which begins the refresh", old)
	go edgetest.Feed(body, strings.Repeat("n", edgetest.OverMessage-1))
	for range 20 {
		if s := r.Get(t, "/a"); s.Text != old {
			t.Errorf("while it is fetched anew: %s", s)
		}
	}
	edgetest.Feed(body, "n")
	close(body.Pieces)
	nodetest.Eventually(t, "the new one is served", func() bool { return r.Get(t, "/a").Text != old })
	if n := r.Count("/a"); n != 2 {
		t.Errorf("the origin was asked %d times", n)
	}
}
