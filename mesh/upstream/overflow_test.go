package upstream_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// slowTarget answers after 20 ms, so that a few clients bring it to its limit.
func slowTarget(tb testing.TB) (url string, got *atomic.Int64) {
	tb.Helper()
	got = &atomic.Int64{}
	return startServer(tb, func(http.ResponseWriter, *http.Request) {
		got.Add(1)
		<-time.After(20 * time.Millisecond)
	}).URL, got
}

// runClients runs that many clients at once, each of which calls f that many times.
func runClients(clients, times int, f func()) {
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for range times {
				f()
			}
		})
	}
	all.Wait()
}

// limitedConfig is a configuration whose targets take two requests at once. Others wait.
func limitedConfig(urls ...string) node.Upstream {
	cfg := config(urls...)
	cfg.Concurrency.Max, cfg.Concurrency.MaxQueue, cfg.Concurrency.MaxWait = 2, 1000, node.Duration(20*time.Second)
	return cfg
}

// Requests that find the healthy targets at their limits wait, and don't go to an ejected one, which always has
// capacity.
func TestOverflowAvoidsEjectedTargets(t *testing.T) {
	bad := newApp(t, 503)
	good, _ := slowTarget(t)
	cfg := limitedConfig(bad.url, good)
	cfg.Eject.Failures = 1
	r := start(t, cfg)
	for r.state(bad.url) != "resting" {
		_, _ = r.do(t, "POST", "/", "x") // fails where it must
	}
	before := bad.got.Load()
	runClients(6, 5, func() { // 300 ms; the shortest ejection is 750 ms
		if resp, err := r.do(t, "POST", "/", "x"); r.state(bad.url) == "resting" && (err != nil || resp.Status != 200) {
			t.Errorf("got %+v, %v", resp, err)
		}
	})
	if got := bad.got.Load() - before; r.state(bad.url) == "resting" && got > 0 {
		t.Errorf("the resting target had %d requests", got)
	}
}

// Nor do they go to a canary, unless they are for one.
func TestOverflowAvoidsCanary(t *testing.T) {
	stable, _ := slowTarget(t)
	canary, got := slowTarget(t)
	cfg := limitedConfig(stable, canary)
	cfg.Targets[1].Canary = true
	cfg.Canary = &node.Canary{Percent: 1, Header: "X-Canary"}
	r := start(t, cfg)
	runClients(6, 5, func() {
		if resp, err := r.do(t, "GET", "/", "", mesh.Field{Name: "X-Canary", Value: "never"}); err != nil ||
			resp.Status != 200 {
			t.Errorf("got %+v, %v", resp, err)
		}
	})
	if got.Load() > 0 {
		t.Errorf("the canary had %d requests that avoid it", got.Load())
	}
}

// A retry waits for capacity too.
func TestRetryWaitsForCapacity(t *testing.T) {
	bad := newApp(t, 503)
	good, _ := slowTarget(t)
	cfg := limitedConfig(bad.url, good)
	cfg.Eject.Failures, cfg.Eject.Rate, cfg.Retry.Budget = 0, 0, 100
	r := start(t, cfg)
	runClients(6, 5, func() {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Errorf("got %+v, %v", resp, err)
		}
	})
}

// hangingTarget answers only after free was called.
func hangingTarget(tb testing.TB) (url string, free func()) {
	tb.Helper()
	hold := make(chan struct{})
	url = startServer(tb, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			return
		}
		select {
		case <-hold:
		case <-r.Context().Done():
		}
	}).URL
	free = sync.OnceFunc(func() { close(hold) })
	tb.Cleanup(free)
	return url, free
}

// Waiting requests get a target that a reload adds, or that passes its health check again, though no permit was
// returned.
func TestWaitingRequestsUseNewTargets(t *testing.T) {
	var healthy atomic.Bool
	sick := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" && !healthy.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}).URL
	for name, come := range map[string]func(r *rig, cfg node.Upstream){
		"reload": func(r *rig, cfg node.Upstream) {
			cfg.Targets = append(append([]node.UpstreamTarget(nil), cfg.Targets...),
				node.UpstreamTarget{URL: node.BaseURL(newApp(t, 200).url), Weight: 1})
			if err := r.set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}); err != nil {
				t.Error(err)
			}
		},
		"health": func(*rig, node.Upstream) { healthy.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			url, free := hangingTarget(t)
			cfg := limitedConfig(url, sick)
			var h node.Health
			h.Defaults()
			h.Path, h.Interval = "/health", node.Duration(20*time.Millisecond)
			cfg.Health, cfg.Concurrency.Max = &h, 1
			r := start(t, cfg)
			nodetest.Eventually(t, "one target is down", func() bool { return r.state(sick) == "down" })
			var first, others sync.WaitGroup
			first.Go(func() { _, _ = r.do(t, "POST", "/", "x") }) // it holds the only permit
			nodetest.Eventually(t, "the place is taken", func() bool {
				return r.set.Status()[0].Targets[0].InFlight == 1
			})
			for range 3 {
				others.Go(func() {
					if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
						t.Errorf("got %+v, %v", resp, err)
					}
				})
			}
			nodetest.Eventually(t, "three wait", func() bool { return r.set.Status()[0].Waiting == 3 })
			come(r, cfg)
			others.Wait()
			free()
			first.Wait()
			healthy.Store(false)
		})
	}
}

// A request that fails after a reload is retried at the new targets.
func TestRetriesUseNewTargets(t *testing.T) {
	hold := make(chan struct{})
	var entered atomic.Int64
	first := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		entered.Add(1)
		<-hold
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	removed, added := newApp(t, 200), newApp(t, 200)
	cfg := config(first.URL, removed.url)
	cfg.Targets[0].Weight = 1000
	r := start(t, cfg)
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
				t.Errorf("got %+v, %v", resp, err)
			}
		})
	}
	nodetest.Eventually(t, "all wait for an answer", func() bool {
		return entered.Load()+removed.got.Load() == 5
	})
	before := removed.got.Load()
	if err := r.set.Apply(t.Context(), map[string]node.Upstream{"api": config(added.url)}); err != nil {
		t.Fatal(err)
	}
	close(hold)
	all.Wait()
	if removed.got.Load() != before || added.got.Load() != entered.Load() {
		t.Errorf("the removed target had %d requests after the reload, the added one %d of %d",
			removed.got.Load()-before, added.got.Load(), entered.Load())
	}
}

// A reload of the health check keeps the targets' state.
func TestHealthReloadKeepsState(t *testing.T) {
	var got atomic.Int64
	down := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			got.Add(1)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	cfg := config(down.URL, newApp(t, 200).url)
	health := func(every time.Duration) *node.Health {
		var h node.Health
		h.Defaults()
		h.Path, h.Interval = "/health", node.Duration(every)
		return &h
	}
	cfg.Health = health(20 * time.Millisecond)
	r := start(t, cfg)
	nodetest.Eventually(t, "it is down", func() bool { return r.state(down.URL) == "down" })
	cfg.Health, cfg.ConnectTimeout = health(time.Minute), node.Duration(3*time.Second)
	if err := r.set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if resp, err := r.do(t, "POST", "/", "x"); err != nil || resp.Status != 200 {
			t.Errorf("got %+v, %v", resp, err)
		}
	}
	if got.Load() > 0 {
		t.Errorf("the target that is down had %d requests", got.Load())
	}
	cfg.Health = nil
	if err := r.set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}); err != nil {
		t.Fatal(err)
	}
	if state := r.state(down.URL); state == "down" {
		t.Error("without health checks a target is still down, and nobody would find out that it is up")
	}
}
