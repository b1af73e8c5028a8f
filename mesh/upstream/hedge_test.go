package upstream_test

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// A request to a slow target is also sent to a second one. The first answer counts, and the other try is canceled. This
// needs a safe method and budget.
func TestHedge(t *testing.T) {
	var slow, canceled, posts atomic.Int64
	hang := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		slow.Add(1)
		if r.Method == http.MethodPost {
			posts.Add(1)
			<-time.After(100 * time.Millisecond)
			return
		}
		<-r.Context().Done()
		canceled.Add(1)
	})
	good := newApp(t, 200)
	cfg := config(hang.URL, good.url)
	cfg.Retry.Hedge, cfg.Retry.Budget, cfg.Eject.Failures = node.Duration(20*time.Millisecond), 100, 0
	r := start(t, cfg)
	for range 40 {
		began := time.Now()
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 || time.Since(began) > 5*time.Second {
			t.Fatalf("got %+v, %v after %s", resp, err, time.Since(began))
		}
	}
	if slow.Load() == 0 || r.set.Status()[0].Hedges != uint64(slow.Load()) {
		t.Errorf("%d requests hung, %d were sent twice", slow.Load(), r.set.Status()[0].Hedges)
	}
	nodetest.Eventually(t, "the tries that lost are canceled", func() bool {
		return canceled.Load() == slow.Load()
	})
	nodetest.Eventually(t, "they have left", func() bool {
		return !slices.ContainsFunc(r.set.Status()[0].Targets, func(s upstream.TargetStatus) bool {
			return s.InFlight != 0
		})
	})
	before := sumOf(&slow, &good.got)
	for range 20 {
		if resp, err := r.do(t, "POST", "/", "x"); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	if got := sumOf(&slow, &good.got) - before; got != 20 || posts.Load() == 0 {
		t.Errorf("20 POSTs arrived %d times, %d at the slow target", got, posts.Load())
	}
}

func sumOf(all ...*atomic.Int64) (n int64) {
	for _, a := range all {
		n += a.Load()
	}
	return n
}

// Without budget nothing is sent twice, and the slow answer counts.
func TestHedgeBudget(t *testing.T) {
	for budget, want := range map[int]int64{0: 0, 1: 10} {
		t.Run(strconv.Itoa(budget), func(t *testing.T) { hedgeBudget(t, budget, want) })
	}
}

func hedgeBudget(t *testing.T, budget int, want int64) {
	t.Helper()
	a := slowApp(t, 30*time.Millisecond)
	b := slowApp(t, 30*time.Millisecond)
	cfg := config(a.url, b.url)
	cfg.Retry.Hedge, cfg.Retry.Budget = node.Duration(time.Millisecond), budget
	r := start(t, cfg)
	const requests = 30
	for range requests {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	if extra := a.got.Load() + b.got.Load() - requests; extra != want || r.set.Status()[0].Hedges != uint64(want) {
		t.Errorf("%d requests were sent twice, the status says %d: want the %d that are saved up", extra,
			r.set.Status()[0].Hedges, want)
	}
}

// slowApp answers after that time.
func slowApp(tb testing.TB, after time.Duration) *app {
	tb.Helper()
	a := &app{}
	a.url = startServer(tb, func(_ http.ResponseWriter, r *http.Request) {
		a.got.Add(1)
		select {
		case <-time.After(after):
		case <-r.Context().Done():
		}
	}).URL
	return a
}

// A hedge that the budget denies costs nothing: a request that couldn't be sent at all is still sent elsewhere.
func TestHedgeDenied(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections, but makes no TLS handshake
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := config("https://"+l.Addr().String(), newApp(t, 200).url)
	cfg.ConnectTimeout, cfg.Retry.Hedge, cfg.Retry.Budget, cfg.Eject.Failures,
		cfg.Eject.Rate = node.Duration(100*time.Millisecond), node.Duration(20*time.Millisecond), 0, 0, 0
	r := start(t, cfg)
	for range 20 {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
}

// A target that never answers is ejected, though another one answered each of its requests in time.
func TestHedgedTargetThatHangsIsEjected(t *testing.T) {
	hang, _ := hangingTarget(t)
	cfg := config(hang, newApp(t, 200).url, newApp(t, 200).url)
	cfg.Retry.Hedge = node.Duration(10 * time.Millisecond)
	r := start(t, cfg)
	nodetest.Eventually(t, "it rests", func() bool {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
		return r.state(hang) == "resting"
	})
}
