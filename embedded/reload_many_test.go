package embedded_test

import (
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"millrace/embedded"
	"millrace/embedded/embeddedtest"
)

// manyRoutes is the rest of a configuration with two routes and n further ones of a shape.
func manyRoutes(tb testing.TB, app string, n int, shape string) string {
	tb.Helper()
	var b strings.Builder
	b.WriteString(edgeYAML)
	b.WriteString(embeddedtest.YAML(tb, `
		upstreams:
		  api:
		    targets: [$APP]
		routes:
		  - path: /fixed
		    respond:
		      body: x
		  - path: /proxied
		    to: upstream:api
		`, "APP", app))
	for i := range n {
		b.WriteString(strings.ReplaceAll(shape, "$I", strconv.Itoa(i)))
	}
	return b.String()
}

// manyShapes are the shapes of routes by name. $I stands for the route's number.
var manyShapes = map[string]string{
	"literals": `
  - path: /route/$I
    to: upstream:api
`,
	"headers": `
  - path: /r
    match:
      headers:
        X-T: t$I
    to: upstream:api
`,
	"limits": `
  - path: /r/$I
    to: upstream:api
    limit: [20/s, 100/15m]
`,
	"caches": `
  - path: /r/$I
    to: upstream:api
    cache: 1h
`,
	"subjects": `
  - path: /r/$I/{id}
    to: nats:r.$I.{id}
`,
	"gathers": `
  - path: /r/$I
    gather:
      calls:
        a:
          to: service:a
          path: /
`,
}

// TestReloadMany reloads a node with ten thousand routes while requests arrive. Comparing each route with each other
// one took a minute.
func TestReloadMany(t *testing.T) {
	a := app(t, "x").URL
	opts, path := settings(t, manyRoutes(t, a, 9_990, manyShapes["limits"]))
	n := open(t, opts)
	var begin, end time.Time
	latencies(n, func() {
		write(t, path, base(t, filepath.Dir(path))+manyRoutes(t, a, 9_980, manyShapes["headers"]))
		begin = time.Now()
		if done, err := n.Reload(t.Context()); err != nil || len(done.Warnings) > 0 {
			t.Errorf("reloaded with %v, %v", done.Warnings, err)
		}
		end = time.Now()
	})
	if took := end.Sub(begin); took > 30*time.Second {
		t.Errorf("took %s", took)
	}
	if status, body := get(t, n.EdgeURL()+"/proxied"); status != 200 || body != "x" {
		t.Errorf("got %d %q", status, body)
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, n.EdgeURL()+"/r", nil)
	for value, want := range map[string]int{"t9979": 200, "t9980": 404} {
		req.Header.Set("X-T", value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("X-T: %s got %d, want %d", value, resp.StatusCode, want)
		}
	}
}

// BenchmarkReloadMany reloads a node with ten thousand routes, and reports the latency of requests meanwhile and
// without a reload.
func BenchmarkReloadMany(b *testing.B) {
	for name, shape := range manyShapes {
		b.Run(name, func(b *testing.B) {
			opts, _ := settings(b, manyRoutes(b, app(b, "x").URL, 9_990, shape))
			n := open(b, opts)
			n.UseGC(embedded.TuneGC()) // as the command does
			quiet := latencies(n, func() { wait(b, time.Second) })
			busy := latencies(n, func() {
				for b.Loop() {
					if _, err := n.Reload(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.ReportMetric(float64(quantile(quiet, 0.99).Microseconds()), "p99-quiet-us")
			b.ReportMetric(float64(quantile(busy, 0.99).Microseconds()), "p99-us")
			b.ReportMetric(float64(quantile(busy, 1).Microseconds()), "max-us")
		})
	}
}

func wait(tb testing.TB, d time.Duration) {
	tb.Helper()
	select {
	case <-time.After(d):
	case <-tb.Context().Done():
	}
}

// latencies sends a request every two milliseconds while f runs, alternating between a fixed response and an upstream.
func latencies(n *embedded.Node, f func()) []time.Duration {
	var (
		took    []time.Duration
		running sync.WaitGroup
	)
	stop := make(chan struct{})
	running.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			start := time.Now()
			if resp, err := http.Get(n.EdgeURL() + []string{"/fixed", "/proxied"}[i%2]); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
			took = append(took, time.Since(start))
		}
	})
	f()
	close(stop)
	running.Wait()
	return took
}

func quantile(took []time.Duration, q float64) time.Duration {
	slices.Sort(took)
	if len(took) == 0 {
		return 0
	}
	return took[int(q*float64(len(took)-1))]
}
