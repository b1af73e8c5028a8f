package bench_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func init() { roles["store"] = store }

// download is the size of the body that measures throughput.
const download = 16 << 20

// store is an upstream. GET /N sends N bytes of noise, and GET /fast the bytes of a download from memory. It answers a
// body with its hash.
func store(ctx context.Context, _ []string) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	fast := make([]byte, download)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(fast)
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			path := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
			switch n, err := strconv.ParseInt(path, 10, 64); {
			case r.Method == http.MethodPut:
				h := sha256.New()
				_, _ = io.Copy(h, r.Body)
				_, _ = io.WriteString(w, hex.EncodeToString(h.Sum(nil)))
			case err == nil:
				w.Header().Set("Content-Length", path)
				_, _ = io.Copy(w, noise(n))
			default:
				w.Header().Set("Content-Length", strconv.Itoa(len(fast)))
				_, _ = w.Write(fast)
			}
		}))
	}()
	return "http://" + l.Addr().String(), nil
}

func noise(n int64) io.Reader { return io.LimitReader(rand.NewChaCha8([32]byte{2}), n) }

// peak returns the most memory that the process has used, in MiB.
func (c child) peak(tb testing.TB) float64 {
	tb.Helper()
	return c.memory(tb, "VmHWM:")
}

// streamSize and streamCount are how much TestStreams transfers: little in CI, and what STREAM_MIB and STREAM_COUNT say
// for "task streams".
func streamSize(name string, otherwise int64) int64 {
	if n, err := strconv.ParseInt(os.Getenv(name), 10, 64); err == nil {
		return n
	}
	return otherwise
}

// Long bodies are transferred unchanged in both directions, one and many at the same time. Meanwhile the node's memory
// grows little, and small requests are served.
func TestStreams(t *testing.T) {
	size, count := streamSize("STREAM_MIB", 64)<<20, int(streamSize("STREAM_COUNT", 50))
	upstream := spawn(t, "store")
	gate := spawn(t, "gateway", t.TempDir(), upstream.url)
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for range 200 {
		fetch(t, client, gate.url+"/hello") // fills pools and opens connections
	}
	before := gate.resident(t)
	h := sha256.New()
	_, _ = io.Copy(h, noise(size))
	want := hex.EncodeToString(h.Sum(nil))
	begun := time.Now()
	if got := fetch(t, client, fmt.Sprintf("%s/api/%d", gate.url, size)); got != want {
		t.Errorf("down: hash %s, want %s", got, want)
	}
	down := time.Since(begun)
	begun = time.Now()
	if got := put(t, client, gate.url+"/api/up", noise(size), size); got != want {
		t.Errorf("up: hash %s, want %s", got, want)
	}
	up := time.Since(begun)
	grown := gate.peak(t) - before
	t.Logf("%d MiB down in %s, up in %s; memory grew from %.0f by %.0f MiB", size>>20, down, up, before, grown)
	if grown > 96 {
		t.Errorf("the node's memory grew by %.0f MiB", grown)
	}
	manyStreams(t, gate, client, count)
}

// manyStreams transfers many bodies at the same time, half of them as uploads.
func manyStreams(t *testing.T, gate child, client *http.Client, count int) {
	t.Helper()
	each := streamSize("STREAM_EACH_MIB", 4) << 20
	h := sha256.New()
	_, _ = io.Copy(h, noise(each))
	want := hex.EncodeToString(h.Sum(nil))
	begun := time.Now()
	var streams, others sync.WaitGroup
	for i := range count {
		streams.Go(func() {
			var got string
			if i%2 == 0 {
				got = fetch(t, client, fmt.Sprintf("%s/api/%d", gate.url, each))
			} else {
				got = put(t, client, gate.url+"/api/up", noise(each), -1)
			}
			if got != want {
				t.Errorf("stream %d: hash %s, want %s", i, got, want)
			}
		})
	}
	stop, served := make(chan struct{}), 0
	others.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				fetch(t, client, gate.url+"/hello")
				served++
			}
		}
	})
	streams.Wait()
	close(stop)
	others.Wait()
	t.Logf("%d streams of %d MiB at once: %s, peak memory %.0f MiB; %d small requests meanwhile", count, each>>20,
		time.Since(begun), gate.peak(t), served)
	if peak := gate.peak(t); peak > 256*memoryFactor {
		t.Errorf("the node held %.0f MiB", peak)
	}
	if served == 0 {
		t.Error("no small request was served meanwhile")
	}
}

