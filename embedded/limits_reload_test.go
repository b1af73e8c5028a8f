package embedded_test

import (
	"net/http"
	"path/filepath"
	"sync"
	"testing"

	"millrace/embedded"
	"millrace/node/nodetest"
)

// A reload that adds the first limit of a node opens the store of limits. No request fails meanwhile.
func TestReloadFirstLimit(t *testing.T) {
	a := app(t, "x")
	opts, path := settings(t, limited(t, a.URL, "", "a"))
	n := open(t, opts)
	if s, _ := n.LimitStats(); s.Ready {
		t.Error("a node without limits has opened their store")
	}
	stop := make(chan struct{})
	got := map[int]int{}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			status, _ := get(t, n.EdgeURL()+"/a")
			got[status]++
		}
	})
	write(t, path, base(t, filepath.Dir(path))+limited(t, a.URL, "", "a: 100000/15m"))
	if done, err := n.Reload(t.Context()); err != nil || len(done.Warnings) > 0 {
		t.Errorf("got %+v, %v", done, err)
	}
	nodetest.Eventually(t, "requests are counted", func() bool {
		s, _ := n.LimitStats()
		return s.Ready && usage(t, n, "a", "127.0.0.1").Spent > 10
	})
	close(stop)
	running.Wait()
	if len(got) != 1 || got[http.StatusOK] == 0 {
		t.Errorf("while the first limit came, requests got %v", got)
	}
}

// A reload that changes the size of a limit doesn't give a new allowance in the running window: used permits stay used.
func TestReloadLimitSize(t *testing.T) {
	a := app(t, "x")
	with := func(limit string) string { return limited(t, a.URL, "", "a: "+limit) }
	opts, path := settings(t, with("100/15m"))
	n := open(t, opts)
	reload := func(limit string) {
		t.Helper()
		write(t, path, base(t, filepath.Dir(path))+with(limit))
		if _, err := n.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := admitted(t, n.EdgeURL()+"/a", 60); got != 60 {
		t.Errorf("%d of 60", got)
	}
	reload("150/15m")
	if got := admitted(t, n.EdgeURL()+"/a", 120); got != 90 {
		t.Errorf("raised from 100 to 150 after 60: %d more, want 90", got)
	}
	reload("50/15m")
	if got := admitted(t, n.EdgeURL()+"/a", 20); got != 0 {
		t.Errorf("lowered to 50 after 150: %d more", got)
	}
	reload("170/15m")
	if got := admitted(t, n.EdgeURL()+"/a", 50); got != 20 {
		t.Errorf("raised to 170 after 150: %d more, want 20", got)
	}
	if u := usage(t, n, "a", "127.0.0.1"); u.Max != 170 || u.Spent != 170 {
		t.Errorf("usage is %+v", u)
	}
	reload("170/10m")
	if got := admitted(t, n.EdgeURL()+"/a", 180); got != 170 {
		t.Errorf("another window begins anew: %d, want 170", got)
	}
}

// After a reload that lowers a limit, at most the permits that the node had leased before may still be used.
func TestReloadLowersLimit(t *testing.T) {
	a := app(t, "x")
	opts, path := settings(t, limited(t, a.URL, "", "a: 1000/15m"))
	n := open(t, opts)
	admitted(t, n.EdgeURL()+"/a", 60)
	write(t, path, base(t, filepath.Dir(path))+limited(t, a.URL, "", "a: 50/15m"))
	if _, err := n.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	held := usage(t, n, "a", "127.0.0.1").Held // a lease may have been on its way
	got := admitted(t, n.EdgeURL()+"/a", int(held)+50)
	t.Logf("lowered to 50 after 60 of 1000, with %d leased: %d more were admitted", held, got)
	if got > int(held) {
		t.Errorf("%d more were admitted, want at most %d", got, held)
	}
	if got = admitted(t, n.EdgeURL()+"/a", 10); got != 0 {
		t.Errorf("and another %d after that", got)
	}
}

// A restart loses the permits that the node had leased until the window ends: a few of a limit that is far from used
// up. It never gives one too many.
func TestLimitAfterRestarts(t *testing.T) {
	const limit, restarts = 1000, 4
	opts, _ := settings(t, limited(t, app(t, "x").URL, "", "a: 1000/day"))
	total := 0
	for range restarts {
		n, err := embedded.New(opts)
		if err == nil {
			err = n.Open(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		total += admitted(t, n.EdgeURL()+"/a", 10)
		http.DefaultClient.CloseIdleConnections()
		if err := n.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
	n := open(t, opts)
	total += admitted(t, n.EdgeURL()+"/a", limit)
	t.Logf("with %d restarts after 10 requests each, %d of %d permits were lost", restarts, limit-total, limit)
	if total > limit || limit-total > restarts*limit/16 {
		t.Errorf("%d requests were admitted of %d", total, limit)
	}
}
