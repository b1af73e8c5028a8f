package ratelimit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// What passes of a number of requests, for limits of all kinds. How they are written is what the configuration takes.
func TestLimitsPassWhatTheyShould(t *testing.T) {
	algorithm := func(a node.Algorithm) func(*node.Limit) { return func(l *node.Limit) { l.Algorithm = a } }
	cost := func(n int) func(*node.Limit) { return func(l *node.Limit) { l.Cost = n } }
	cases := []struct {
		name   string
		limits []node.Limit
		want   int // of 12
	}{
		{"fixed", []node.Limit{edgetest.Per("5/1h")}, 5},
		{"one", []node.Limit{edgetest.Per("1/1h")}, 1},
		{"zero", []node.Limit{edgetest.Per("0/1h")}, 0},
		{"large", []node.Limit{edgetest.Per("2000000000/1h")}, 12},
		{"day", []node.Limit{edgetest.Per("5/day")}, 5},
		{"month", []node.Limit{edgetest.Per("5/month", func(l *node.Limit) { l.Zone = "Europe/Berlin" })}, 5},
		{"clock", []node.Limit{edgetest.Per("5/744h", func(l *node.Limit) { l.Align = node.AlignClock })}, 5},
		{"sliding", []node.Limit{edgetest.Per("5/1h", algorithm(node.AlgorithmSliding))}, 5},
		{"bucket", []node.Limit{edgetest.Per("5/1h", algorithm(node.AlgorithmBucket))}, 5},
		{
			"burst",
			[]node.Limit{edgetest.Per("5/1h", algorithm(node.AlgorithmBucket), func(l *node.Limit) { l.Burst = 7 })},
			7,
		},
		{"flight", []node.Limit{edgetest.InFlight(1)}, 12},
		{"cost", []node.Limit{edgetest.Per("10/1h", cost(3))}, 3},
		{"whole", []node.Limit{edgetest.Per("10/1h", cost(10))}, 1},
		{"two", []node.Limit{edgetest.Per("7/1h"), edgetest.Per("4/1m")}, 4},
		{"swapped", []node.Limit{edgetest.Per("4/1m"), edgetest.Per("7/1h")}, 4},
		{"kinds", []node.Limit{
			edgetest.InFlight(1), edgetest.Per("7/1h", algorithm(node.AlgorithmBucket)),
			edgetest.Per("6/1h", algorithm(node.AlgorithmSliding)), edgetest.Per("8/1h"),
		}, 6},
		{"none", nil, 12},
	}
	var routes []node.Route
	for _, c := range cases {
		routes = append(routes, edgetest.LimitedRoute(c.name, c.limits...))
	}
	r := edgetest.Start(t, edgetest.Limited(routes...))
	for _, c := range cases {
		if got := r.Passes(t, 12, "/"+c.name); got != c.want {
			t.Errorf("%s: %d passed, want %d", c.name, got, c.want)
		}
		if got := r.Passes(t, 12, "/"+c.name, "X-Forwarded-For", "192.0.2.1"); got != c.want {
			t.Errorf("%s: %d of another client passed, want %d", c.name, got, c.want)
		}
	}
}

// A window begins with a client's first request. What is refused doesn't make it longer, and after it requests pass
// again.
func TestWindowBeginsWithTheFirstRequest(t *testing.T) {
	const window = 300 * time.Millisecond
	r := edgetest.Start(t, edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("2/"+window.String()))))
	for range 3 { // windows
		var begun time.Time
		nodetest.Eventually(t, "a window begins", func() bool {
			begun = time.Now()
			return r.Passes(t, 1, "/x") == 1
		})
		passed, refused := 1, 0
		nodetest.Eventually(t, "the next one does", func() bool {
			if r.Passes(t, 1, "/x") == 1 {
				passed++
			} else {
				refused++
			}
			return passed > 2
		})
		if took := time.Since(begun); took < window {
			t.Errorf("the third request passed after %s, with %d refused before", took, refused)
		}
		nodetest.Eventually(t, "that one is used up", func() bool { return r.Passes(t, 1, "/x") == 0 })
	}
}

