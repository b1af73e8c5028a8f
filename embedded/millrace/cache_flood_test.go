package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// floodSet is a working set that clients keep reading, and how many of their requests were hits.
type floodSet struct {
	node            *cacheNode
	asked, hit, bad atomic.Int64
	running         sync.WaitGroup
	stop            chan struct{}
}

// The working set is far smaller than the memory, so only the flood could evict it.
const (
	floodKeys  = 400
	floodBody  = 4 << 10
	floodLarge = 32 << 10 // size of the responses of the flood
)

// startSet starts to read keys, some of them far more often than others.
func startSet(n *cacheNode) *floodSet {
	s := &floodSet{node: n, stop: make(chan struct{})}
	for range 4 {
		s.running.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			skewed := rand.NewZipf(rand.New(rand.NewPCG(rand.Uint64(), 1)), 1.1, 8, floodKeys-1)
			tick := time.NewTicker(3 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-s.stop:
					return
				case <-tick.C:
				}
				hit, err := floodAsk(client, n, fmt.Sprintf("/set/%d", skewed.Uint64()), "")
				s.asked.Add(1)
				if err != nil {
					s.bad.Add(1)
				} else if hit {
					s.hit.Add(1)
				}
			}
		})
	}
	return s
}

func (s *floodSet) end() {
	close(s.stop)
	s.running.Wait()
}

// ratio is the hit ratio while do runs, and for a second at least.
func (s *floodSet) ratio(do func()) float64 {
	asked, hit := s.asked.Load(), s.hit.Load()
	begun := time.Now()
	do()
	pass(max(time.Second-time.Since(begun), 0), time.Minute, func() {})
	return float64(s.hit.Load()-hit) / float64(max(s.asked.Load()-asked, 1))
}

// floodAsk requests a path, in a variant if one is named.
func floodAsk(client *http.Client, n *cacheNode, path, variant string) (hit bool, err error) {
	req, err := http.NewRequest(http.MethodGet, n.edge+path, nil)
	if err != nil {
		return false, err
	}
	req.Host = "flood.test"
	if variant != "" {
		req.Header.Set("X-Variant", variant)
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if _, err = io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", resp.StatusCode)
	}
	return strings.Contains(resp.Header.Get("Cache-Status"), "; hit"), err
}

// flood sends requests for different things, several at a time.
func flood(n *cacheNode, requests int, ask func(i int) (path, variant string)) (failed int64) {
	var next, bad atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			for i := int(next.Add(1)); i <= requests; i = int(next.Add(1)) {
				path, variant := ask(i)
				if _, err := floodAsk(client, n, path, variant); err != nil {
					bad.Add(1)
				}
			}
		})
	}
	all.Wait()
	return bad.Load()
}

// gauges are the maxima of a node's metrics while it was watched.
type gauges struct {
	highest map[string]float64
	done    chan struct{}
	stop    chan struct{}
}

func watchGauges(n *cacheNode) *gauges {
	g := &gauges{highest: map[string]float64{}, done: make(chan struct{}), stop: make(chan struct{})}
	go func() {
		defer close(g.done)
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			if m, err := n.metrics(); err == nil {
				for name, value := range m {
					g.highest[name] = max(g.highest[name], value)
				}
			}
			select {
			case <-g.stop:
				return
			case <-tick.C:
			}
		}
	}()
	return g
}

// end returns the maxima.
func (g *gauges) end() map[string]float64 {
	close(g.stop)
	<-g.done
	return g.highest
}

// A flood of requests for things that nobody requests again, unique URLs and variants, neither evicts the working set
// nor takes the cache beyond its limits.
func TestFlood(t *testing.T) {
	set, large := bytes.Repeat([]byte("s"), floodBody), bytes.Repeat([]byte("l"), floodLarge)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=3600")
		switch {
		case strings.HasPrefix(r.URL.Path, "/set/"):
			_, _ = w.Write(set)
			return
		case strings.HasPrefix(r.URL.Path, "/vary/"):
			w.Header().Set("Vary", "X-Variant")
		}
		_, _ = w.Write(large)
	}))
	defer app.Close()
	n := startAlone(t, app.URL, "true", "memory: 16MiB, disk: 64MiB")
	traffic := startSet(n)
	watched := watchGauges(n)
	// requests each key once
	flood(n, floodKeys, func(i int) (string, string) { return fmt.Sprintf("/set/%d", i-1), "" })
	before := traffic.ratio(func() {})
	resting, err := n.metrics()
	if err != nil {
		t.Fatal(err)
	}
	var failed int64
	unique := traffic.ratio(func() {
		failed += flood(n, 4000, func(i int) (string, string) { return fmt.Sprintf("/unique/%d", i), "" })
	})
	variants := traffic.ratio(func() {
		failed += flood(n, 2000, func(i int) (string, string) { return fmt.Sprintf("/vary/%d", i%5), strconv.Itoa(i) })
	})
	after := traffic.ratio(func() {})
	traffic.end()
	highest := watched.end()
	t.Logf("hits of the working set: before %.3f, while unique URLs flood %.3f, while variants flood %.3f, after "+
		"%.3f; %d requests, %d failed; %d of the flood failed",
		before, unique, variants, after, traffic.asked.Load(), traffic.bad.Load(), failed)
	for tier, over := range map[string]float64{"memory": 1, "bucket": 1.05} {
		bytes, limit := highest[`millrace_cache_bytes{tier="`+tier+`"}`],
			highest[`millrace_cache_limit_bytes{tier="`+tier+`"}`]
		t.Logf("%s: at most %.1f of %.1f MiB", tier, bytes/(1<<20), limit/(1<<20))
		if limit == 0 || bytes > over*limit || bytes < limit/2 {
			t.Errorf("%s held up to %.0f of %.0f bytes", tier, bytes, limit)
		}
	}
	const rss = "process_resident_memory_bytes"
	t.Logf("RSS: %.1f MiB before the flood, at most %.1f MiB", resting[rss]/(1<<20), highest[rss]/(1<<20))
	if highest[rss] > 4*resting[rss] {
		t.Errorf("the process grew from %.0f to %.0f bytes", resting[rss], highest[rss])
	}
	if unique < 0.8*before || variants < 0.8*before || before == 0 {
		t.Errorf("the flood drove the working set out: hits %.3f before, %.3f and %.3f during", before, unique,
			variants)
	}
	if traffic.bad.Load() > 0 || failed > 0 {
		t.Errorf("%d requests of the working set and %d of the flood failed", traffic.bad.Load(), failed)
	}
	n.end(t)
}
