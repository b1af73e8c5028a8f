package upstream_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// app is a target that counts its requests and answers as configured.
type app struct {
	url    string
	got    atomic.Int64
	status atomic.Int64
}

func newApp(tb testing.TB, status int) *app {
	tb.Helper()
	a := &app{}
	a.status.Store(int64(status))
	a.url = startServer(tb, func(w http.ResponseWriter, _ *http.Request) {
		a.got.Add(1)
		w.WriteHeader(int(a.status.Load()))
	}).URL
	return a
}

func apps(tb testing.TB, statuses ...int) (all []*app, cfg node.Upstream) {
	tb.Helper()
	var urls []string
	for _, status := range statuses {
		a := newApp(tb, status)
		all, urls = append(all, a), append(urls, a.url)
	}
	return all, config(urls...)
}

func sum(all []*app) (n int64) {
	for _, a := range all {
		n += a.got.Load()
	}
	return n
}

// A status that means a failing target is retried elsewhere, if the request may run twice. A status that means a wrong
// request isn't.
func TestRetriesServerErrors(t *testing.T) {
	key := mesh.Field{Name: "Idempotency-Key", Value: `"8e03978e"`}
	for name, tc := range map[string]struct {
		method   string
		status   int
		header   []mesh.Field
		keyed    bool
		on       node.Statuses
		repeated bool
	}{
		"GET 503":                {method: "GET", status: 503, repeated: true},
		"GET 504":                {method: "GET", status: 504, repeated: true},
		"PUT 502":                {method: "PUT", status: 502, repeated: true},
		"GET 500":                {method: "GET", status: 500},
		"GET 500, by option":     {method: "GET", status: 500, on: node.Statuses{500}, repeated: true},
		"GET 503, by option not": {method: "GET", status: 503, on: node.Statuses{500}},
		"GET 429":                {method: "GET", status: 429},
		"GET 501":                {method: "GET", status: 501},
		"GET 404":                {method: "GET", status: 404},
		"POST 503":               {method: "POST", status: 503},
		"POST 503, key":          {method: "POST", status: 503, header: []mesh.Field{key}},
		"POST 503, key believed": {method: "POST", status: 503, header: []mesh.Field{key}, keyed: true, repeated: true},
		"POST 503, no key":       {method: "POST", status: 503, keyed: true},
	} {
		t.Run(name, func(t *testing.T) {
			all, cfg := apps(t, tc.status, 200)
			cfg.Eject.Failures, cfg.Retry.IdempotencyKey = 0, tc.keyed
			if tc.on != nil {
				cfg.Retry.On = tc.on
			}
			r := start(t, cfg)
			const requests = 20 // as many as the budget allows to repeat, if half of them fail
			bad := 0
			for range requests {
				resp, err := r.do(t, tc.method, "/", "", tc.header...)
				if err != nil {
					t.Fatal(err)
				}
				if resp.Status != 200 {
					bad++
				}
			}
			extra := sum(all) - requests
			switch {
			case tc.repeated && extra == 0:
				t.Error("nothing was repeated")
			case tc.repeated && int64(bad) != all[0].got.Load()-extra:
				t.Errorf("%d answers are bad: the failing target had %d requests, %d were repeated", bad,
					all[0].got.Load(), extra)
			case !tc.repeated && extra != 0:
				t.Errorf("%d requests arrived %d times", requests, sum(all))
			case !tc.repeated && int64(bad) != all[0].got.Load():
				t.Errorf("%d of %d bad answers came back", bad, all[0].got.Load())
			}
		})
	}
}

// A 500 may be a bug in one handler, and a 429 a client that asks too much: neither ejects a target unless configured.
func TestStatusesThatEject(t *testing.T) {
	for name, tc := range map[string]struct {
		status int
		on     node.Statuses
		ejects bool
	}{
		"500": {status: 500}, "500 by option": {status: 500, on: node.Statuses{500, 503}, ejects: true},
		"429": {status: 429}, "501": {status: 501},
		"502": {status: 502, ejects: true}, "503": {status: 503, ejects: true}, "504": {status: 504, ejects: true},
		"503 by option not": {status: 503, on: node.Statuses{}},
	} {
		t.Run(name, func(t *testing.T) {
			all, cfg := apps(t, tc.status, 200)
			cfg.Retry.Tries = 1
			if tc.on != nil {
				cfg.Eject.On = tc.on
			}
			r := start(t, cfg)
			ejected := false
			for range 100 {
				if _, err := r.do(t, "GET", "/", ""); err != nil {
					t.Fatal(err)
				}
				ejected = ejected || r.state(all[0].url) == "resting"
			}
			if ejected != tc.ejects {
				t.Errorf("the target with status %d rested: %t, want %t", tc.status, ejected, tc.ejects)
			}
		})
	}
}