// Each method counts, and so does each version. Nobody sends a body that is refused.
func TestEachMethodCounts(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("8/1h")),
		edgetest.LimitedRoute("none", edgetest.Per("0/1h"))))
	for i, method := range []string{
		"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PROPFIND", "PURGE", "GET",
		"HEAD", "OPTIONS", "POST",
	} {
		resp, body := r.Do(t, method, "/x", "")
		if (resp.StatusCode == http.StatusTooManyRequests) != (i >= 8) ||
			edgetest.OnlyQuota(t, resp.Header).R != int64(max(7-i, 0)) || (method == "HEAD" && body != "") {
			t.Errorf("request %d, %s: %d %q, %v", i+1, method, resp.StatusCode, body, resp.Header)
		}
	}
	got := r.SendRaw(t,
		"POST /none HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcPOST /none HTTP/1.1\r\nHost: h\r\n"+
			"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nGET /none HTTP/1.0\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 429 ") != 3 || strings.Count(got, "Retry-After: ") != 3 {
		t.Errorf("behind refused bodies: %q", got)
	}
	for _, length := range []int{3, 1 << 30} {
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(c, "POST /none HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n",
			length)
		line := make([]byte, 13)
		if _, err := c.Read(line); err != nil || string(line) != "HTTP/1.1 429 " {
			t.Errorf("a body of %d is answered with %q, %v", length, line, err)
		}
		_ = c.Close()
	}
}

// What doesn't count in the end is given back: by the status that the client gets, wherever it comes from.
func TestSkippedStatusIsGivenBack(t *testing.T) {
	failed := func(l *node.Limit) { l.SkipFailed, l.Max, l.Window = true, 3, node.Window{Length: far} }
	var routes []node.Route
	add := func(name, target string, change ...func(*node.Route)) {
		r := edgetest.LimitedRoute(name, edgetest.Per("failed"))
		r.To.Name = target
		for _, f := range change {
			f(&r)
		}
		routes = append(routes, r)
	}
	add("echo", "echo")
	add("nobody", "nobody")
	add("broken", "broken")
	add("slow", "slow", func(r *node.Route) { r.Timeout = node.Duration(20 * time.Millisecond) })
	add("small", "echo", func(r *node.Route) { r.MaxBody = 10 })
	for name, l := range map[string]node.Limit{
		"successful": edgetest.Per("3/1h", func(l *node.Limit) { l.SkipSuccessful = true }),
		"sliding": edgetest.Per("3/1h", func(l *node.Limit) {
			l.Algorithm, l.SkipFailed = node.AlgorithmSliding, true
		}),
		"bucket": edgetest.Per("3/1h", func(l *node.Limit) {
			l.Algorithm, l.SkipFailed = node.AlgorithmBucket, true
		}),
		"dear": edgetest.Per("9/1h", func(l *node.Limit) { l.Cost, l.SkipFailed = 3, true }),
	} {
		routes = append(routes, edgetest.LimitedRoute(name, l))
	}
	r := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{Named: map[string]node.Limit{"failed": edgetest.Per("3/1h", failed)}},
		Routes: routes,
	})
	r.Service(t, "slow", func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if _, err := r.Conn.NATS().QueueSubscribe("http.broken", "q", func(m *nats.Msg) {
		_ = m.Respond([]byte("rubbish"))
	}); err != nil {
		t.Fatal(err)
	}
	want := func(path, body string, status int, left int64, header ...string) {
		t.Helper()
		resp, got := r.Do(t, "POST", path, body, header...)
		if resp.StatusCode != status ||
			(resp.Header.Get("RateLimit") != "" && edgetest.OnlyQuota(t, resp.Header).R != left) {
			t.Errorf("%s %q: %d with %s, want %d with r=%d: %s", path, header, resp.StatusCode,
				resp.Header.Get("RateLimit"), status, left, got)
		}
	}
	want("/echo", "", 200, 2)
	for _, status := range []int{400, 401, 404, 429, 499, 500, 503, 599} {
		want("/echo", "", status, 2, "X-Status", strconv.Itoa(status))
	}
	for _, c := range []struct {
		path   string
		status int
	}{{"/nobody", 503}, {"/broken", 502}, {"/slow", 504}, {"/small", 413}} {
		for range 3 {
			want(c.path, "more than ten bytes", c.status, 2)
		}
	}
	want("/echo", "", 204, 1, "X-Status", "204")
	want("/echo", "", 304, 0, "X-Status", "304")
	want("/echo", "", 429, 0)
	want("/echo", "", 429, 0, "X-Status", "500") // it didn't come so far

	for range 5 {
		want("/successful", "", 200, 3)
	}
	for left := range int64(3) {
		want("/successful", "", 404, 2-left, "X-Status", "404")
	}
	want("/successful", "", 429, 0)
	for _, name := range []string{"sliding", "bucket", "dear"} {
		for range 5 {
			resp, _ := r.Do(t, "GET", "/"+name, "", "X-Status", "500")
			if q := edgetest.OnlyQuota(t, resp.Header); resp.StatusCode != 500 || q.R != q.Q {
				t.Errorf("%s: %d with %+v", name, resp.StatusCode, q)
			}
		}
		if n := r.Passes(t, 5, "/"+name); n != 3 {
			t.Errorf("%s: %d passed, want 3", name, n)
		}
	}
}

