package embedded_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/embedded"
	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// hubAndLeaf opens two nodes with a link between them that delays each direction. The hub has an upstream, whose
// answers may be cached, and a limit that counts the requests of both nodes.
func hubAndLeaf(t *testing.T, url string, delay time.Duration) (hub, leaf *embedded.Node, link *nodetest.Link,
	opts embedded.Options,
) {
	t.Helper()
	listen := nodetest.FreePorts(t, 1)[0]
	hubOpts, _ := hubOptions(t, listen, url)
	hub = open(t, hubOpts)
	link = nodetest.NewLink(t, listen, delay)
	opts = leafOptions(t, link.Addr())
	return hub, open(t, opts), link, opts
}

const leafRoutes = `
		limits:
		  shared: {max: 100, window: 1h, key: all}
		routes:
		  - {path: /api/*, to: upstream:api, timeout: 5s}
		  - {path: /kept/*, to: upstream:api, cache: 1h}
		  - {path: /limited, to: upstream:api, limit: shared}
		  - {path: /hello, to: service:hello, timeout: 5s}
		  - {host: www.test, path: /*, to: site:www}
		  - {path: /far, to: service:far, timeout: 5s}
		  - {path: /own, to: service:own, timeout: 5s}
		`

func hubOptions(t *testing.T, listen, url string) (embedded.Options, string) {
	t.Helper()
	path := t.TempDir() + "/hub.yaml"
	write(t, path, embeddedtest.YAML(t, `
		version: 1
		node:
		  name: hub
		  data: $DIR/hub
		edge: {listen: 127.0.0.1:0, linger: 0s}
		admin: {listen: 127.0.0.1:0}
		mesh:
		  listen: 127.0.0.1:0
		  leafs: {listen: "$LISTEN", token: token-of-leafs-for-tests, serves: [service:far]}
		upstreams:
		  api:
		    targets: [$URL]
		`, "DIR", t.TempDir(), "LISTEN", listen, "URL", url)+embeddedtest.YAML(t, leafRoutes))
	return load(t, path), path
}

func leafOptions(t *testing.T, hub string) embedded.Options {
	t.Helper()
	path := t.TempDir() + "/leaf.yaml"
	write(t, path, embeddedtest.YAML(t, `
		version: 1
		node:
		  name: leaf
		  data: $DIR/leaf
		edge: {listen: 127.0.0.1:0, linger: 0s}
		admin: {listen: 127.0.0.1:0}
		mesh:
		  listen: 127.0.0.1:0
		  leaf: {url: "$HUB", token: token-of-leafs-for-tests}
		upstreams:
		  api: {remote: true}
		`, "DIR", t.TempDir(), "HUB", hub)+embeddedtest.YAML(t, leafRoutes))
	return load(t, path)
}

