package bench_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gofiber/fiber/v2"

	"millrace/embedded"
	"millrace/mesh"
	"millrace/node"
)

// roles are the other processes of a benchmark. The test binary runs itself with one of these names.
var roles = map[string]func(context.Context, []string) (url string, err error){
	"gateway": gateway, "upstream": upstreamServer, "slow app": slowApp, "echo": echo, "fiber": bareFiber,
}

const roleEnv = "BENCH_ROLE"

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleEnv)]
	if !ok {
		m.Run()
		return
	}
	url, err := role(context.Background(), os.Args[1:])
	if err != nil {
		panic(err)
	}
	if path := os.Getenv("BENCH_CPUPROFILE"); path != "" && strings.HasSuffix(os.Getenv(roleEnv), "gateway") {
		f, err := os.Create(path)
		if err == nil {
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			panic(err)
		}
		defer f.Close()
		defer pprof.StopCPUProfile()
	}
	fmt.Fprintln(os.Stdout, url)
	_, _ = io.Copy(io.Discard, os.Stdin) // runs until the benchmark closes stdin
}

var body = []byte(strings.Repeat("0123456789", 20))

// gateway is a node with a member in its process and a route to the upstream. args are its data directory, the upstream
// and, unless it is the default, mesh.local.
func gateway(ctx context.Context, args []string) (string, error) {
	cfg := node.Default()
	cfg.Node.Data = args[0]
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Mesh.Listen = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	cfg.Edge.Expose = []string{"hello"}
	if len(args) > 2 {
		cfg.Mesh.Local = node.Local(args[2])
	}
	var up node.Upstream
	up.Defaults()
	up.Targets = []node.UpstreamTarget{{URL: node.BaseURL(args[1]), Weight: 1}}
	cfg.Upstreams = map[string]node.Upstream{"api": up}
	var r node.Route
	r.Defaults()
	r.Path = node.Pattern{Segments: []node.Segment{{Literal: "api"}}, Rest: true}
	r.To = node.Target{Kind: node.KindUpstream, Name: "api"}
	cfg.Routes = []node.Route{r}
	n, err := embedded.New(embedded.Options{Config: cfg})
	if err != nil {
		return "", err
	}
	if err := n.Open(ctx); err != nil {
		return "", err
	}
	hello, err := n.Mesh().NewService(mesh.ServiceConfig{
		Destination: n.Mesh().Service("hello"), Limit: 1024,
		Handler: mesh.HandlerFunc(func(context.Context, *mesh.Request) (*mesh.Response, error) {
			return &mesh.Response{
				Status: 200, Header: mesh.Header{{Name: "Content-Type", Value: "text/plain"}},
				Body: body,
			}, nil
		}),
	})
	if err != nil {
		return "", err
	}
	return n.EdgeURL(), hello.Open(ctx)
}

// bareFiber answers from a Fiber handler without doing anything else: the lower bound for everything that uses Fiber.
func bareFiber(ctx context.Context, _ []string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	app.Use(func(c *fiber.Ctx) error { return c.Send(body) })
	go func() { _ = app.Listener(l) }()
	return "http://" + l.Addr().String(), nil
}

func upstreamServer(ctx context.Context, _ []string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write(body)
		}))
	}()
	return "http://" + l.Addr().String(), nil
}

// child is another process of the benchmark.
type child struct {
	pid int
	url string
}

func spawn(tb testing.TB, role string, args ...string) child {
	tb.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stdin.Close(); _ = cmd.Wait() })
	url, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		tb.Fatalf("%s didn't start: %v", role, err)
	}
	return child{cmd.Process.Pid, strings.TrimSpace(url)}
}

// cpu returns the processor time that the process has used, user and system.
func (c child) cpu(tb testing.TB) time.Duration {
	tb.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.pid))
	if err != nil {
		tb.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		tb.Fatalf("/proc/%d/stat holds %q", c.pid, stat)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100 on Linux
}

