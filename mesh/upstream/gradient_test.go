package upstream_test

import (
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// limitedTarget is a target that handles that many requests at once, each for that long. Others wait inside it.
type limitedTarget struct {
	now, peak atomic.Int64 // requests inside
}

func startLimitedTarget(tb testing.TB, places int, takes time.Duration) (url string, inside *limitedTarget) {
	tb.Helper()
	room := make(chan struct{}, places)
	inside = &limitedTarget{}
	return startServer(tb, func(_ http.ResponseWriter, r *http.Request) {
		n := inside.now.Add(1)
		defer inside.now.Add(-1)
		for peak := inside.peak.Load(); n > peak && !inside.peak.CompareAndSwap(peak, n); {
			peak = inside.peak.Load()
		}
		select {
		case room <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		defer func() { <-room }()
		select {
		case <-time.After(takes):
		case <-r.Context().Done():
		}
	}).URL, inside
}

// loadResult is what clients saw.
type loadResult struct {
	good, refused, failed int
	p50, p99              time.Duration // of the answered requests
	rate                  float64       // answered requests per second
}

// offerLoad sends requests for a while, at times that don't depend on the answers.
func offerLoad(t *testing.T, r *rig, perSecond float64, lasts time.Duration) (o loadResult) {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var wait sync.WaitGroup
	begun := time.Now()
	for at := begun; at.Sub(begun) < lasts; at = at.Add(
		time.Duration(rand.ExpFloat64() / perSecond * float64(time.Second))) {
		if d := time.Until(at); d > 0 {
			<-time.After(d)
		}
		wait.Go(func() {
			sent := time.Now()
			resp, err := r.do(t, "GET", "/", "")
			mu.Lock()
			defer mu.Unlock()
			switch {
			case node.CodeOf(err) == node.CodeBusy:
				o.refused++
			case err != nil || resp.Status != 200:
				o.failed++
			default:
				took = append(took, time.Since(sent))
			}
		})
	}
	wait.Wait()
	slices.Sort(took)
	if o.good = len(took); o.good > 0 {
		o.p50, o.p99 = took[o.good/2], took[o.good*99/100]
	}
	o.rate = float64(o.good) / time.Since(begun).Seconds()
	return o
}

// At ten times a target's capacity the adaptive limit lets few requests wait inside it and refuses the others. Without
// a limit all wait inside it. The speed depends on the machine and is only reported; TestGradient shows how the limit
// is found.
func TestAdaptive(t *testing.T) {
	const places, takes = 20, 50 * time.Millisecond
	const capacity = places * float64(time.Second/takes)
	url, inside := startLimitedTarget(t, places, takes)
	cfg := config(url)
	cfg.Timeout, cfg.MaxRequests = node.Duration(time.Second), 10_000
	without := start(t, cfg)
	cfg.Concurrency.Max = node.LimitAuto
	with := start(t, cfg)
	light := offerLoad(t, with, capacity/4, 2*time.Second)
	best := offerLoad(t, with, capacity*0.95, 3*time.Second)
	offerLoad(t, with, capacity*10, time.Second) // until the limit is found
	inside.peak.Store(0)
	crowded := offerLoad(t, with, capacity*10, 3*time.Second)
	most := inside.peak.Swap(0)
	overloaded := offerLoad(t, without, capacity*10, 2*time.Second)
	t.Logf("a quarter of the capacity: %+v", light)
	t.Logf("nearly all of it:          %+v", best)
	t.Logf("ten times, adaptive:       %+v, limit %d", crowded, with.set.Status()[0].Targets[0].Limit)
	t.Logf("ten times, without:        %+v", overloaded)
	t.Logf("at once in the target: %d, without %d; it could answer %.0f a second", most, inside.peak.Load(), capacity)
	if most > 10*places || crowded.good == 0 || crowded.refused == 0 {
		t.Errorf("%d requests at once in a target with %d places: %+v", most, places, crowded)
	}
}

// The limit follows a target without knowing its capacity, a reduced capacity, or a changing latency without load.
func TestGradient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		places, takes := 10, 20*time.Millisecond
		g := upstream.NewGradient(time.Now)
		// serve keeps as many requests in flight as the limit allows, in a target that queues them.
		serve := func(span time.Duration) (mean float64) {
			until, n, sum := time.Now().Add(span), 0, time.Duration(0)
			for time.Now().Before(until) {
				inFlight := int64(g.Limit())
				took := takes * time.Duration(max(inFlight, int64(places))) / time.Duration(places)
				<-time.After(takes / time.Duration(min(inFlight, int64(places)))) // one ends
				g.Observe(took, inFlight)
				n, sum = n+1, sum+took
			}
			return float64(sum) / float64(n) / float64(takes)
		}
		check := func(what string, least, most int, slowest float64) {
			t.Helper()
			mean := serve(5 * time.Second)
			if limit := g.Limit(); limit < least || limit > most || mean > slowest {
				t.Errorf("%s: the limit is %d, want %d to %d; requests take %.2f times the least", what, limit, least,
					most, mean)
			}
			t.Logf("%s: limit %d, %.2f times the least", what, g.Limit(), mean)
		}
		serve(11 * time.Second)
		check("ten places", 10, 14, 1.5)
		places = 3
		serve(11 * time.Second)
		check("three places", 3, 6, 2)
		places = 200
		serve(11 * time.Second)
		check("two hundred places", 195, 260, 1.3)
		places, takes = 10, 40*time.Millisecond
		serve(20 * time.Second)
		check("a slower target", 10, 15, 1.6)
		takes *= 5
		serve(10 * time.Second)
		check("a target that has become five times slower", 10, 15, 1.6)
	})
}

