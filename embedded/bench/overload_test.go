package bench_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
)

// slowApp is an application with one worker that takes 2 ms per request. It serves about 450 requests a second; further
// ones wait in it.
func slowApp(ctx context.Context, _ []string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	var worker sync.Mutex
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			worker.Lock()
			<-time.After(2 * time.Millisecond)
			worker.Unlock()
			_, _ = w.Write(body)
		}))
	}()
	return "http://" + l.Addr().String(), nil
}

// echo is an application that answers with the request's body.
func echo(ctx context.Context, _ []string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", r.Header.Get("Content-Length")) // rawClient doesn't read chunks
			_, _ = io.Copy(w, r.Body)
		}))
	}()
	return "http://" + l.Addr().String(), nil
}

// memoryAllowed is the memory limit of the node in the overload benchmark.
const memoryAllowed = 512 << 20

// binary is the path of the millrace command, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-bench-*")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "millrace")
	out, err := exec.Command("go", "build", "-o", path, "millrace/embedded/millrace").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// limitedNode is the millrace command in a process and, where the user may create one, in a cgroup of its own.
type limitedNode struct {
	child
	admin string
	group string // directory of its memory cgroup; empty if it has none
}

// startNode starts a node with env added to its environment. config is what its configuration has after edge, whose
// shutdown doesn't linger.
func startNode(tb testing.TB, env []string, config string) limitedNode {
	tb.Helper()
	path, err := binary()
	if err != nil {
		tb.Fatal(err)
	}
	dir := tb.TempDir()
	file := filepath.Join(dir, "millrace.yaml")
	text := embeddedtest.YAML(tb, `
		version: 1
		node:
		  data: $DIR/data
		admin:
		  listen: 127.0.0.1:0
		mesh:
		  listen: 127.0.0.1:0
		edge:
		  listen: 127.0.0.1:0
		  linger: 0s
		`, "DIR", dir) + config
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	n := limitedNode{group: memoryGroup(tb)}
	enter := ""
	if n.group != "" {
		enter = "echo $$ > " + n.group + "/cgroup.procs && "
	}
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), "sh", "-c",
		enter+`exec "$0" run -c "$1" --log-level error`, path, file)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			tb.Errorf("the node ended with %v", err)
		}
		if n.group != "" {
			_ = os.Remove(n.group)
		}
	})
	n.pid = cmd.Process.Pid
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if m := regexp.MustCompile(`(edge|admin) +(http://[0-9.:]+)`).FindStringSubmatch(lines.Text()); m != nil &&
			m[1] == "edge" {
			n.url = m[2]
		} else if m != nil {
			n.admin = m[2]
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return n
		}
	}
	tb.Fatal("the node printed no banner")
	return n
}

// memoryGroup creates a cgroup with memoryAllowed, version 1 or 2. It returns "" where the user may not.
func memoryGroup(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("millrace-bench-%d-%d", os.Getpid(), time.Now().UnixNano())
	for parent, limit := range map[string]string{
		"/sys/fs/cgroup/memory": "memory.limit_in_bytes",
		"/sys/fs/cgroup":        "memory.max",
	} {
		dir := filepath.Join(parent, name)
		if os.Mkdir(dir, 0o700) != nil {
			continue
		}
		if os.WriteFile(filepath.Join(dir, limit), []byte(strconv.Itoa(memoryAllowed)), 0o600) == nil {
			return dir
		}
		_ = os.Remove(dir)
	}
	tb.Log("no cgroup can be made here: the node's memory is measured, not limited")
	return ""
}

// clientLoad is a number of clients that each send one request at a time.
type clientLoad struct {
	clients int
	body    int           // bytes of the request's body
	every   time.Duration // from one request of a client to its next; 0 means without a pause
}

// outcome is the result of a clientLoad over a span of time.
type outcome struct {
	span     time.Duration
	good     int
	refused  int // 503 with Retry-After
	other    int
	p50, p99 time.Duration // of the good ones
}

func (o outcome) rate() float64 { return float64(o.good) / o.span.Seconds() }

func (o outcome) String() string {
	return fmt.Sprintf("%.0f good a second (p50 %s, p99 %s), %.0f refused a second, %d others", o.rate(),
		o.p50.Round(100*time.Microsecond), o.p99.Round(100*time.Microsecond),
		float64(o.refused)/o.span.Seconds(), o.other)
}

