package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/edge/edgetest"
	"millrace/kvcache/limit"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// startLimitedCache starts an edge with a cache and with limits on all of its routes. The limits have a NATS server of
// their own, so that what the cache writes keeps nobody waiting.
func startLimitedCache(tb testing.TB, cache func(*node.Cache), change func(*edgetest.Config),
	limits ...node.Limit,
) (*edgetest.Rig, *limit.Limiter) {
	tb.Helper()
	cfg := edgetest.Cached(cache)
	cfg.Limits = &edgetest.LimitsConfig{Apart: true}
	if change != nil {
		change(&cfg)
	}
	for i := range cfg.Routes {
		cfg.Routes[i].Name = "r"
		cfg.Routes[i].Limit = limits
	}
	r := edgetest.Start(tb, cfg)
	return r, r.Limiter
}

// A hit counts like any other request, once, whichever way it is answered: from inside the guard, or with the rest of
// them.
func TestHitCountsOnce(t *testing.T) {
	for name, c := range map[string]struct {
		limits []node.Limit
		want   int
	}{
		"one":           {[]node.Limit{edgetest.Per("10/1h")}, 10},
		"two":           {[]node.Limit{edgetest.Per("10/1h"), edgetest.Per("900/1h")}, 10},
		"the other way": {[]node.Limit{edgetest.Per("900/1h"), edgetest.Per("10/1h")}, 10},
		"small leases":  {[]node.Limit{edgetest.Per("20/1h"), edgetest.Per("19/2h"), edgetest.Per("18/3h")}, 18},
		"with places":   {[]node.Limit{edgetest.Per("10/1h"), edgetest.InFlight(30)}, 10},
		"sliding": {[]node.Limit{edgetest.Per("900/1h"), edgetest.Per("10/1h", func(l *node.Limit) {
			l.Algorithm = node.AlgorithmSliding
		})}, 10},
		"bucket": {[]node.Limit{edgetest.Per("10/1h", func(l *node.Limit) {
			l.Algorithm = node.AlgorithmBucket
		}), edgetest.Per("900/1h")}, 10},
		"queued": {[]node.Limit{edgetest.Per("900/1h"), edgetest.Per("10/1h", func(l *node.Limit) {
			l.Mode = node.LimitModeQueue
		})}, 10},
		"skip successful": {[]node.Limit{edgetest.Per("5/1h", func(l *node.Limit) { l.SkipSuccessful = true })}, 30},
		"shadow":          {[]node.Limit{edgetest.Per("5/1h", func(l *node.Limit) { l.Shadow = true })}, 30},
	} {
		t.Run(name, func(t *testing.T) {
			r, l := startLimitedCache(t, nil, nil, c.limits...)
			r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=600"))
			conn := r.Dial(t)
			defer conn.Close()
			in := bufio.NewReader(conn)
			passed, hits := 0, 0
			for i := range 30 {
				_, _ = io.WriteString(conn, edgetest.RequestHead("GET", "/a", nil))
				switch s := edgetest.Receive(t, in, "GET"); {
				case s.StatusCode == 200 && s.Text == "1":
					passed++
					if s.Hit {
						hits++
					}
				case s.StatusCode != 429 || s.Hit:
					t.Errorf("request %d: %s", i+1, s)
				}
			}
			if passed != c.want || hits != c.want-1 {
				t.Errorf("%d passed, %d of them hits, want %d", passed, hits, c.want)
			}
			for i, lim := range c.limits {
				rule := l.Rules()[i]
				if rule.Occupies() || lim.SkipSuccessful || lim.Shadow {
					continue
				}
				stats := rule.Stats()
				if lim.Algorithm != node.AlgorithmBucket { // which fills up all the time
					edgetest.WaitSpent(t, l, rule.Name, "127.0.0.1", c.want)
				}
				// a limit behind it may have refused what it allowed
				if stats.Allowed < uint64(c.want) || stats.Allowed+stats.Denied > 30 {
					t.Errorf("%s: counted %+v for 30 requests", rule.Name, stats)
				}
			}
		})
	}
}