// A client that goes away has failed.
func TestClientThatGoesAwayHasFailed(t *testing.T) {
	gone := edgetest.LimitedRoute("gone", edgetest.Per("2/1h", func(l *node.Limit) { l.SkipFailed = true }))
	gone.To.Name = "wait"
	r := edgetest.Start(t, edgetest.Limited(gone))
	entered := make(chan struct{})
	r.Service(t, "wait", func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		entered <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	})
	for range 4 {
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprint(c, "GET /gone HTTP/1.1\r\nHost: h\r\n\r\n")
		<-entered
		_ = c.Close()
		edgetest.WaitSpent(t, r.Limiter, "gone", "127.0.0.1", 0)
	}
}

// Limits side by side: what one refuses doesn't count in those before it, and is never asked of those behind it. Routes
// that use one limit share it.
func TestRefusedRequestCountsInNoLimit(t *testing.T) {
	named := map[string]node.Limit{
		"everybody": edgetest.Per("5/1h", edgetest.By("all")),
		"tenant":    edgetest.Per("2/1h", edgetest.By("header:X-Tenant")),
	}
	dear := edgetest.Per("everybody", func(l *node.Limit) { l.Cost = 4 })
	r := edgetest.Start(t, edgetest.Config{Limits: &edgetest.LimitsConfig{Named: named}, Routes: []node.Route{
		edgetest.LimitedRoute("a", edgetest.Per("everybody"), edgetest.Per("tenant")),
		edgetest.LimitedRoute("b", edgetest.Per("everybody")),
		edgetest.LimitedRoute("dear", dear),
	}})
	if n := r.Passes(t, 10, "/a", "X-Tenant", "t1"); n != 2 {
		t.Errorf("%d passed, want 2", n)
	}
	edgetest.WaitSpent(t, r.Limiter, "everybody", "", 2)
	edgetest.WaitSpent(t, r.Limiter, "tenant", "t1", 2)
	if n := r.Passes(t, 1, "/dear"); n != 0 {
		t.Error("what costs more than is left passed")
	}
	edgetest.WaitSpent(t, r.Limiter, "everybody", "", 2)
	if n := r.Passes(t, 1, "/b") + r.Passes(t, 1, "/a", "X-Tenant", "t2") + r.Passes(t, 1, "/b"); n != 3 {
		t.Errorf("%d of the other 3 passed", n)
	}
	if n := r.Passes(t, 5, "/a", "X-Tenant", "t3"); n != 0 {
		t.Errorf("%d passed beyond the first limit", n)
	}
	edgetest.WaitSpent(t, r.Limiter, "tenant", "t3", 0)
}

// A shadow limit counts and tells observers, and that is all.
func TestShadowLimitRefusesNobody(t *testing.T) {
	shadow := func(l *node.Limit) { l.Shadow = true }
	r := edgetest.Start(t, edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("2/1h", shadow)),
		edgetest.LimitedRoute("flight", edgetest.InFlight(1, shadow))))
	events := make(chan *nats.Msg, 100)
	if _, err := r.Conn.NATS().ChanSubscribe("event.limit.x", events); err != nil {
		t.Fatal(err)
	}
	for range 12 {
		resp, _ := r.Do(t, "GET", "/x", "")
		if got := edgetest.LimitFields(t, resp.Header); resp.StatusCode != 200 || len(got) > 0 {
			t.Errorf("got %d with %v", resp.StatusCode, got)
		}
	}
	if s := r.LimitStats("x"); s.Allowed != 2 || s.Denied != 10 || s.Shadowed != 10 {
		t.Errorf("counted %+v", s)
	}
	var e struct{ Shadow bool }
	if err := json.Unmarshal((<-events).Data, &e); err != nil || !e.Shadow {
		t.Errorf("the event is %+v, %v", e, err)
	}
	if n := r.Passes(t, 3, "/flight"); n != 3 {
		t.Errorf("%d passed a shadow limit on requests in flight", n)
	}
}

