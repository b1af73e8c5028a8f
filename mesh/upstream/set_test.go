package upstream_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// ErrCutOff distinguishes a request that doesn't end in time from an upstream that doesn't start.
func TestCutOff(t *testing.T) {
	entered, finish := make(chan struct{}, 2), make(chan struct{})
	slow := startServer(t, func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-finish
	})
	defer close(finish)
	r := start(t, config(slow.URL))
	var wg sync.WaitGroup
	defer wg.Wait()
	ask := func() {
		wg.Go(func() { _, _ = r.do(t, "POST", "/", "x") }) // its result doesn't matter
		<-entered
	}
	ask()
	more := config(slow.URL)
	more.MaxRequests++
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.set.Apply(ended,
		map[string]node.Upstream{"api": config(slow.URL), "new": config(slow.URL)}); err == nil ||
		errors.Is(err, upstream.ErrCutOff) {
		t.Errorf("an upstream that can't start: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.set.Apply(short, map[string]node.Upstream{"api": more}); err != nil {
		t.Errorf("a new limit: %v", err)
	}
	ask()
	short, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := r.set.Apply(short, nil); !errors.Is(err, upstream.ErrCutOff) {
		t.Errorf("an upstream that is removed: %v", err)
	}
	if left := r.set.Status(); len(left) != 0 {
		t.Errorf("left: %+v", left)
	}
}

// A set that was shut down or closed stays so: a late reload starts nothing.
func TestApplyFailsAfterEnd(t *testing.T) {
	app := startServer(t, func(http.ResponseWriter, *http.Request) {})
	for name, end := range map[string]func(*upstream.Set) error{
		"shut down": func(s *upstream.Set) error { return s.Shutdown(t.Context()) },
		"closed":    func(s *upstream.Set) error { return s.Close() },
	} {
		r := start(t, config(app.URL))
		if err := end(r.set); err != nil {
			t.Fatal(err)
		}
		if err := r.set.Apply(t.Context(), map[string]node.Upstream{"api": config(app.URL)}); err == nil ||
			len(r.set.Status()) != 0 {
			t.Errorf("%s: Apply gave %v, and the set is %+v", name, err, r.set.Status())
		}
	}
}

// Targets are added, removed and reweighted while requests run that may not be repeated: none is lost, and those at a
// removed target end there.
func TestTargetsChangeUnderLoad(t *testing.T) {
	urls := indexedTargets(t, 6)
	r := start(t, config(urls...))
	sent, stop := r.sendContinuously(t, 8, "POST", "x", 0)
	for i := range 60 {
		some := slices.Clone(urls)
		rand.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		cfg := config(some[:1+i%len(some)]...)
		cfg.Targets[0].Weight = 1 + i%3
		if i%8 == 7 {
			cfg.MaxRequests = 500 + i
		}
		if i%10 == 0 {
			cfg.ConnectTimeout += node.Duration(i) // makes all targets new
		}
		if err := r.set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}); err != nil {
			t.Fatal(err)
		}
		before := sent.Load()
		nodetest.Eventually(t, "requests go on", func() bool { return sent.Load() > before+20 || t.Failed() })
	}
	stop()
	t.Logf("%d requests over 60 changes", sent.Load())
}