// The same with all of them at once.
func TestHitsAtOnceCountOnceEach(t *testing.T) {
	r, l := startLimitedCache(t, nil, nil, edgetest.Per("60/1h"), edgetest.Per("100/1h"))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=600"))
	r.Get(t, "/a", "X-Forwarded-For", "192.0.2.1")
	var passed, refused atomic.Int64
	var clients sync.WaitGroup
	for range 16 {
		clients.Go(func() {
			conn := r.Dial(t)
			defer conn.Close()
			in := bufio.NewReader(conn)
			for range 10 {
				_, _ = io.WriteString(conn, edgetest.RequestHead("GET", "/a", nil))
				switch s := edgetest.Receive(t, in, "GET"); s.StatusCode {
				case 200:
					passed.Add(1)
				case 429:
					refused.Add(1)
				default:
					t.Errorf("got %s", s)
				}
			}
		})
	}
	clients.Wait()
	if passed.Load() != 60 || refused.Load() != 100 {
		t.Errorf("%d passed and %d were refused, want 60 and 100", passed.Load(), refused.Load())
	}
	edgetest.WaitSpent(t, l, "r", "127.0.0.1", 60)
	edgetest.WaitSpent(t, l, "r-2", "127.0.0.1", 60)
}

// What is told of limits is a client's own, in hits of every kind, and never stored; nor is what the origin says of its
// limits.
func TestHitTellsTheLimitOfItsOwnClient(t *testing.T) {
	for _, form := range []node.HeaderForm{
		node.HeaderDraft8, node.HeaderDraft7, node.HeaderDraft6, node.HeaderLegacy,
		node.HeaderNone,
	} {
		r, _ := startLimitedCache(t, nil, nil, edgetest.Per("100/1h", edgetest.HeaderForm(form)))
		left := func(s *edgetest.Seen) string {
			got := edgetest.LimitFields(t, s.Header)
			text := got["RateLimit"] + got["RateLimit-Remaining"] + got["X-RateLimit-Remaining"]
			text = strings.TrimPrefix(strings.TrimPrefix(text, `"r";r=`), "limit=100, remaining=")
			text, _, _ = strings.Cut(text, ";")
			text, _, _ = strings.Cut(text, ",")
			return text
		}
		plain := edgetest.Always(200, "%d", "Cache-Control", "max-age=600", "ETag", `"e"`,
			"RateLimit", `"origin";r=1;t=1`, "RateLimit-Policy", `"origin";q=1;w=1`, "RateLimit-Remaining", "1",
			"X-RateLimit-Remaining", "1", "RateLimit-Reset", "1")
		r.On("/a", plain)
		r.On("/large", edgetest.Always(200, strings.Repeat("x", 300_000), "Cache-Control", "max-age=600", "ETag", `"e"`,
			"Content-Type", "text/plain"))
		want := map[string]int{}
		ask := func(what, client, method, path string, status int, header ...string) {
			t.Helper()
			s := r.Ask(t, method, path, "", append(slices.Clip(header), "X-Forwarded-For", client)...)
			want[client]++
			text := strconv.Itoa(100 - want[client])
			if form == node.HeaderNone {
				text = ""
			}
			// it is passed on where it doesn't clash
			origin := !s.Hit && form != node.HeaderDraft8 && form != node.HeaderDraft7
			if got := left(s); s.StatusCode != status ||
				(!origin && got != text && !strings.HasPrefix(s.Header.Get("RateLimit"), `"origin"`)) {
				t.Errorf("%s, %s: %s tells %q, want %q of %v", form, what, s, got, text, s.Header)
			}
			if s.Hit && strings.Contains(fmt.Sprint(s.Header), "origin") {
				t.Errorf("%s, %s: what the origin said was stored: %v", form, what, s.Header)
			}
		}
		for _, path := range []string{"/large", "/a"} {
			s := r.Get(t, path, "X-Forwarded-For", "192.0.2.1")
			if want["192.0.2.1"]++; s.Hit {
				t.Fatalf("%s: %s", path, s)
			}
			for range 2 {
				ask("a hit", "192.0.2.1", "GET", path, 200)
				ask("a hit of another", "192.0.2.2", "GET", path, 200)
				ask("HEAD", "192.0.2.3", "HEAD", path, 200)
				ask("304", "192.0.2.3", "GET", path, 304, "If-None-Match", `"e"`)
				ask("206", "192.0.2.3", "GET", path, 206, "Range", "bytes=0-0")
				ask("416", "192.0.2.3", "GET", path, 416, "Range", "bytes=999999-")
			}
		}
	}
}

