//go:build system

package chaos_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"millrace/embedded/embeddedtest"
)

// testNetwork is a bridge with machines, each a network namespace. The test itself has its address .254.
type testNetwork struct {
	net        string // the first three parts of its addresses, with the dot
	bridge     string
	namespaces []string // names of namespaces
}

func shell(t *testing.T, line string, args ...any) {
	t.Helper()
	words := strings.Fields(fmt.Sprintf(line, args...))
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(words, " "), err, out)
	}
}

// newNetwork creates machines that reach each other and the test. All is removed when the trial ends.
func newNetwork(t *testing.T, machines int) *testNetwork {
	t.Helper()
	id := os.Getpid() % 10_000
	v := &testNetwork{net: fmt.Sprintf("10.%d.%d.", 100+id%100, id/100%250), bridge: fmt.Sprintf("mrb%d", id)}
	shell(t, "ip link add %s type bridge", v.bridge)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", v.bridge).Run() })
	shell(t, "ip addr add %s254/24 dev %s", v.net, v.bridge)
	shell(t, "ip link set %s up", v.bridge)
	for i := range machines {
		home, cable := fmt.Sprintf("mrn%d-%d", id, i+1), fmt.Sprintf("mrv%d-%d", id, i+1)
		v.namespaces = append(v.namespaces, home)
		shell(t, "ip netns add %s", home)
		t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", home).Run() })
		shell(t, "ip link add %s type veth peer name eth0 netns %s", cable, home)
		shell(t, "ip link set %s master %s up", cable, v.bridge)
		shell(t, "ip -n %s addr add %s/24 dev eth0", home, v.address(i))
		shell(t, "ip -n %s link set eth0 up", home)
		shell(t, "ip -n %s link set lo up", home)
	}
	return v
}

func (v *testNetwork) address(i int) string { return fmt.Sprintf("%s%d", v.net, i+1) }

// cut detaches a machine from the bridge, or attaches it again.
func (v *testNetwork) cut(t *testing.T, i int, off bool) {
	t.Helper()
	cable := strings.Replace(v.namespaces[i], "mrn", "mrv", 1)
	if off {
		shell(t, "ip link set %s nomaster", cable)
	} else {
		shell(t, "ip link set %s master %s", cable, v.bridge)
	}
}

// client returns a client that dials from within a machine, so that it reaches its loopback.
func (v *testNetwork) client(i int, timeout time.Duration) *http.Client {
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		runtime.LockOSThread() // stays locked if the thread can't return: it then ends with the goroutine
		back, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return nil, err
		}
		defer back.Close()
		home, err := os.Open(filepath.Join("/run/netns", v.namespaces[i]))
		if err != nil {
			return nil, err
		}
		defer home.Close()
		if err := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); err != nil {
			return nil, err
		}
		conn, err := (&net.Dialer{Timeout: 2 * time.Second, FallbackDelay: -1}).DialContext(ctx, network, addr)
		if unix.Setns(int(back.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		return conn, err
	}
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: dial, MaxIdleConnsPerHost: 64}}
}

// nodeYAML is the configuration of one node, whose upstream is the test.
func (v *testNetwork) nodeYAML(t *testing.T, i int, dir, upstream string) string {
	t.Helper()
	return embeddedtest.YAML(t, `
		version: 1
		node:
		  name: n$N
		  data: $DIR/data
		edge:
		  listen: 127.0.0.1:8080
		  linger: 0s
		  stream_idle: 1h
		admin:
		  listen: 127.0.0.1:8081
		mesh:
		  listen: 127.0.0.1:4222
		  token: token-for-this-trial-only
		  cluster:
		    name: vanish
		    listen: $SELF:6222
		    token: another-token-for-this-trial
		    peers: [$ONE:6222, $TWO:6222, $THREE:6222]
		upstreams:
		  api:
		    targets: ["http://$UPSTREAM"]
		routes:
		  - path: /api/*
		    to: upstream:api
		    timeout: 60s
		  - path: /cached/*
		    to: upstream:api
		    timeout: 60s
		    cache: 1h
		`, "N", strconv.Itoa(i+1), "DIR", dir, "SELF", v.address(i), "ONE", v.address(0), "TWO", v.address(1),
		"THREE", v.address(2), "UPSTREAM", upstream)
}

// startUpstream answers after 20 ms. At /api/stream it sends a line every 20 ms, without end.
func startUpstream(t *testing.T, v *testNetwork) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", v.net+"254:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		for {
			select {
			case <-every.C:
			case <-r.Context().Done():
				return
			}
			if _, err := w.Write([]byte("answer\n")); err != nil || r.URL.Path != "/api/stream" {
				return
			}
			w.(http.Flusher).Flush()
		}
	})}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return l.Addr().String()
}

// request is one request of a trial.
type request struct {
	method string
	path   string
	begun  time.Time
	took   time.Duration
	status int // 0 without a response
}