// When all targets that aren't ejected fail, ejected ones are used as well.
func TestAllTargetsFailing(t *testing.T) {
	all, cfg := apps(t, 503, 503, 503, 503)
	cfg.Retry.Tries = 1
	r := start(t, cfg)
	for range 100 {
		if _, err := r.do(t, "GET", "/", ""); err != nil {
			t.Fatal(err)
		}
	}
	before := sum(all)
	counts := make([]int64, len(all))
	for i, a := range all {
		counts[i] = a.got.Load()
	}
	for range 200 {
		if _, err := r.do(t, "GET", "/", ""); err != nil {
			t.Fatal(err)
		}
	}
	for i, a := range all {
		if share := a.got.Load() - counts[i]; share*10 < sum(all)-before {
			t.Errorf("one of four targets that all fail had %d of %d requests", share, sum(all)-before)
		}
	}
}

// When all targets fail, extra tries stay within the budget. A request that was sent again already gets none.
func TestRetryBudget(t *testing.T) {
	all, cfg := apps(t, 503, 503, 503)
	r := start(t, cfg)
	const requests = 500
	for range requests {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 503 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	const most = requests/5 + 10
	extra := sum(all) - requests
	if extra > most || extra < most/2 {
		t.Errorf("%d tries on top of %d requests, want at most %d and not much less", extra, requests, most)
	}
	if s := r.set.Status()[0]; int64(s.Retries) != extra || s.Unpaid == 0 {
		t.Errorf("the status tells of %d retries and %d denied ones, want %d and some", s.Retries, s.Unpaid, extra)
	}
	none, cfg := apps(t, 503, 503)
	cfg.Retry.Budget = 0
	r = start(t, cfg)
	for range 10 {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 503 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	if sum(none) != 10 {
		t.Errorf("without a budget 10 requests were tried %d times", sum(none))
	}
	again, cfg := apps(t, 503, 503)
	r = start(t, cfg)
	resp, err := r.conn.Do(t.Context(), r.conn.Upstream("api"), &mesh.Request{
		Method: "GET", Target: "/", Host: "h", Again: true, Deadline: time.Now().Add(20 * time.Second),
	})
	if err != nil || resp.Status != 503 || sum(again) != 1 {
		t.Errorf("a request that was sent before was tried %d times: %v, %v", sum(again), resp, err)
	}
}

// Failing targets are ejected, but no more of them than allowed, and a single target never is.
func TestEjectsAtMost(t *testing.T) {
	for name, tc := range map[string]struct{ targets, most, failures, want int }{
		"half of four":     {4, 50, 3, 2},
		"at least one":     {4, 0, 3, 1},
		"all":              {4, 100, 3, 4},
		"the only one":     {1, 100, 3, 0},
		"failures ignored": {4, 100, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			statuses := make([]int, tc.targets)
			for i := range statuses {
				statuses[i] = 503
			}
			_, cfg := apps(t, statuses...)
			cfg.Eject.Most, cfg.Eject.Failures, cfg.Eject.Rate = tc.most, tc.failures, 0
			r := start(t, cfg)
			most := 0
			for range 50 {
				if _, err := r.do(t, "GET", "/", ""); err != nil {
					t.Fatal(err)
				}
				ejected := 0
				for _, target := range r.set.Status()[0].Targets {
					if target.State == "resting" {
						ejected++
					}
				}
				most = max(most, ejected)
			}
			if most != tc.want {
				t.Errorf("%d of %d targets rested, want %d", most, tc.targets, tc.want)
			}
		})
	}
}

// A returning target begins with a tenth of its share, and has all of it after the slow start.
func TestSlowStart(t *testing.T) {
	const slow = 10 * time.Second
	for _, tc := range []struct {
		since time.Duration
		want  int
	}{
		{0, 300},
		{500 * time.Millisecond, 300},
		{5 * time.Second, 1500},
		{9 * time.Second, 2700},
		{10 * time.Second, 3000},
		{time.Hour, 3000},
	} {
		if got := upstream.ShareAfter(3, tc.since, slow); got != tc.want {
			t.Errorf("%s after its return a target of weight 3 has a share of %d, want %d", tc.since, got, tc.want)
		}
	}
	if got := upstream.ShareAfter(3, time.Second, 0); got != 3000 {
		t.Errorf("without a slow start the share is %d", got)
	}
}

// When too few targets pass their health checks, all are used.
func TestHealthPanic(t *testing.T) {
	var urls []string
	var got [4]atomic.Int64
	for i := range got {
		urls = append(urls, startServer(t, func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path != "/health":
				got[i].Add(1)
			case i > 0:
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}).URL)
	}
	for _, below := range []int{0, 50} {
		cfg := config(urls...)
		var h node.Health
		h.Defaults()
		h.Path, h.Interval, h.Panic = "/health", node.Duration(10*time.Millisecond), below
		cfg.Health = &h
		r := start(t, cfg)
		nodetest.Eventually(t, "three targets are down", func() bool {
			down := 0
			for _, url := range urls {
				if r.state(url) == "down" {
					down++
				}
			}
			return down == 3
		})
		for i := range got {
			got[i].Store(0)
		}
		for range 100 {
			if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
				t.Fatalf("got %+v, %v", resp, err)
			}
		}
		if others := got[1].Load() + got[2].Load() + got[3].Load(); (others > 0) != (below > 0) {
			t.Errorf("panic below %d %%: targets that are down got %d of 100 requests", below, others)
		}
	}
}