func (c clientLoad) request(path string) []byte {
	if c.body == 0 {
		return []byte("GET " + path + " HTTP/1.1\r\n" + requestHeader)
	}
	head := fmt.Sprintf("POST %s HTTP/1.1\r\nContent-Length: %d\r\n", path, c.body) + requestHeader
	return append([]byte(head), make([]byte, c.body)...)
}

// run sends the load for a span of time.
func (c clientLoad) run(tb testing.TB, url, path string, span time.Duration) outcome {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), span)
	defer cancel()
	var mu sync.Mutex
	var took []time.Duration
	out := outcome{span: span}
	var wait sync.WaitGroup
	for i := range c.clients {
		wait.Go(func() {
			var mine []time.Duration
			var refused, other int
			defer func() {
				mu.Lock()
				defer mu.Unlock()
				took = append(took, mine...)
				out.refused += refused
				out.other += other
			}()
			client := &rawClient{addr: strings.TrimPrefix(url, "http://"), request: c.request(path)}
			defer client.close()
			next := time.Now().Add(c.every * time.Duration(i) / time.Duration(c.clients))
			for {
				if c.every > 0 {
					if !sleepUntil(ctx, next) {
						return
					}
					next = next.Add(c.every)
				}
				if ctx.Err() != nil {
					return
				}
				begin := time.Now()
				switch status, retry, err := client.do(); {
				case err == nil && status == http.StatusOK:
					mine = append(mine, time.Since(begin))
				case err == nil && status == http.StatusServiceUnavailable && retry:
					refused++
				default:
					other++
				}
			}
		})
	}
	wait.Wait()
	slices.Sort(took)
	if out.good = len(took); out.good > 0 {
		out.p50, out.p99 = took[out.good/2], took[out.good*99/100]
	}
	return out
}

func sleepUntil(ctx context.Context, t time.Time) bool {
	timer := time.NewTimer(time.Until(t))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// rawClient keeps one connection, and makes another when that ends.
type rawClient struct {
	addr    string
	request []byte
	conn    net.Conn
	in      *bufio.Reader
}

func (c *rawClient) do() (status int, retry bool, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.addr, 5*time.Second); err != nil {
			return 0, false, err
		}
		c.in = bufio.NewReaderSize(c.conn, 4096)
	}
	_ = c.conn.SetDeadline(time.Now().Add(60 * time.Second))
	_, err = c.conn.Write(c.request)
	closes := false
	if err == nil {
		status, retry, closes, err = readRefusal(c.in)
	}
	if err != nil || closes {
		c.close()
	}
	return status, retry, err
}

func (c *rawClient) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// readRefusal reads a response and reports whether it has Retry-After and closes the connection.
func readRefusal(in *bufio.Reader) (status int, retry, closes bool, err error) {
	length := 0
	for line := 0; ; line++ {
		b, err := in.ReadSlice('\n')
		if err != nil {
			return 0, false, false, err
		}
		text := string(b)
		name, value, _ := strings.Cut(strings.TrimSpace(text), ": ")
		switch {
		case line == 0 && len(text) > 12:
			status, _ = strconv.Atoi(text[9:12])
		case text == "\r\n":
			_, err = in.Discard(length)
			return status, retry, closes, err
		case strings.EqualFold(name, "Content-Length"):
			length, _ = strconv.Atoi(value)
		case strings.EqualFold(name, "Retry-After"):
			retry = true
		case strings.EqualFold(name, "Connection") && value == "close":
			closes = true
		}
	}
}

// seconds is how long each phase of the overload benchmark takes: OVERLOAD_SECONDS, or 1.
func seconds() time.Duration {
	n, err := strconv.Atoi(os.Getenv("OVERLOAD_SECONDS"))
	if err != nil {
		n = 1
	}
	return time.Duration(n) * time.Second
}

