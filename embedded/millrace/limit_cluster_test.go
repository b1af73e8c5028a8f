package main

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
	"millrace/mesh"
	"millrace/node/nodetest"
)

// greeter is an upstream that answers at once.
func greeter(t *testing.T) string {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(app.Close)
	return app.URL
}

// limitRoutes is the part of a configuration with a route for each limit, written as NAME: LIMIT. The path is /NAME,
// and NAME the limit's name.
func limitRoutes(t *testing.T, app string, limits ...string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString(embeddedtest.YAML(t, `
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		`, "APP", app))
	for _, l := range limits {
		name, limit, _ := strings.Cut(l, ": ")
		b.WriteString(embeddedtest.YAML(t, `
			  - path: /$NAME
			    to: upstream:app
			    timeout: 10s
			    limit: $LIMIT
			`, "NAME", name, "LIMIT", limit))
	}
	return b.String()
}

// startVerboseLimits starts three nodes with these limits that log at debug level.
func startVerboseLimits(t *testing.T, limits ...string) *cacheCluster {
	t.Helper()
	app := greeter(t)
	c := writeCluster(t, func(int) string { return limitRoutes(t, app, limits...) })
	for _, n := range c.nodes {
		startVerbose(t, n)
	}
	c.counts(t)
	return c
}

// startOneLimited starts one node with these limits.
func startOneLimited(t *testing.T, limits ...string) *cacheNode {
	t.Helper()
	ports := nodetest.FreePorts(t, 2)
	for i := range ports { // not 127.0.0.1, where clients get their ports
		ports[i] = strings.Replace(ports[i], "127.0.0.1", "127.0.0.2", 1)
	}
	n := writeNode(t, ports[0], ports[1], "n1", limitRoutes(t, greeter(t), limits...))
	n.start(t)
	return n
}

// counts waits until every node knows all others and reaches the store of limits.
func (c *cacheCluster) counts(t *testing.T) {
	t.Helper()
	all := map[string]mesh.MemberState{"n1": "alive", "n2": "alive", "n3": "alive"}
	for i, n := range c.nodes {
		nodetest.Eventually(t, fmt.Sprintf("n%d knows all others and the store of limits answers it", i+1),
			func() bool {
				return n.sees(t, all) && statusOf(http.DefaultClient, n.admin+"/v1/limits?key=nobody") == http.StatusOK
			})
	}
}

// others returns all nodes except one.
func (c *cacheCluster) others(node int) []*cacheNode {
	return slices.Delete(slices.Clone(c.nodes[:]), node, node+1)
}

// storeOperations returns how often the nodes have used the store of limits, or asked one another.
func storeOperations(t *testing.T, nodes []*cacheNode) (n float64) {
	t.Helper()
	for _, node := range nodes {
		m, err := node.metrics()
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range m {
			if strings.HasPrefix(name, "millrace_limit_store_operations_total") {
				n += value
			}
		}
	}
	return n
}

// command runs millrace and returns its output.
func command(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), beMillrace+"=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("millrace %s: %v, %s", args, err, out)
	}
	return string(out)
}

// statuses counts responses by status; 0 is for requests without a response.
type statuses map[int]int

func (s statuses) String() string {
	var out []string
	for _, status := range slices.Sorted(maps.Keys(s)) {
		out = append(out, fmt.Sprintf("%d: %d", status, s[status]))
	}
	return strings.Join(out, ", ")
}

func (s statuses) add(more statuses) {
	for status, n := range more {
		s[status] += n
	}
}

// admitted returns the number of admitted requests.
func (s statuses) admitted() int { return s[http.StatusOK] }

// failed returns the number of requests that were neither admitted nor refused.
func (s statuses) failed() (n int) {
	for status, many := range s {
		if status != http.StatusOK && status != http.StatusTooManyRequests {
			n += many
		}
	}
	return n
}

// limitClients are clients with one address. They send requests to the nodes in turn.
type limitClients struct {
	path   string
	nodes  []*cacheNode
	atOnce int
	every  time.Duration                     // from one request of a client to its next; 0 means without a pause
	seen   func(status int, begun time.Time) // called for each response; may be nil
	until  *atomic.Bool                      // stops the clients early; may be nil
}

// ask sends that many requests.
func (c limitClients) ask(requests int) statuses {
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: c.atOnce}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var mu sync.Mutex // guards all
	all := statuses{}
	var running sync.WaitGroup
	for range c.atOnce {
		running.Go(func() {
			own := statuses{}
			var tick <-chan time.Time
			if c.every > 0 {
				paced := time.NewTicker(c.every)
				defer paced.Stop()
				tick = paced.C
			}
			for i := int(next.Add(1)); i <= requests && (c.until == nil || !c.until.Load()); i = int(next.Add(1)) {
				if tick != nil {
					<-tick
				}
				begun := time.Now()
				status := statusOf(client, c.nodes[i%len(c.nodes)].edge+c.path)
				own[status]++
				if c.seen != nil {
					c.seen(status, begun)
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.add(own)
		})
	}
	running.Wait()
	return all
}

// statusOf sends a request and returns the status; 0 without a response.
func statusOf(client *http.Client, url string) int {
	resp, err := client.Get(url)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // only the status matters
	return resp.StatusCode
}