// fetch returns the hash of a response.
func fetch(tb testing.TB, client *http.Client, url string) string {
	tb.Helper()
	resp, err := client.Get(url)
	if err != nil {
		tb.Error(err)
		return ""
	}
	defer resp.Body.Close()
	h := sha256.New()
	if _, err := io.Copy(h, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		tb.Errorf("%s: status %d, %v", url, resp.StatusCode, err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// put sends a body and returns the response.
func put(tb testing.TB, client *http.Client, url string, body io.Reader, length int64) string {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPut, url, body)
	if err != nil {
		tb.Error(err)
		return ""
	}
	req.ContentLength = length
	resp, err := client.Do(req)
	if err != nil {
		tb.Error(err)
		return ""
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		tb.Errorf("PUT: status %d, %v", resp.StatusCode, err)
	}
	return string(got)
}

// BenchmarkStream measures the throughput of proxied bodies, four at the same time, through Millrace and, where it is
// installed, nginx, in turns.
func BenchmarkStream(b *testing.B) {
	upstream := spawn(b, "store")
	gate := spawn(b, "gateway", b.TempDir(), upstream.url)
	wire := spawn(b, "gateway", b.TempDir(), upstream.url, "nats")
	urls := map[string]string{
		"millrace": gate.url + "/api/fast", "millrace-over-nats": wire.url + "/api/fast",
		"direct": upstream.url + "/fast",
	}
	if url, err := nginx(b, upstream.url); err == nil {
		urls["nginx"] = url + "/fast"
	} else {
		b.Logf("not compared with nginx: %v", err)
	}
	const rounds = 7
	rates := map[string][]float64{}
	for range b.N {
		for range rounds {
			for name, url := range urls {
				rates[name] = append(rates[name], rate(b, url))
			}
		}
	}
	for name, all := range rates {
		slices.Sort(all)
		b.ReportMetric(all[len(all)/2], name+"-MB/s")
	}
	if all := rates["nginx"]; len(all) > 0 {
		b.ReportMetric(rates["millrace"][len(all)/2]/all[len(all)/2], "of-nginx")
		b.ReportMetric(rates["millrace-over-nats"][len(all)/2]/all[len(all)/2], "over-nats-of-nginx")
	}
}

// rate downloads over four connections and returns megabytes per second.
func rate(tb testing.TB, url string) float64 {
	tb.Helper()
	const each = 4
	addr, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	begun := time.Now()
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				tb.Error(err)
				return
			}
			defer c.Close()
			in := bufio.NewReaderSize(c, 256<<10)
			for range each {
				_, _ = fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: h\r\n\r\n", path)
				if status, err := readResponse(in); err != nil || status != http.StatusOK {
					tb.Errorf("status %d, %v", status, err)
					return
				}
			}
		})
	}
	clients.Wait()
	return 4 * each * download / 1e6 / time.Since(begun).Seconds()
}

// nginx starts a plain proxy.
func nginx(tb testing.TB, upstream string) (string, error) {
	tb.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		return "", err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir := tb.TempDir()
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(`daemon off; pid %[1]s/pid; error_log %[1]s/error.log; worker_processes auto; user root;
events { worker_connections 1024; }
http {
  access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f;
  uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
  upstream app { server %[2]s; keepalive 16; }
  server { listen %[3]s; location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}
`, dir, strings.TrimPrefix(upstream, "http://"), addr)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return "", err
	}
	cmd := exec.CommandContext(context.WithoutCancel(tb.Context()), path, "-c", config, "-p", dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return "", err
	}
	tb.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	for begun := time.Now(); time.Since(begun) < 5*time.Second; <-time.After(20 * time.Millisecond) {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return "http://" + addr, nil
		}
	}
	return "", errors.New("nginx doesn't answer")
}

// BenchmarkSlowClients measures how 200 clients that read and 200 that write a kilobyte a second affect others: the
// 99th percentile of small requests with and without them, in turns.
func BenchmarkSlowClients(b *testing.B) {
	upstream := spawn(b, "store")
	gate := spawn(b, "gateway", b.TempDir(), upstream.url)
	const rounds = 7
	var with, without []time.Duration
	small := func() time.Duration { return percentile(b, gate.url+"/hello", 4, time.Second) }
	small()
	for range b.N {
		for range rounds {
			without = append(without, small())
			ctx, cancel := context.WithCancel(b.Context())
			done := slowClients(ctx, b, gate.url, 200)
			with = append(with, small())
			cancel()
			done()
		}
	}
	slices.Sort(with)
	slices.Sort(without)
	b.ReportMetric(float64(without[len(without)/2].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(with[len(with)/2].Microseconds())/1000, "p99-ms-with-slow")
	b.ReportMetric(float64(with[len(with)/2])/float64(without[len(without)/2]), "ratio")
	b.ReportMetric(gate.peak(b), "MiB-peak")
}

// slowClients starts n clients that read and n that write a kilobyte a second. It returns when all have begun.
func slowClients(ctx context.Context, tb testing.TB, url string, n int) (wait func()) {
	tb.Helper()
	var begun, all sync.WaitGroup
	slow := func(request string, step func(net.Conn) error) {
		defer all.Done()
		c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			tb.Error(err)
			begun.Done()
			return
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		_, _ = io.WriteString(c, request)
		_ = step(c)
		begun.Done()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				if step(c) != nil {
					tb.Error("a slow client was ended before its time")
					return
				}
			}
		}
	}
	for i := range n {
		if i%10 == 0 { // starting all of them at the same moment would be another test
			begun.Wait()
		}
		begun.Add(2)
		all.Add(2)
		go slow("GET /api/fast HTTP/1.1\r\nHost: h\r\n\r\n", func(c net.Conn) error {
			_, err := io.CopyN(io.Discard, c, 1000)
			return err
		})
		go slow("PUT /api/up HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n", func(c net.Conn) error {
			_, err := c.Write(make([]byte, 1000))
			return err
		})
	}
	begun.Wait()
	return all.Wait
}

// percentile sends requests over that many connections for a span of time and returns the 99th percentile of the
// latencies.
func percentile(tb testing.TB, url string, clients int, span time.Duration) time.Duration {
	tb.Helper()
	addr, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	var mu sync.Mutex
	var took []time.Duration
	var wait sync.WaitGroup
	for range clients {
		wait.Go(func() {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				tb.Error(err)
				return
			}
			defer c.Close()
			in := bufio.NewReader(c)
			var mine []time.Duration
			for begun := time.Now(); time.Since(begun) < span; {
				at := time.Now()
				_, _ = fmt.Fprintf(c, "GET /%s HTTP/1.1\r\nHost: h\r\n\r\n", path)
				if status, err := readResponse(in); err != nil || status != http.StatusOK {
					tb.Errorf("status %d, %v", status, err)
					return
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	wait.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}
