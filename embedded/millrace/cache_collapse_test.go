package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// answered is a response to one of many clients.
type answered struct {
	status int
	body   string
	how    string // Cache-Status
	err    error
}

// askTogether sends so many requests for one path at the same time, to the nodes in turn.
func askTogether(c *cacheCluster, path string, clients int) []answered {
	out := make([]answered, clients)
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 90 * time.Second}
	var all sync.WaitGroup
	for i := range out {
		all.Go(func() {
			req, err := http.NewRequest(http.MethodGet, c.nodes[i%len(c.nodes)].edge+path, nil)
			if err != nil {
				out[i].err = err
				return
			}
			req.Host = "one.test"
			resp, err := client.Do(req)
			if err != nil {
				out[i].err = err
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			out[i] = answered{resp.StatusCode, string(body), resp.Header.Get("Cache-Status"), err}
		})
	}
	all.Wait()
	return out
}

// A thousand clients at three nodes that request the same cost the origin one request. A private response goes to one
// client only, also if all asked at the same time.
func TestOneOriginRequest(t *testing.T) {
	var requests atomic.Int64
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		wait := time.NewTimer(500 * time.Millisecond)
		defer wait.Stop()
		<-wait.C
		switch {
		case strings.HasPrefix(r.URL.Path, "/slow/private"):
			w.Header().Set("Cache-Control", "private, max-age=60")
		case strings.HasPrefix(r.URL.Path, "/slow/broken"):
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.Header().Set("Cache-Control", "max-age=60")
		}
		fmt.Fprintf(w, "answer %d", n)
	}))
	defer app.Close()
	cluster := startCluster(t, app.URL, [3]string{})
	together := 1000
	// Otherwise the nodes may get no processor for so long that they lose their leases on the purges, and may not serve
	// what they have stored.
	if raceEnabled {
		together = 150
	}
	for i := range 3 { // different keys belong to different nodes
		before := requests.Load()
		path := fmt.Sprintf("/slow/shared/%d", i)
		got := askTogether(cluster, path, together)
		how := map[string]int{}
		for _, a := range got {
			how[howServed(a.how)]++
			if a.err != nil || a.status != http.StatusOK || a.body != got[0].body {
				t.Errorf("%s: a client got %d %q, %v, and another %q", path, a.status, a.body, a.err, got[0].body)
				break
			}
		}
		if n := requests.Load() - before; n != 1 {
			t.Errorf("%s: the origin was asked %d times", path, n)
		}
		t.Logf("%s: %v", path, how)
	}
	for path, status := range map[string]int{
		"/slow/private": http.StatusOK,
		"/slow/broken":  http.StatusInternalServerError,
	} {
		before := requests.Load()
		seen := map[string]bool{}
		const clients = 200
		for _, a := range askTogether(cluster, path, clients) {
			if a.err != nil || a.status != status || seen[a.body] {
				t.Errorf("%s: a client got %d %q, %v; another client had it too: %t", path, a.status, a.body, a.err,
					seen[a.body])
				break
			}
			seen[a.body] = true
		}
		if n := requests.Load() - before; n != clients {
			t.Errorf("%s: the origin was asked %d times by %d clients", path, n, clients)
		}
	}
	cluster.end(t)
}