// counted is an application that says how often it was asked.
func counted(t *testing.T) (url string, asked *atomic.Int64) {
	t.Helper()
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if r.Method == http.MethodPost {
			got, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%d bytes", got)
			return
		}
		fmt.Fprintf(w, "answer %d to %s", n, r.URL.Path)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func serve(t *testing.T, n *embedded.Node, name, service string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(n.ClientURL(), nats.Name(name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	_, err = nc.QueueSubscribe("http."+service, "q", func(m *nats.Msg) {
		_ = m.Respond([]byte("HTTP/1.1 200 OK\r\n\r\nfrom " + name))
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// A leaf 80 ms away serves what its hub has: upstreams, services, limits and cached responses, whose purges it hears.
func TestLeafServes(t *testing.T) {
	url, asked := counted(t)
	hub, leaf, _, _ := hubAndLeaf(t, url, 40*time.Millisecond)
	nodetest.Eventually(t, "the leaf is ready", func() bool { ok, _ := ready(t, leaf); return ok })
	nodetest.Eventually(t, "both know of each other", func() bool {
		return len(hub.Status().Nodes) == 2 && len(leaf.Status().Nodes) == 2
	})
	for _, other := range hub.Status().Nodes {
		if other.Name == "leaf" && (len(other.Roles) != 1 || other.Roles[0] != "leaf") {
			t.Errorf("the leaf's roles are %q", other.Roles)
		}
	}
	if status, body := get(t, leaf.EdgeURL()+"/api/a"); status != 200 || !strings.HasSuffix(body, "to /api/a") {
		t.Errorf("upstream: %d %s", status, body)
	}
	const large = 3 << 20
	resp, err := http.Post(leaf.EdgeURL()+"/api/up", "text/plain", bytes.NewReader(make([]byte, large)))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(body) != fmt.Sprintf("%d bytes", large) {
		t.Errorf("a large body: %d %s", resp.StatusCode, body)
	}
	serve(t, hub, "near-hub", "hello")
	nodetest.Eventually(t, "the hub's member answers", func() bool {
		_, body := get(t, leaf.EdgeURL()+"/hello")
		return body == "from near-hub"
	})
	serve(t, leaf, "near-leaf", "hello")
	for range 50 {
		if _, body := get(t, leaf.EdgeURL()+"/hello"); body != "from near-leaf" {
			t.Fatalf("%s, and a member is near", body)
		}
	}
	for range 20 {
		if _, body := get(t, hub.EdgeURL()+"/hello"); body != "from near-hub" {
			t.Fatalf("the hub's client got %q", body)
		}
	}
	serve(t, leaf, "far-one", "far")
	serve(t, leaf, "own-one", "own")
	nodetest.Eventually(t, "the hub reaches a service that leafs may serve", func() bool {
		_, body := get(t, hub.EdgeURL()+"/far")
		return body == "from far-one"
	})
	if status, body := get(t, hub.EdgeURL()+"/own"); status != http.StatusServiceUnavailable {
		t.Errorf("another service of the leaf answers the hub: %d %s", status, body)
	}
	if _, body := get(t, leaf.EdgeURL()+"/own"); body != "from own-one" {
		t.Errorf("and the leaf's own client: %s", body)
	}
	nodetest.Eventually(t, "the leaf hears of purges", func() bool { return leaf.Status().Cache.Ready })
	_, first := get(t, leaf.EdgeURL()+"/kept/x")
	before := asked.Load()
	for range 20 {
		if _, body := get(t, leaf.EdgeURL()+"/kept/x"); body != first {
			t.Fatalf("%q, then %q", first, body)
		}
	}
	if asked.Load() != before {
		t.Errorf("the application was asked %d times more", asked.Load()-before)
	}
	begin := time.Now()
	post(t, hub.AdminURL()+"/v1/purge", `{"all": true, "wait": "all"}`)
	if _, body := get(t, leaf.EdgeURL()+"/kept/x"); body == first {
		t.Errorf("after a purge the leaf answers %q", body)
	}
	t.Logf("purged on both after %s", time.Since(begin))
	got := admitted(t, hub.EdgeURL()+"/limited", 60) + admitted(t, leaf.EdgeURL()+"/limited", 60)
	if got > 100 || got < 60 {
		t.Errorf("of 120 requests at both nodes %d passed a limit of 100", got)
	}
	t.Logf("%d of 120 requests passed", got)
}

func post(t *testing.T, url, body string) string {
	t.Helper()
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d %s %v", url, resp.StatusCode, b, err)
	}
	return string(b)
}

// A leaf that is cut off says so, serves what is its own, also after a restart, and joins again within seconds.
func TestLeafCutOff(t *testing.T) {
	url, _ := counted(t)
	hub, leaf, link, opts := hubAndLeaf(t, url, 5*time.Millisecond)
	nodetest.Eventually(t, "the leaf is ready", func() bool { ok, _ := ready(t, leaf); return ok })
	if _, degraded := ready(t, leaf); strings.Contains(degraded, "the hub is away") {
		t.Errorf("while it is connected: %s", degraded)
	}
	serve(t, leaf, "near-leaf", "hello")
	link.Cut()
	link.Break()
	nodetest.Eventually(t, "the leaf says that the hub is away", func() bool {
		_, degraded := ready(t, leaf)
		return strings.Contains(degraded, "the hub is away")
	})
	if ok, degraded := ready(t, leaf); !ok {
		t.Errorf("a leaf that is cut off isn't ready: %s", degraded)
	}
	if _, body := get(t, leaf.EdgeURL()+"/hello"); body != "from near-leaf" {
		t.Errorf("its own member: %q", body)
	}
	begin := time.Now()
	if status, _ := get(t, leaf.EdgeURL()+"/api/a"); status != http.StatusServiceUnavailable && status != 502 {
		t.Errorf("an upstream of the hub: %d", status)
	}
	t.Logf("an upstream of the hub was refused after %s", time.Since(begin))
	if err := leaf.Close(); err != nil {
		t.Fatal(err)
	}
	begin = time.Now()
	again := open(t, opts)
	t.Logf("opened without the hub after %s", time.Since(begin))
	serve(t, again, "near-leaf", "hello")
	if _, body := get(t, again.EdgeURL()+"/hello"); body != "from near-leaf" {
		t.Errorf("after a restart its own member: %q", body)
	}
	link.Heal()
	begin = time.Now()
	nodetest.Eventually(t, "the hub's upstream answers again", func() bool {
		status, _ := get(t, again.EdgeURL()+"/api/a")
		return status == 200
	})
	t.Logf("upstreams of the hub answer %s after the heal", time.Since(begin))
	nodetest.Eventually(t, "the leaf hears of purges again", func() bool { return again.Status().Cache.Ready })
	took := time.Since(begin)
	if took > 8*time.Second {
		t.Errorf("purges are heard %s after the heal", took)
	}
	t.Logf("purges are heard %s after the heal", took)
	nodetest.Eventually(t, "the condition is gone", func() bool {
		_, degraded := ready(t, again)
		return !strings.Contains(degraded, "the hub is away")
	})
	if _, degraded := ready(t, hub); strings.Contains(degraded, "hub is away") {
		t.Errorf("the hub says %s", degraded)
	}
}