// A hanging target costs a request the time of one try.
func TestTryTimeout(t *testing.T) {
	hang, _ := hangingTarget(t)
	good := newApp(t, 200)
	cfg := config(hang, good.url)
	cfg.Timeout, cfg.Retry.TryTimeout = node.Duration(15*time.Second), node.Duration(50*time.Millisecond)
	r := start(t, cfg)
	for range 20 {
		began := time.Now()
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 || time.Since(began) > 5*time.Second {
			t.Fatalf("got %+v, %v after %s", resp, err, time.Since(began))
		}
	}
	nodetest.Eventually(t, "the target that hangs rests", func() bool {
		_, _ = r.do(t, "GET", "/", "")
		return r.state(hang) == "resting"
	})
}

// A try that no other may follow isn't cut short.
func TestTryWithoutSuccessorIsNotCutShort(t *testing.T) {
	one, _ := slowTarget(t)
	two, _ := slowTarget(t)
	for name, tc := range map[string]struct {
		urls   []string
		budget int
		again  bool
	}{
		"the only target": {[]string{one}, 20, false}, "no budget": {[]string{one, two}, 0, false},
		"sent before": {[]string{one, two}, 20, true},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(tc.urls...)
			cfg.Retry.TryTimeout, cfg.Retry.Budget = node.Duration(5*time.Millisecond), tc.budget
			r := start(t, cfg)
			resp, err := r.conn.Do(t.Context(), r.conn.Upstream("api"),
				&mesh.Request{
					Method: "GET", Target: "/", Host: "h", Again: tc.again,
					Deadline: time.Now().Add(20 * time.Second),
				})
			if err != nil || resp.Status != 200 {
				t.Errorf("got %+v, %v", resp, err)
			}
		})
	}
}

// Failures of requests from before an ejection don't prolong it.
func TestFailuresFromBeforeEjection(t *testing.T) {
	var sick atomic.Bool
	sick.Store(true)
	hold := make(chan struct{})
	var entered atomic.Int64
	flaky := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/wait" {
			entered.Add(1)
			<-hold
		}
		if sick.Load() || r.URL.Path == "/wait" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	cfg := config(flaky.URL, newApp(t, 200).url)
	cfg.Targets[0].Weight, cfg.Eject.SlowStart, cfg.Retry.Tries = 1000, 0, 1
	r := start(t, cfg)
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() { _, _ = r.do(t, "POST", "/wait", "x") }) // fails in the end
	}
	nodetest.Eventually(t, "most wait", func() bool { return entered.Load() >= 10 })
	nodetest.Eventually(t, "it rests", func() bool {
		_, _ = r.do(t, "GET", "/", "")
		return r.state(flaky.URL) == "resting"
	})
	sick.Store(false)
	nodetest.Eventually(t, "it is back", func() bool {
		_, _ = r.do(t, "GET", "/", "")
		return r.state(flaky.URL) == "up"
	})
	close(hold)
	waiting.Wait()
	if s := r.set.Status()[0].Targets[0]; s.Ejected != 1 || s.State != "up" {
		t.Errorf("it is %s after %d rests", s.State, s.Ejected)
	}
}

// An impatient client says nothing about a target that answers others.
func TestImpatientClientsEjectNoTarget(t *testing.T) {
	slow := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/report" {
			<-time.After(100 * time.Millisecond)
		}
	})
	cfg := config(slow.URL, newApp(t, 200).url)
	cfg.Targets[0].Weight = 1000
	r := start(t, cfg)
	for range 10 {
		_, err := r.conn.Do(t.Context(), r.conn.Upstream("api"),
			&mesh.Request{
				Method: "POST", Target: "/report", Host: "h",
				Deadline: time.Now().Add(20 * time.Millisecond),
			})
		wantCode(t, err, node.CodeTimeout)
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	if state := r.state(slow.URL); state != "up" {
		t.Errorf("it is %s", state)
	}
}