// resident returns the resident memory of the process in MiB.
func (c child) resident(tb testing.TB) float64 {
	tb.Helper()
	return c.memory(tb, "VmRSS:")
}

// memory returns a size from the process's status file in MiB.
func (c child) memory(tb testing.TB, field string) float64 {
	tb.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.pid))
	if err != nil {
		tb.Fatal(err)
	}
	_, after, _ := strings.Cut(string(status), field)
	kib, err := strconv.ParseFloat(strings.Fields(after)[0], 64)
	if err != nil {
		tb.Fatal(err)
	}
	return kib / 1024
}

// connections is the number of keep-alive connections that load the gateway.
const connections = 64

// requestHeader is about what browsers send: ten fields.
const requestHeader = "Host: shop.example\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 " +
	"Firefox/140.0\r\nAccept: text/html,application/xhtml+xml\r\n" +
	"Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n" +
	"Cookie: session=0123456789abcdef0123456789abcdef\r\nDNT: 1\r\n" +
	"Sec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\nReferer: https://shop.example/start\r\n\r\n"

// load sends n requests over all connections and checks every status and length.
func load(tb testing.TB, url, path string, n, status int) {
	tb.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range connections {
		wg.Go(func() {
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				tb.Error(err)
				return
			}
			defer c.Close()
			in := bufio.NewReaderSize(c, 8192)
			request := []byte("GET " + path + " HTTP/1.1\r\n" + requestHeader)
			for next.Add(1) <= int64(n) {
				if _, err := c.Write(request); err != nil {
					tb.Error(err)
					return
				}
				if got, err := readResponse(in); err != nil || got != status {
					tb.Errorf("status %d, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// readResponse reads one response with a Content-Length, with little CPU time: the load runs on the same machine.
func readResponse(in *bufio.Reader) (status int, err error) {
	length := -1
	for line := 0; ; line++ {
		b, err := in.ReadSlice('\n')
		switch {
		case err != nil:
			return 0, err
		case line == 0:
			status, err = strconv.Atoi(string(b[9:12]))
			if err != nil {
				return 0, err
			}
		case len(b) == 2:
			_, err = in.Discard(length)
			return status, err
		case bytes.HasPrefix(b, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(b[16 : len(b)-2])); err != nil {
				return 0, err
			}
		}
	}
}

// BenchmarkCost measures the gateway's CPU time per request: of a bare Fiber handler for comparison, of the edge alone
// (no route, 404), with a member in its process over NATS, and with an HTTP upstream over NATS.
func BenchmarkCost(b *testing.B) {
	upstream := spawn(b, "upstream")
	gate := spawn(b, "gateway", b.TempDir(), upstream.url)
	floor := spawn(b, "fiber")
	for _, c := range []struct {
		name, path string
		status     int
		child      child
	}{
		{"fiber", "/", 200, floor},
		{"edge", "/none", 404, gate},
		{"edge+mesh+member", "/hello", 200, gate},
		{"edge+mesh+upstream", "/api/x", 200, gate},
	} {
		b.Run(c.name, func(b *testing.B) {
			load(b, c.child.url, c.path, min(b.N, 2000), c.status) // warm up
			before := c.child.cpu(b)
			b.ResetTimer()
			load(b, c.child.url, c.path, b.N, c.status)
			b.StopTimer()
			b.ReportMetric(float64((c.child.cpu(b)-before).Microseconds())/float64(b.N), "cpu-us/req")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "req/s")
		})
	}
}

// BenchmarkIdle measures a node without traffic: its share of a core over five seconds, and its memory.
func BenchmarkIdle(b *testing.B) {
	upstream := spawn(b, "upstream")
	gate := spawn(b, "gateway", b.TempDir(), upstream.url)
	const span = 5 * time.Second
	for range b.N {
		<-time.After(time.Second) // let the start settle
		before := gate.cpu(b)
		<-time.After(span)
		b.ReportMetric(float64(gate.cpu(b)-before)/float64(span)*100, "%cpu")
		b.ReportMetric(gate.resident(b), "MiB-resident")
	}
}