// Streamed responses hold permits for as long as their clients like. The limit is for the other requests.
func TestAdaptiveLimitIgnoresStreams(t *testing.T) {
	app := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})
	cfg := config(app.URL)
	cfg.Concurrency.Max = node.LimitAuto
	r := start(t, cfg)
	for range 30 { // more than the first limit
		resp, err := r.conn.Do(t.Context(), r.conn.Upstream("api"),
			&mesh.Request{Method: "GET", Target: "/events", Host: "h", Deadline: time.Now().Add(20 * time.Second)})
		if err != nil || resp.Stream == nil {
			t.Fatalf("got %+v, %v", resp, err)
		}
		defer resp.Stream.Close()
	}
	for until := time.Now().Add(3 * time.Second); time.Now().Before(until); { // beyond the first probe
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
}

// If earlier requests hold all permits during a probe, the probe ends.
func TestOverdueProbeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := upstream.NewGradient(time.Now)
		for range 200 {
			<-time.After(10 * time.Millisecond)
			g.Observe(10*time.Millisecond, int64(g.Limit()))
		}
		before := g.Limit()
		for range 4000 {
			<-time.After(10 * time.Millisecond)
			g.Observe(10*time.Millisecond, int64(g.Limit()))
			if g.Limit() <= before/2 {
				break
			}
			before = max(before, g.Limit())
		}
		if g.Limit() > before/2 {
			t.Fatal("no probe began")
		}
		if g.EndOverdueProbe() {
			t.Error("the probe is over at once")
		}
		<-time.After(time.Second)
		if !g.EndOverdueProbe() || g.Limit() < before/2 {
			t.Errorf("after a second without an answer the limit is %d, before it was %d", g.Limit(), before)
		}
	})
}

// Refused connections say nothing about a target's latency.
func TestAdaptiveLimitIgnoresRefusedConnections(t *testing.T) {
	app := startServer(t, func(http.ResponseWriter, *http.Request) { <-time.After(5 * time.Millisecond) })
	addr := app.Listener.Addr().String()
	cfg := config(app.URL)
	cfg.Concurrency.Max = node.LimitAuto
	r := start(t, cfg)
	gradient := r.set.Gradients("api")[0]
	_, stop := r.sendContinuously(t, 8, "GET", "", time.Millisecond)
	nodetest.Eventually(t, "the target's latency is known", func() bool { return gradient.Base() > 0 })
	stop()
	app.Close()
	_, _ = r.do(t, "GET", "/", "") // what was in flight may end with it
	limit, base := gradient.Limit(), gradient.Base()
	for range 200 {
		if _, err := r.do(t, "GET", "/", ""); err == nil {
			t.Fatal("a closed target answered")
		}
	}
	if gradient.Limit() != limit || gradient.Base() != base {
		t.Errorf("limit %d and base %s became %d and %s", limit, base, gradient.Limit(), gradient.Base())
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	again := &http.Server{Handler: app.Config.Handler, ReadHeaderTimeout: time.Minute}
	go func() { _ = again.Serve(l) }()
	defer again.Close()
	for range 100 {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
}