// A refusal is nobody else's, and asks for nothing.
func TestRefusalIsNotStored(t *testing.T) {
	r, _ := startLimitedCache(t, nil, nil, edgetest.Per("1/1h"))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=600"))
	r.On("/b", edgetest.Always(200, "%d", "Cache-Control", "max-age=600"))
	if s := r.Get(t, "/a"); s.StatusCode != 200 {
		t.Fatal(s)
	}
	for range 2 {
		for _, path := range []string{"/a", "/b"} {
			if s := r.Get(t, path); s.StatusCode != 429 || s.Header.Get("Cache-Status") != "" ||
				s.Header.Get("Cache-Control") != "no-store" || s.Header.Get("Age") != "" {
				t.Errorf("%s: %s", path, s)
			}
		}
	}
	if r.Count("/b") != 0 || r.Has("/b") {
		t.Error("a refused request reached the origin")
	}
	r.Get(t, "/a", "X-Forwarded-For", "192.0.2.1").WantHit(t, "another client", "1")
	r.Get(t, "/b", "X-Forwarded-For", "192.0.2.2").WantFwd(t, "another client", "uri-miss", "1")
	r.Get(t, "/b", "X-Forwarded-For", "192.0.2.3").WantHit(t, "a third", "1")
}

// Each request counts once, whatever the cache makes of it: those that wait for one fetch too, but not the fetches that
// the cache makes by itself.
func TestLimitsCountRequestsNotFetches(t *testing.T) {
	stale := func(c *node.Cache) { c.RequestDirectives = true }
	r, l := startLimitedCache(t, stale, nil, edgetest.Per("100/1h"))
	release := make(chan struct{})
	r.On("/slow", func(q *mesh.Request, n int) *mesh.Response {
		<-release
		return edgetest.Always(200, "%d", "Cache-Control", "max-age=600")(q, n)
	})
	r.On("/stale", edgetest.Always(200, "%d", "Cache-Control", "max-age=0, stale-while-revalidate=600"))
	r.On("/private", edgetest.Always(200, "%d", "Cache-Control", "no-store"))
	all := 0
	count := func(what string, want int, f func()) {
		t.Helper()
		all += want
		f()
		if got := int(l.Rule("r").Stats().Allowed); got != all {
			t.Errorf("%s: counted %d so far, want %d", what, got, all)
		}
		edgetest.WaitSpent(t, l, "r", "127.0.0.1", all)
	}
	count("collapsed", 10, func() {
		var clients sync.WaitGroup
		for range 10 {
			clients.Go(func() {
				if s := r.Get(t, "/slow"); s.Text != "1" {
					t.Errorf("got %s", s)
				}
			})
		}
		nodetest.Eventually(t, "all have been counted", func() bool { return l.Rule("r").Stats().Allowed >= 10 })
		close(release)
		clients.Wait()
	})
	count("refreshed", 1, func() { r.Get(t, "/stale") })
	nodetest.Eventually(t, "it is fetched anew behind a stale hit", func() bool {
		count("stale", 1, func() { r.Get(t, "/stale") })
		return r.Count("/stale") > 1 || t.Failed()
	})
	count("not stored", 2, func() { r.Get(t, "/private"); r.Get(t, "/private") })
	count("not cacheable", 1, func() { r.Ask(t, "POST", "/slow", "body") })
	count("only if cached", 1, func() {
		if s := r.Get(t, "/none", "Cache-Control", "only-if-cached"); s.StatusCode != 504 {
			t.Errorf("got %s", s)
		}
	})
}