// sendRequests sends a request every 10 ms, whether earlier ones are answered or not, until stop, which returns all of
// them.
func sendRequests(client *http.Client) (stop func() []request) {
	ended := make(chan struct{})
	var mu sync.Mutex
	var all []request
	var knocking sync.WaitGroup
	send := func(p request) {
		req, _ := http.NewRequest(p.method, "http://127.0.0.1:8080"+p.path, nil)
		if resp, err := client.Do(req); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			p.status = resp.StatusCode
		}
		p.took = time.Since(p.begun)
		mu.Lock()
		defer mu.Unlock()
		all = append(all, p)
	}
	knocking.Go(func() {
		every := time.NewTicker(10 * time.Millisecond)
		defer every.Stop()
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			case <-every.C:
				p := request{method: []string{"GET", "POST"}[i%2], path: "/api/x", begun: time.Now()}
				if i%4 == 0 {
					p.path = fmt.Sprint("/cached/", i) // for each key one node fetches
				}
				knocking.Go(func() { send(p) })
			}
		}
	})
	return func() []request {
		close(ended)
		knocking.Wait()
		return all
	}
}

// readStream reads an endless stream. last returns when data arrived last; over returns when the stream ended, the zero
// time until then.
func readStream(t *testing.T, client *http.Client) (last, over func() time.Time) {
	t.Helper()
	var mu sync.Mutex
	var heard, ended time.Time
	resp, err := client.Get("http://127.0.0.1:8080/api/stream")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	go func() {
		b := make([]byte, 1024)
		for {
			_, err := resp.Body.Read(b)
			mu.Lock()
			if err != nil {
				ended = time.Now()
				mu.Unlock()
				return
			}
			heard = time.Now()
			mu.Unlock()
		}
	}()
	get := func(at *time.Time) func() time.Time {
		return func() time.Time {
			mu.Lock()
			defer mu.Unlock()
			return *at
		}
	}
	return get(&heard), get(&ended)
}

// vanish detaches the third machine while the first is under load: its packets are dropped without notice. It measures
// how long requests and streams were sent there in vain.
func vanish(t *testing.T, long bool) string {
	t.Helper()
	v := newNetwork(t, 3)
	upstream := startUpstream(t, v)
	var nodes []*nodeProcess
	for i := range 3 {
		dir := t.TempDir()
		nodes = append(nodes, start(t, dir, v.nodeYAML(t, i, dir, upstream), "ip", "netns", "exec", v.namespaces[i]))
	}
	api, admin := v.client(0, 2*time.Minute), v.client(0, 5*time.Second)
	alive := func(n int) func() bool {
		return func() bool {
			code, body := fetch(admin, "http://127.0.0.1:8081/v1/status")
			return code == 200 && strings.Count(body, `"state":"alive"`)+strings.Count(body, `"state": "alive"`) == n
		}
	}
	within(t, wait, "three nodes are alive", alive(3))
	var streams [][2]func() time.Time
	for range 12 {
		last, over := readStream(t, api)
		streams = append(streams, [2]func() time.Time{last, over})
	}
	stop := sendRequests(api)
	pause(t, 3*time.Second)
	written := len(nodes[0].output.String())
	cut := time.Now()
	v.cut(t, 2, true)
	noticed := within(t, wait, "the third is lost", alive(2))
	ended := within(t, 30*time.Second, "every stream goes on or has ended", func() bool {
		for _, s := range streams {
			if s[1]().IsZero() && time.Since(s[0]()) > time.Second {
				return false
			}
		}
		return time.Since(cut) > 2*time.Second
	})
	rest := 20 * time.Second
	if long {
		rest = time.Minute
	}
	pause(t, rest-time.Since(cut))
	all := stop()
	warnings := strings.Count(nodes[0].output.String()[written:], `"level":"WARN"`)
	v.cut(t, 2, false)
	within(t, wait, "the third is back", alive(3))

	var swallowed time.Duration // how long after the cut requests were sent in vain
	slowest, failed := time.Duration(0), map[string]int{}
	for _, p := range all {
		if p.took > time.Second {
			swallowed = max(swallowed, p.begun.Sub(cut))
		}
		slowest = max(slowest, p.took)
		if p.status != 200 {
			failed[fmt.Sprint(p.method, " ", p.path[:4], " ", p.status)]++
		}
	}
	if swallowed > 5*time.Second {
		t.Errorf("requests were swallowed until %s after the machine had vanished", swallowed)
	}
	if slowest > 12*time.Second {
		t.Errorf("a request took %s", slowest)
	}
	for what := range failed {
		if strings.HasPrefix(what, "GET") {
			t.Errorf("%s: %d times, although GET may be sent to another", what, failed[what])
		}
	}
	if limit := 20; warnings > limit {
		t.Errorf("the first node wrote %d warnings in %s:\n%s", warnings, rest, nodes[0].output.String()[written:])
	}
	return fmt.Sprintf("noticed after %.1f s, requests swallowed until %.1f s, slowest %.1f s, streams ended by %.1f "+
		"s, of %d requests failed: %v, %d warnings in %s", noticed.Seconds(), swallowed.Seconds(), slowest.Seconds(),
		(noticed + ended).Seconds(), len(all), failed, warnings, rest)
}

// pause lets a trial run on for a time: what it measures needs that.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}
