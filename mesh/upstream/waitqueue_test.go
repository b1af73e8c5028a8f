package upstream_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// A target gets no more concurrent requests than it may. Others wait in order, up to a number and a time. Further ones
// are refused.
func TestConcurrencyLimit(t *testing.T) {
	var now, most atomic.Int64
	var mu sync.Mutex
	var order []string
	free := make(chan struct{})
	app := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		raise(&most, n)
		mu.Lock()
		order = append(order, r.URL.Path)
		mu.Unlock()
		<-free
		now.Add(-1)
	})
	cfg := config(app.URL)
	cfg.Concurrency.Max, cfg.Concurrency.MaxQueue, cfg.Concurrency.MaxWait = 2, 5, node.Duration(20*time.Second)
	r := start(t, cfg)
	status := func() (inFlight, waiting int64) {
		s := r.set.Status()[0]
		return s.Targets[0].InFlight, s.Waiting
	}
	var wait sync.WaitGroup
	send := func(path string) {
		wait.Go(func() {
			if resp, err := r.do(t, "GET", path, ""); err != nil || resp.Status != 200 {
				t.Errorf("%s: got %+v, %v", path, resp, err)
			}
		})
	}
	for i := range 7 {
		send(fmt.Sprintf("/%d", i))
		nodetest.Eventually(t, "it runs or waits", func() bool {
			inFlight, waiting := status()
			return inFlight == min(int64(i)+1, 2) && waiting == max(int64(i)-1, 0)
		})
	}
	_, err := r.do(t, "GET", "/one-too-many", "")
	wantCode(t, err, node.CodeBusy)
	for i := range 7 {
		free <- struct{}{}
		nodetest.Eventually(t, "the next begins", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(order) == min(i+3, 7)
		})
	}
	wait.Wait()
	if got := order[2:]; most.Load() != 2 || !slices.Equal(got, []string{"/2", "/3", "/4", "/5", "/6"}) {
		t.Errorf("%d ran at once, those that waited began in the order %q", most.Load(), got)
	}
	if s := r.set.Status()[0]; s.Refused != 1 || s.Waiting != 0 || s.Targets[0].InFlight != 0 {
		t.Errorf("the status is %+v", s)
	}
	close(free)
}

// raise sets most to at least n.
func raise(most *atomic.Int64, n int64) {
	for {
		if old := most.Load(); n <= old || most.CompareAndSwap(old, n) {
			return
		}
	}
}

func wantCode(t *testing.T, err error, code node.Code) {
	t.Helper()
	if node.CodeOf(err) != code {
		t.Errorf("got error %v, want %s", err, code)
	}
}

// A waiting request leaves the queue when its time is over or its client goes away.
func TestQueueEnds(t *testing.T) {
	free := make(chan struct{})
	entered := make(chan struct{}, 1)
	app := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		select {
		case <-free:
		case <-r.Context().Done():
		}
	})
	cfg := config(app.URL)
	cfg.Concurrency.Max, cfg.Concurrency.MaxWait = 1, node.Duration(50*time.Millisecond)
	r := start(t, cfg)
	var first sync.WaitGroup
	first.Go(func() {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Errorf("got %+v, %v", resp, err)
		}
	})
	<-entered
	_, err := r.do(t, "GET", "/late", "")
	wantCode(t, err, node.CodeBusy)
	cfg.Concurrency.MaxWait = node.Duration(time.Minute)
	if err := r.set.Apply(t.Context(), map[string]node.Upstream{"api": cfg}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := r.conn.Do(ctx, r.conn.Upstream("api"),
			&mesh.Request{Method: "GET", Target: "/", Host: "h", Deadline: time.Now().Add(20 * time.Second)})
		gone <- err
	}()
	waiting := func(n int64) func() bool {
		return func() bool { return r.set.Status()[0].Waiting == n }
	}
	nodetest.Eventually(t, "it waits", waiting(1))
	cancel()
	wantCode(t, <-gone, node.CodeCanceled)
	nodetest.Eventually(t, "its place is free", waiting(0))
	close(free)
	first.Wait()
	if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
		t.Errorf("afterwards: %+v, %v", resp, err)
	}
}