// PURGE is a request like any other, unless some client may use it: then it has a route of its own.
func TestPurgeByAClientThatMayIsNotLimited(t *testing.T) {
	r, _ := startLimitedCache(t, nil, nil, edgetest.Per("2/1h"))
	for i, want := range []int{404, 404, 429} {
		if s := r.Ask(t, "PURGE", "/a", ""); s.StatusCode != want {
			t.Errorf("PURGE %d as a method of the route: %s", i+1, s)
		}
	}
	r, _ = startLimitedCache(t, nil, func(s *edgetest.Config) {
		s.Cache.Store = func(c *node.CacheStore) { c.PurgeClients = edgetest.Prefixes("127.0.0.1") }
	}, edgetest.Per("1/1h"))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=600"))
	r.Get(t, "/a")
	for range 3 {
		if s := r.Ask(t, "PURGE", "/a", ""); s.StatusCode != 200 || s.Header.Get("RateLimit") != "" {
			t.Errorf("PURGE of one who may: %s", s)
		}
	}
	if s := r.Ask(t, "PURGE", "/a", "", "X-Forwarded-For", "192.0.2.1"); s.StatusCode != 403 {
		t.Errorf("PURGE of one who may not: %s", s)
	}
	r.Get(t, "/a", "X-Forwarded-For", "192.0.2.1").WantFwd(t, "purged", "uri-miss", "2")
	if s := r.Get(t, "/a"); s.StatusCode != 429 {
		t.Errorf("the first client: %s", s)
	}
}

// What is counted quickly settles as everything does: a stored error is a failure.
func TestStoredErrorCountsAsAFailure(t *testing.T) {
	r, l := startLimitedCache(t, nil, nil, edgetest.Per("3/1h", func(l *node.Limit) { l.SkipFailed = true }))
	r.On("/gone", edgetest.Always(410, "%d", "Cache-Control", "max-age=600"))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=600"))
	for range 10 {
		if s := r.Get(t, "/gone"); s.StatusCode != 410 || edgetest.OnlyQuota(t, s.Header).R != 3 {
			t.Errorf("got %s with %s", s, s.Header.Get("RateLimit"))
		}
	}
	edgetest.WaitSpent(t, l, "r", "127.0.0.1", 0)
	for i := range 5 {
		if s := r.Get(t, "/a"); (s.StatusCode == http.StatusOK) != (i < 3) {
			t.Errorf("request %d: %s", i+1, s)
		}
	}
	if s := r.Get(t, "/gone"); s.StatusCode != 429 {
		t.Errorf("with nothing left: %s", s)
	}
}

// Purged and stale responses, and those in chunks, aren't answered quickly. Limits hold all the same while the cache
// changes under them, and no place is lost: four clients that do one thing after another never need more than four.
func TestLimitsHoldWhileTheCacheChanges(t *testing.T) {
	r, l := startLimitedCache(t, nil, nil, edgetest.Per("80/1h"), edgetest.InFlight(4))
	r.On("/a", edgetest.Always(200, "%d", "Cache-Control", "max-age=1"))
	r.On("/b", edgetest.Always(200, strings.Repeat("x", 300_000), "Cache-Control", "max-age=1"))
	var passed atomic.Int64
	var clients sync.WaitGroup
	for i := range 4 {
		clients.Go(func() {
			for j := range 30 {
				path := "/" + string(rune('a'+(i+j)%2))
				if s := r.Get(t, path); s.StatusCode == 200 && s.Broken == nil {
					passed.Add(1)
				} else if s.StatusCode != 429 {
					t.Errorf("%s: %s", path, s)
				}
				if j%10 == 0 {
					r.Ask(t, "DELETE", path, "", "X-Forwarded-For", "192.0.2."+strconv.Itoa(j))
				}
			}
		})
	}
	clients.Wait()
	if n := passed.Load(); n != 80 {
		t.Errorf("%d passed, want 80", n)
	}
	edgetest.WaitSpent(t, l, "r", "127.0.0.1", 80)
}

// What the gateway itself answers, since its origin doesn't, tells of the cache and of the limits like any other
// response: it costs permits like any other.
func TestOwnResponsesTellOfCacheAndLimits(t *testing.T) {
	r, _ := startLimitedCache(t, nil, edgetest.ToUpstream, edgetest.Per("5/1h"))
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		panic(http.ErrAbortHandler)
	}))
	defer app.Close()
	r.Upstream(t, app.URL)
	for i, method := range []string{"GET", "POST"} {
		s := r.Ask(t, method, "/a", "")
		want := map[string]string{"GET": "fwd=uri-miss", "POST": "fwd=method"}[method]
		if s.StatusCode != 502 || !strings.Contains(s.Header.Get("Cache-Status"), want) {
			t.Errorf("%s: %s, Cache-Status %q", method, s, s.Header.Get("Cache-Status"))
		}
		if q := edgetest.OnlyQuota(t, s.Header); q.R != int64(4-i) {
			t.Errorf("%s: %d left", method, q.R)
		}
	}
}