// While the store is away: what the node holds is spent, and then it is as the limit says.
func TestLimitWithoutItsStoreDoesAsItSays(t *testing.T) {
	open := func(l *node.Limit) { l.StoreAway = node.StoreAwayOpen }
	routes := []node.Route{
		edgetest.LimitedRoute("closed", edgetest.Per("1000/1h")),
		edgetest.LimitedRoute("open", edgetest.Per("1000/1h", open)),
		edgetest.LimitedRoute("shadow", edgetest.Per("1000/1h", func(l *node.Limit) {
			l.Shadow = true
		})),
		edgetest.LimitedRoute("flight", edgetest.InFlight(2)),
		edgetest.LimitedRoute("flight-open", edgetest.InFlight(2, open)),
		edgetest.LimitedRoute("both", edgetest.Per("1000/1h", open, func(l *node.Limit) { l.Name = "both-open" }),
			edgetest.Per("1000/1h")),
		edgetest.LimitedRoute("share", edgetest.Per("1000/1h", func(l *node.Limit) {
			l.Align, l.StoreAway = node.AlignClock, node.StoreAwayShare
		})),
		edgetest.LimitedRoute("queue", edgetest.Per("1000/1h", func(l *node.Limit) { l.Mode = node.LimitModeQueue })),
	}
	check := func(r *edgetest.Rig) {
		t.Helper()
		for path, want := range map[string]int{
			"closed": 503, "open": 200, "shadow": 200, "flight": 503,
			"flight-open": 200, "both": 503, "share": 503, "queue": 503,
		} {
			resp, body := r.Do(t, "GET", "/"+path, "")
			got := edgetest.LimitFields(t, resp.Header)
			if resp.StatusCode != want || resp.Header.Get("RateLimit") != "" ||
				(want == 503) != (got["Retry-After"] == "1") {
				t.Errorf("%s: got %d %s with %v", path, resp.StatusCode, body, got)
			}
			var p edgetest.Problem
			if want == 503 && (json.Unmarshal([]byte(body), &p) != nil || p.Code != "unavailable" ||
				p.RequestID == "") {
				t.Errorf("%s: got %s", path, body)
			}
			if s := r.LimitStats(strings.Replace(path, "both", "both-open", 1)); s.Away == 0 {
				t.Errorf("%s: counted %+v", path, s)
			}
		}
	}
	never := edgetest.Start(t, edgetest.Config{Limits: &edgetest.LimitsConfig{Away: true}, Routes: routes})
	check(never)

	r := edgetest.Start(t, edgetest.Config{Limits: &edgetest.LimitsConfig{Apart: true}, Routes: routes})
	for _, path := range []string{"closed", "open"} {
		if n := r.Passes(t, 1, "/"+path); n != 1 {
			t.Fatalf("%s: nothing passes", path)
		}
	}
	r.CloseLimits()
	resp, _ := r.Do(t, "GET", "/closed", "")
	if resp.StatusCode != 200 || edgetest.OnlyQuota(t, resp.Header).R != 998 {
		t.Errorf("with permits of before: %d, %q", resp.StatusCode, resp.Header.Get("RateLimit"))
	}
	nodetest.Eventually(t, "the permits are used up", func() bool {
		resp, _ := r.Do(t, "GET", "/closed", "")
		return resp.StatusCode == 503
	})
	nodetest.Eventually(t, "those of the other are too", func() bool {
		resp, _ := r.Do(t, "GET", "/open", "")
		return resp.StatusCode == 200 && resp.Header.Get("RateLimit") == ""
	})
	check(r)
}

// A reload keeps what was counted, and what limits have now holds at once.
func TestReloadKeepsWhatWasCounted(t *testing.T) {
	r := edgetest.Start(t, edgetest.Limited(edgetest.LimitedRoute("x", edgetest.Per("3/1h"))))
	if n := r.Passes(t, 5, "/x"); n != 3 {
		t.Errorf("%d passed, want 3", n)
	}
	reload := func(routes ...node.Route) {
		cfg := node.Default().Edge
		cfg.TrustedProxies = edgetest.Prefixes("127.0.0.0/8")
		r.Limiter.SetRules(edgetest.LimitRules(nil, routes))
		r.SetRoutes(cfg, routes)
	}
	reload(edgetest.LimitedRoute("x", edgetest.Per("3/1h", edgetest.HeaderForm(node.HeaderLegacy))))
	resp, _ := r.Do(t, "GET", "/x", "")
	if got := edgetest.LimitFields(t, resp.Header); resp.StatusCode != 429 || got["X-RateLimit-Limit"] != "3" {
		t.Errorf("with other fields: %d, %v", resp.StatusCode, got)
	}
	reload(edgetest.LimitedRoute("x", edgetest.Per("5/2h")))
	if n := r.Passes(t, 6, "/x"); n != 5 {
		t.Errorf("with another window %d passed, want 5", n)
	}
	reload(edgetest.LimitedRoute("x"))
	if n := r.Passes(t, 6, "/x"); n != 6 || r.Limits() {
		t.Errorf("without a limit %d passed, want 6", n)
	}
}
