package upstream_test

import (
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"millrace/node"
	"millrace/node/nodetest"
)

// A target that fails a large part of its requests is ejected, even if never several in a row.
func TestEjectsByRate(t *testing.T) {
	var n atomic.Int64
	flaky := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1)%2 == 0 {
			w.WriteHeader(http.StatusBadGateway)
		}
	})
	good := newApp(t, 200)
	for rate, ejects := range map[int]bool{40: true, 60: false, 0: false} {
		cfg := config(flaky.URL, good.url)
		cfg.Eject.Rate, cfg.Retry.Budget = rate, 100
		r := start(t, cfg)
		for range 100 {
			if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
				t.Fatalf("got %+v, %v", resp, err)
			}
		}
		if got := r.set.Status()[0].Targets[0].Ejected > 0; got != ejects {
			t.Errorf("with a rate of %d a target that fails half of its requests rests: %t", rate, got)
		}
	}
}

// A target that is much slower than the others is ejected. When it is as fast again, it has its full share again.
func TestEjectsSlow(t *testing.T) {
	var slow atomic.Bool
	slow.Store(true)
	var got atomic.Int64
	slowServer := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		got.Add(1)
		if slow.Load() {
			select {
			case <-time.After(40 * time.Millisecond):
			case <-r.Context().Done():
			}
		}
	})
	a, b := newApp(t, 200), newApp(t, 200)
	cfg := config(slowServer.URL, a.url, b.url)
	cfg.Eject.Slow, cfg.Eject.SlowStart = 3, node.Duration(100*time.Millisecond)
	r := start(t, cfg)
	_, stop := r.sendContinuously(t, 4, "GET", "", time.Millisecond)
	defer stop()
	nodetest.Eventually(t, "the slow target rests", func() bool { return r.state(slowServer.URL) == "resting" })
	// a busy machine may have made one of them slow for a moment
	nodetest.Eventually(t, "the others don't", func() bool {
		return r.state(slowServer.URL) == "resting" && r.state(a.url) == "up" && r.state(b.url) == "up"
	})
	slow.Store(false)
	nodetest.Eventually(t, "it returns", func() bool { return r.state(slowServer.URL) == "up" })
	before, others := got.Load(), a.got.Load()
	nodetest.Eventually(t, "it has its share", func() bool {
		return got.Load()-before > 100 && (got.Load()-before)*2 > a.got.Load()-others
	})
}

// Ejection is a circuit breaker for each target. It opens after as many failures in a row as failsafe-go's, tries again
// after its delay, closes on the first success and opens again on the first failure.
func TestEjectionMatchesFailsafeBreaker(t *testing.T) {
	for _, failures := range []int{1, 3} {
		t.Run(strconv.Itoa(failures), func(t *testing.T) {
			target, other := newApp(t, 200), newApp(t, 200)
			cfg := config(target.url, other.url)
			cfg.Eject.Failures, cfg.Eject.Rate, cfg.Eject.SlowStart, cfg.Retry.Tries = failures, 0, 0, 1
			cfg.Targets[0].Weight = 1000 // nearly every request goes there while it may
			r := start(t, cfg)
			reference := circuitbreaker.NewBuilder[any]().WithFailureThreshold(uint(failures)).WithSuccessThreshold(
				1).WithDelay(100 * time.Millisecond).Build()
			asked := func(status int) {
				t.Helper()
				target.status.Store(int64(status))
				for before := target.got.Load(); target.got.Load() == before; {
					if _, err := r.do(t, "GET", "/", ""); err != nil {
						t.Fatal(err)
					}
				}
				if reference.TryAcquirePermit(); status == 200 {
					reference.RecordSuccess()
				} else {
					reference.RecordFailure()
				}
			}
			open := func() bool { return r.state(target.url) == "resting" }
			same := func(after string) {
				t.Helper()
				if reference.IsOpen() != open() {
					t.Fatalf("after %s the reference is open: %t, ours: %t", after, reference.IsOpen(), open())
				}
			}
			for i := range failures - 1 {
				asked(503)
				same(fmt.Sprint(i+1, " failures"))
			}
			asked(200)
			same("a success")
			for i := range failures {
				asked(503)
				same(fmt.Sprint(i+1, " failures in a row"))
			}
			halfOpen := func() {
				t.Helper()
				nodetest.Eventually(t, "both let a request try", func() bool {
					return !open() && reference.TryAcquirePermit()
				})
			}
			halfOpen()
			target.status.Store(503)
			for before := target.got.Load(); target.got.Load() == before; {
				if _, err := r.do(t, "GET", "/", ""); err != nil {
					t.Fatal(err)
				}
			}
			reference.RecordFailure()
			same("a failure of the trial")
			halfOpen()
			reference.RecordSuccess()
			asked(200)
			same("a success of the trial")
			for i := range failures {
				asked(503)
				same(fmt.Sprint(i+1, " failures in a row after it"))
			}
		})
	}
}
