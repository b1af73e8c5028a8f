package bench_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
)

// callTakes is how long each upstream call of BenchmarkGather takes.
const callTakes = 100 * time.Millisecond

// BenchmarkGather measures gathers of slow calls on a node in a process of its own: ten calls at once, a hundred of
// which twenty may run at the same time and, for comparison, a single call. b.N is the number of requests of each kind.
//
//	go test ./embedded/bench -run '^$' -bench Gather -benchtime 100x
func BenchmarkGather(b *testing.B) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(callTakes):
		case <-r.Context().Done():
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"ok":true}`)
	}))
	defer app.Close()
	var config strings.Builder
	config.WriteString(embeddedtest.YAML(b, `
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		`, "APP", app.URL))
	sorts := []struct {
		path               string
		calls, concurrency int
		took               []time.Duration
	}{{path: "/one", calls: 1}, {path: "/ten", calls: 10}, {path: "/hundred", calls: 100, concurrency: 20}}
	for _, s := range sorts {
		config.WriteString(embeddedtest.YAML(b, `
			  - path: $PATH
			    gather:
			      mode: all
			      concurrency: $CONCURRENCY
			      calls:
			`, "PATH", s.path, "CONCURRENCY", strconv.Itoa(s.concurrency)))
		for i := range s.calls {
			config.WriteString(embeddedtest.YAML(b, `
				        c$I:
				          to: upstream:app
				          path: /$I
				`, "I", strconv.Itoa(i)))
		}
	}
	n := startNode(b, nil, config.String())
	get := func(path string) time.Duration {
		ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+path, nil)
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			b.Fatalf("%d %s, %v", resp.StatusCode, body, err)
		}
		return time.Since(began)
	}
	for b.Loop() {
		for i := range sorts {
			sorts[i].took = append(sorts[i].took, get(sorts[i].path))
		}
	}
	for i := range sorts {
		s := &sorts[i]
		slices.Sort(s.took)
		b.ReportMetric(float64(s.took[len(s.took)/2].Microseconds())/1000, s.path[1:]+"-p50-ms")
		b.ReportMetric(float64(s.took[len(s.took)*99/100].Microseconds())/1000, s.path[1:]+"-p99-ms")
	}
	b.ReportMetric(float64(sorts[2].took[len(sorts[2].took)/2])/float64(sorts[0].took[len(sorts[0].took)/2]),
		"x-hundred-by-one")
}
