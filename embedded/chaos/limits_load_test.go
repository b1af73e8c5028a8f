//go:build system

package chaos_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/node/nodetest"
)

// cluster is three nodes of one cluster on loopback that log at debug level, which says who leads.
type cluster struct {
	dirs, yaml [3]string
	nodes      [3]*nodeProcess
}

// startThree starts three nodes with the block routes, whose upstream app answers at once, and waits until the nodes
// report no degraded condition.
func startThree(t *testing.T, routes string) *cluster {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(app.Close)
	ports := nodetest.FreePorts(t, 3)
	c := &cluster{}
	for i := range c.nodes {
		c.dirs[i] = t.TempDir()
		c.yaml[i] = embeddedtest.ClusterNode(t, i, c.dirs[i], ports) + embeddedtest.YAML(t, `
			upstreams:
			  app:
			    targets: [$APP]
			`, "APP", app.URL) + embeddedtest.YAML(t, routes)
		c.start(t, i)
	}
	c.whole(t)
	return c
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	c.nodes[i] = start(t, c.dirs[i], c.yaml[i], "sh", "-c", `exec "$@" --log-level debug`, "sh")
}

// whole waits until no node reports a degraded condition.
func (c *cluster) whole(t *testing.T) {
	t.Helper()
	for _, n := range c.nodes {
		within(t, wait, "nothing is wrong", func() bool { return len(n.status(t).Degraded) == 0 })
	}
}

// leader returns the node whose replica of the limits' stream leads: the one that logged it last.
func (c *cluster) leader(t *testing.T) (node int) {
	t.Helper()
	var last time.Time
	for i, n := range c.nodes {
		if led := natsservertest.LedSince(strings.NewReader(n.output.String()), "KV_millrace-limits"); led.After(last) {
			last, node = led, i
		}
	}
	if last.IsZero() {
		t.Fatal("nobody leads the stream of limits")
	}
	return node
}

// sent is one request and its outcome.
type sent struct {
	path   string
	begun  time.Time
	took   time.Duration
	status int
}

// load is clients that send requests at a steady pace until end.
type load struct {
	stop    chan struct{}
	running sync.WaitGroup

	mu  sync.Mutex // guards all
	all []sent
}

// begin sends perSecond requests a second to each of the nodes, each with one of so many keys.
func (l *load) begin(nodes []*nodeProcess, path string, keys, perSecond int) {
	const workers = 16
	for _, n := range nodes {
		url := n.edge + path
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4 * workers}, Timeout: 20 * time.Second}
		l.running.Go(func() {
			defer client.CloseIdleConnections()
			tick := time.NewTicker(time.Second / time.Duration(perSecond))
			defer tick.Stop()
			places := make(chan struct{}, 64*workers)
			for {
				select {
				case <-tick.C:
				case <-l.stop:
					return
				}
				places <- struct{}{}
				l.running.Go(func() {
					defer func() { <-places }()
					l.ask(client, url, path, rand.IntN(keys))
				})
			}
		})
	}
}

func (l *load) ask(client *http.Client, url, path string, key int) {
	s := sent{path: path, begun: time.Now()}
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("X-Key", fmt.Sprint(path, key))
	if resp, err := client.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		s.status = resp.StatusCode
	}
	s.took = time.Since(s.begun)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, s)
}

// end stops the clients and returns all requests.
func (l *load) end() []sent {
	close(l.stop)
	l.running.Wait()
	slices.SortFunc(l.all, func(a, b sent) int { return a.begun.Compare(b.begun) })
	return l.all
}

// gap describes the requests around a failure.
type gap struct {
	requests, failed int
	begun, ended     time.Duration // of the failed requests, since the failure
	longest          time.Duration // the longest request that wasn't lost
	lost             int           // requests that had passed the limit and were with a member of the killed node
}

func (g gap) lasted() time.Duration { return g.ended - g.begun }

// gapAfter describes the requests of a path that ran within a span of time after a failure.
func gapAfter(all []sent, path string, from time.Time, within time.Duration) (g gap) {
	for _, s := range all {
		if s.path != path || s.begun.Add(s.took).Before(from) || s.begun.After(from.Add(within)) {
			continue
		}
		g.requests++
		if s.took > 10*time.Second {
			g.lost++
		} else {
			g.longest = max(g.longest, s.took)
		}
		if s.status == http.StatusOK || s.status == http.StatusTooManyRequests {
			continue
		}
		if g.failed++; g.failed == 1 {
			g.begun = s.begun.Sub(from)
		}
		g.ended = max(g.ended, s.begun.Add(s.took).Sub(from))
	}
	return g
}

// percentile returns a percentile of the durations; 100 is the longest.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	all = slices.Sorted(slices.Values(all))
	return all[min(len(all)*p/100, len(all)-1)]
}
