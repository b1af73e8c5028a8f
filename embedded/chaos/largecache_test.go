//go:build system

package chaos_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// largeCache serves large responses on three nodes whose memory and bucket are far too small for them. A response whose
// head was sent isn't cut, although chunks leave memory and bucket all the time, nodes fetch for one another, purges
// arrive, and nodes are killed.
func largeCache(t *testing.T, long bool) string {
	t.Helper()
	origin := newLargeOrigin()
	app := httptest.NewServer(origin)
	defer app.Close()
	c := startLargeCluster(t, app.URL)
	quiet, faulty := 10*time.Second, 5*time.Second
	if long {
		quiet, faulty = 3*time.Minute, 3*time.Minute
	}
	calm := c.soak(t, quiet, func(end <-chan struct{}) { c.purgeNowAndThen(end) })
	if calm.cut > 0 || calm.broken > 0 || calm.wrong > 0 {
		t.Errorf("without a fault: %s, %d wrong", calm, calm.wrong)
	}
	if calm.hits == 0 || calm.all < 100 {
		t.Errorf("%d responses, %d hits: that shows nothing", calm.all, calm.hits)
	}
	storm := c.soak(t, faulty, func(end <-chan struct{}) { c.killNowAndThen(t, end) })
	if storm.cut > 0 || storm.wrong > 0 {
		t.Errorf("while nodes were killed: %s, %d wrong", storm, storm.wrong)
	}
	return fmt.Sprintf("%s; while nodes were killed %s", calm, storm)
}

// largeOrigin has objects of 300 KB to 3 MB and serves ranges of them. Two of three have a strong validator.
type largeOrigin struct{ bodies []string }

const largeObjects = 60

func newLargeOrigin() *largeOrigin {
	o := &largeOrigin{}
	for i := range largeObjects {
		var b strings.Builder
		for j := 0; b.Len() < 300_000+i*45_000; j++ {
			fmt.Fprintf(&b, "%d.%d ", i, j)
		}
		o.bodies = append(o.bodies, b.String())
	}
	return o
}

func (o *largeOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	if err != nil || i < 0 || i >= largeObjects {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Cache-Control", "max-age="+strconv.Itoa(2+i%7))
	w.Header().Set("Content-Type", "text/plain")
	if i%3 != 0 {
		w.Header().Set("ETag", strconv.Quote(strconv.Itoa(i)))
	}
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(o.bodies[i]))
}

// largeCluster is three nodes whose caches are too small.
type largeCluster struct {
	origin *largeOrigin
	dirs   [3]string
	texts  [3]string

	mu    sync.Mutex // guards what follows
	nodes [3]*nodeProcess
	lives [3]int // incremented when a node is killed and when it is started: odd while it is down
}

func startLargeCluster(t *testing.T, app string) *largeCluster {
	t.Helper()
	c := &largeCluster{origin: newLargeOrigin()}
	ports := nodetest.FreePorts(t, 3)
	for i := range 3 {
		c.dirs[i] = t.TempDir()
		c.texts[i] = embeddedtest.YAML(t, `
			version: 1
			node:
			  name: n$N
			  data: $DIR/data
			edge:
			  listen: 127.0.0.1:0
			  linger: 0s
			  timeout: 10s
			admin:
			  listen: 127.0.0.1:0
			mesh:
			  listen: 127.0.0.1:0
			  token: token-for-tests-only
			  local: nearest
			  cluster:
			    name: chaos
			    listen: $LISTEN
			    peers: [$PEERS]
			cache:
			  memory: 16MiB
			  disk: 48MiB
			upstreams:
			  app:
			    targets: [$APP]
			routes:
			  - path: /*
			    to: upstream:app
			    cache: true
			`, "N", strconv.Itoa(i+1), "DIR", c.dirs[i], "LISTEN", ports[i], "PEERS", strings.Join(ports, ", "),
			"APP", app)
		c.nodes[i] = start(t, c.dirs[i], c.texts[i])
	}
	for i, p := range c.nodes {
		within(t, wait, fmt.Sprintf("n%d is ready", i+1), func() bool {
			st := p.status(t)
			return st.Ready && st.JetStream == "current" && st.Cache.Ready
		})
	}
	return c
}

// at returns a node's edge and life. If the life changes during a request, its response doesn't count.
func (c *largeCluster) at(i int) (edge string, life int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[i].edge, c.lives[i]
}

// soakResult counts the responses of a soak: cut are those that the cache had or was storing, broken those that it only
// forwarded.
type soakResult struct{ all, hits, cut, broken, wrong, failed int64 }