// BenchmarkOverload finds the best load of a node, sends ten times as much, and returns to the best load. It compares
// goodput and the 99th percentile of accepted requests with those at the best load. It also reports the peak of the
// node's memory, how often its health endpoint failed, and how long it took to recover.
//
// In app the application is the bottleneck, with one worker. In cpu it is the node, with one processor. In bodies every
// request and response is as large as one message carries.
func BenchmarkOverload(b *testing.B) {
	b.Run("app", func(b *testing.B) {
		app := spawn(b, "slow app")
		n := startNode(b, nil, embeddedtest.YAML(b, `
			upstreams:
			  api:
			    targets: [$APP]
			    max_requests: 8
			routes:
			  - path: /api/*
			    to: upstream:api
			`, "APP", app.url))
		best := clientLoad{clients: 8}
		rate := best.run(b, n.url, "/api/x", time.Second).rate()
		clients := 500
		overload(b, n, best, clientLoad{
			clients: clients,
			every:   time.Duration(float64(clients) / (10 * rate) * float64(time.Second)),
		})
	})
	b.Run("cpu", func(b *testing.B) {
		app := spawn(b, "upstream")
		n := startNode(b, []string{"GOMAXPROCS=1"}, forwardAPI(b, app.url))
		best, most := clientLoad{}, 0.0
		for _, clients := range []int{8, 16, 32, 64} {
			c := clientLoad{clients: clients}
			if rate := c.run(b, n.url, "/api/x", time.Second).rate(); rate > 1.05*most {
				best, most = c, rate
			}
		}
		overload(b, n, best, clientLoad{clients: 10 * best.clients})
	})
	b.Run("bodies", func(b *testing.B) {
		app := spawn(b, "echo")
		n := startNode(b, nil, forwardAPI(b, app.url))
		overload(b, n, clientLoad{clients: 50, body: 500 << 10}, clientLoad{clients: 500, body: 500 << 10})
	})
}

// forwardAPI is the rest of a configuration that forwards /api/* to the upstream.
func forwardAPI(b *testing.B, url string) string {
	b.Helper()
	return embeddedtest.YAML(b, `
		upstreams:
		  api:
		    targets: [$APP]
		routes:
		  - path: /api/*
		    to: upstream:api
		`, "APP", url)
}

func overload(b *testing.B, n limitedNode, best, crowded clientLoad) {
	b.Helper()
	const path = "/api/x"
	for range b.N {
		calm := best.run(b, n.url, path, seconds())
		failed, slowest := watchHealth(b, n.admin)
		used := n.cpu(b)
		loaded := crowded.run(b, n.url, path, seconds())
		used = n.cpu(b) - used
		unhealthy, worst := failed(), slowest()
		back := time.Duration(0)
		for back < 30*time.Second {
			const window = 500 * time.Millisecond
			back += window
			if after := best.run(b, n.url, path, window); after.rate() > 0.9*calm.rate() && after.refused == 0 {
				break
			}
		}
		b.Logf("best load, %d clients: %s", best.clients, calm)
		b.Logf("ten times, %d clients: %s", crowded.clients, loaded)
		b.ReportMetric(loaded.rate()/calm.rate(), "goodput/best")
		b.ReportMetric(float64(loaded.p99)/float64(calm.p99), "p99/best")
		b.ReportMetric(n.peak(b), "MiB-peak")
		b.ReportMetric(used.Seconds()/loaded.span.Seconds(), "cores-used")
		b.ReportMetric(float64(unhealthy), "health-failures")
		b.ReportMetric(float64(worst.Milliseconds()), "health-ms")
		b.ReportMetric(back.Seconds(), "s-to-normal")
		if loaded.other > 0 {
			b.Errorf("%d answers were neither good nor a refusal with Retry-After", loaded.other)
		}
	}
}

// watchHealth requests the health endpoint ten times a second until failed is called.
func watchHealth(tb testing.TB, admin string) (failed func() int, slowest func() time.Duration) {
	tb.Helper()
	var bad atomic.Int64
	var worst atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	client := &http.Client{Timeout: 5 * time.Second}
	go func() {
		defer close(done)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			begin := time.Now()
			resp, err := client.Get(admin + "/healthz")
			if err == nil && resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
			if err != nil {
				bad.Add(1)
				continue
			}
			_ = resp.Body.Close()
			worst.Store(max(worst.Load(), int64(time.Since(begin))))
		}
	}()
	return func() int {
		close(stop)
		<-done
		client.CloseIdleConnections()
		return int(bad.Load())
	}, func() time.Duration { return time.Duration(worst.Load()) }
}

// peak returns the most memory that the node has used, in MiB: of its cgroup if it has one, else resident.
func (n limitedNode) peak(tb testing.TB) float64 {
	tb.Helper()
	for _, name := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		if text, err := os.ReadFile(filepath.Join(n.group, name)); n.group != "" && err == nil {
			if bytes, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64); err == nil {
				return bytes / (1 << 20)
			}
		}
	}
	return n.resident(tb)
}