// badDay returns how long TestBadDay takes, and how often the flapping target changes.
func badDay(t *testing.T) (lasts, flap time.Duration) {
	t.Helper()
	text := os.Getenv("BADDAY_SECONDS")
	if text == "" {
		return 3 * time.Second, 500 * time.Millisecond
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(n) * time.Second, 2 * time.Second
}

// One of four targets answers errors, another hangs, and a third flaps. Clients with repeatable requests see almost
// nothing of it. Other requests never run twice. When all is well again, the load is balanced again.
//
// BADDAY_SECONDS sets the length, with a target that flaps every two seconds.
func TestBadDay(t *testing.T) {
	lasts, flap := badDay(t)
	var bad atomic.Bool
	var posts sync.Map // by path
	began := time.Now()
	var got [4]atomic.Int64
	var urls []string
	for i := range got {
		urls = append(urls, startServer(t, func(w http.ResponseWriter, r *http.Request) {
			got[i].Add(1)
			_, _ = io.Copy(io.Discard, r.Body) // net/http notices that a client left only after it has read the body
			if _, twice := posts.LoadOrStore(r.URL.Path, i); twice && r.Method == http.MethodPost {
				t.Errorf("%s was run twice", r.URL.Path)
			}
			switch {
			case !bad.Load():
			case i == 0, i == 2 && time.Since(began)/flap%2 == 0:
				w.WriteHeader(http.StatusServiceUnavailable)
			case i == 1:
				<-r.Context().Done()
			}
		}).URL)
	}
	cfg := config(urls...)
	// other settings are the defaults
	cfg.Retry.TryTimeout, cfg.Eject.SlowStart = node.Duration(200*time.Millisecond), node.Duration(500*time.Millisecond)
	r := start(t, cfg)
	var sent, failed, n atomic.Int64
	var mu sync.Mutex
	load := func(lasts time.Duration) (p99 time.Duration) {
		until := time.Now().Add(lasts)
		var clients sync.WaitGroup
		var took []time.Duration
		for range 8 {
			clients.Go(func() {
				for time.Now().Before(until) {
					id := n.Add(1)
					if id%20 == 0 {
						_, _ = r.do(t, "POST", fmt.Sprintf("/post/%d", id), "x") // may fail
						continue
					}
					sent.Add(1)
					asked := time.Now()
					if resp, err := r.do(t, "GET", "/get", ""); err != nil || resp.Status != 200 {
						failed.Add(1)
					}
					mu.Lock()
					took = append(took, time.Since(asked))
					mu.Unlock()
				}
			})
		}
		clients.Wait()
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	load(200 * time.Millisecond)
	healthy := load(time.Second)
	bad.Store(true)
	load(time.Second)
	first, before := failed.Swap(0), r.set.Status()[0].Retries
	sent.Store(0)
	p99 := load(lasts)
	retries := r.set.Status()[0].Retries - before
	t.Logf("%d of %d requests failed, %d in the first second; p99 %s, healthy %s; targets had %d, %d, %d, %d; %d "+
		"retries", failed.Load(), sent.Load(), first,
		p99, healthy, got[0].Load(), got[1].Load(), got[2].Load(), got[3].Load(), retries)
	if most := sent.Load()/5 + 10; int64(retries) > most {
		t.Errorf("%d retries of %d requests, want at most %d", retries, sent.Load(), most)
	}
	if failed.Load()*1000 > sent.Load() {
		t.Errorf("%d of %d requests failed", failed.Load(), sent.Load())
	}
	bad.Store(false)
	even := func() bool { // all targets are back and have their whole share
		load(100 * time.Millisecond)
		var before [4]int64
		for i := range got {
			before[i] = got[i].Load()
		}
		load(500 * time.Millisecond)
		least, most := got[0].Load()-before[0], int64(0)
		for i := range got {
			least, most = min(least, got[i].Load()-before[i]), max(most, got[i].Load()-before[i])
		}
		return least*10 >= most*9
	}
	returned := time.Now()
	for until := time.Now().Add(2 * time.Minute); !even(); { // an ejection lasts up to half a minute
		if time.Now().After(until) {
			t.Fatal("the load isn't even again")
		}
	}
	t.Logf("even again %s after all returned", time.Since(returned))
}