func (c soakResult) String() string {
	return fmt.Sprintf("%d responses, %d hits, %d cut, %d passed on and broken", c.all, c.hits, c.cut, c.broken)
}

// soak sends requests to all nodes for a while, and runs meanwhile at the same time.
func (c *largeCluster) soak(t *testing.T, d time.Duration, meanwhile func(end <-chan struct{})) soakResult {
	t.Helper()
	var all, hits, cut, broken, wrong, failed atomic.Int64
	end := make(chan struct{})
	var running sync.WaitGroup
	for n := range 12 {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(n), 7))
			for over := false; !over; {
				select {
				case <-end:
					over = true
					continue
				default:
				}
				i := min(random.IntN(largeObjects), random.IntN(largeObjects)) // some are asked for more often
				edge, life := c.at(n % 3)
				got := c.ask(edge, i, random)
				if _, now := c.at(n % 3); life != now || life%2 == 1 {
					continue // its node was killed
				}
				all.Add(1)
				switch {
				case got.err != nil && got.began && !got.kept():
					broken.Add(1)
				case got.err != nil && got.began:
					if cut.Add(1) <= 10 {
						t.Logf("object %d of n%d, %s: %v", i, n%3+1, got.how, got.err)
					}
				case got.err != nil:
					failed.Add(1)
				case !got.right:
					wrong.Add(1)
				case got.hit:
					hits.Add(1)
				}
			}
		})
	}
	time.AfterFunc(d, func() { close(end) })
	meanwhile(end)
	running.Wait()
	return soakResult{all.Load(), hits.Load(), cut.Load(), broken.Load(), wrong.Load(), failed.Load()}
}

// answered is the outcome of one request.
type answered struct {
	began, right, hit bool
	how               string
	err               error
}

// kept reports whether the cache had the response or was storing it.
func (a *answered) kept() bool { return a.hit || strings.Contains(a.how, "stored") }

// ask requests an object or a range of it, and sometimes reads slowly.
func (c *largeCluster) ask(edge string, i int, random *rand.Rand) (out answered) {
	body := c.origin.bodies[i]
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(edge, "http://"), 2*time.Second)
	if err != nil {
		return answered{err: err}
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(40 * time.Second))
	head := "GET /" + strconv.Itoa(i) + " HTTP/1.1\r\nHost: large.test\r\n"
	if random.IntN(4) == 0 {
		first := random.IntN(len(body))
		last := first + random.IntN(len(body)-first)
		head += fmt.Sprintf("Range: bytes=%d-%d\r\n", first, last)
		body = body[first : last+1]
	}
	if _, err := io.WriteString(conn, head+"\r\n"); err != nil {
		return answered{err: err}
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return answered{err: err}
	}
	defer resp.Body.Close()
	out.how = resp.Header.Get("Cache-Status")
	out.began, out.hit = true, strings.Contains(out.how, "; hit")
	if resp.StatusCode == http.StatusOK {
		body = c.origin.bodies[i]
	}
	var b strings.Builder
	slow := random.IntN(10) == 0
	for {
		_, err := io.CopyN(&b, resp.Body, 100_000)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			out.err = err
			return out
		}
		if slow {
			<-time.After(20 * time.Millisecond)
		}
	}
	out.right = resp.StatusCode >= 500 || b.String() == body
	return out
}

// purgeNowAndThen purges objects from all caches until end is closed.
func (c *largeCluster) purgeNowAndThen(end <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-end:
			return
		case <-time.After(700 * time.Millisecond):
		}
		body := fmt.Sprintf(`{"url": "http://large.test/%d"}`, i*7%largeObjects)
		resp, err := client.Post(c.nodes[i%3].admin+"/v1/purge", "application/json", strings.NewReader(body))
		if err == nil {
			_ = resp.Body.Close()
		}
	}
}

// killNowAndThen kills one node after another and starts it again, until end is closed.
func (c *largeCluster) killNowAndThen(t *testing.T, end <-chan struct{}) {
	t.Helper()
	for i := 0; ; i = (i + 1) % 3 {
		select {
		case <-end:
			return
		case <-time.After(3 * time.Second):
		}
		c.mu.Lock()
		p := c.nodes[i]
		c.lives[i]++
		c.mu.Unlock()
		p.kill()
		<-time.After(time.Second)
		p = start(t, c.dirs[i], c.texts[i])
		within(t, wait, "the node is back", func() bool { st := p.status(t); return st.Ready })
		c.mu.Lock()
		c.nodes[i] = p
		c.lives[i]++
		c.mu.Unlock()
	}
}
