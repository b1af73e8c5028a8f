//go:build system

package chaos_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/embedded/embeddedtest"
)

// memoryGroup creates a cgroup with so many MiB of memory. It returns the prefix of a command that runs in it, and a
// function that returns the peak of its memory in bytes.
func memoryGroup(t *testing.T, mib int) (prefix []string, most func() int64) {
	t.Helper()
	dir, limit, peak := "/sys/fs/cgroup/memory/millrace-trial", "memory.limit_in_bytes", "memory.max_usage_in_bytes"
	if _, err := os.Stat(filepath.Dir(dir)); err != nil { // version 2
		dir, limit, peak = "/sys/fs/cgroup/millrace-trial", "memory.max", "memory.peak"
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := os.WriteFile(filepath.Join(dir, limit), []byte(strconv.Itoa(mib<<20)), 0o644); err != nil {
		t.Fatal(err)
	}
	most = func() int64 {
		b, _ := os.ReadFile(filepath.Join(dir, peak))
		n, _ := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		return n
	}
	return []string{"sh", "-c", `echo $$ > ` + dir + `/cgroup.procs && exec "$@"`, "sh"}, most
}

// smallMemory runs a node in a cgroup of 400 MiB, and fills its cache several times over. With default sizes it must
// survive; with a cache of 1 GiB it must warn at once.
func smallMemory(t *testing.T, long bool) string {
	t.Helper()
	const mib = 400
	body := bytes.Repeat([]byte("x"), 64<<10)
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(body)
	}))
	t.Cleanup(origin.Close)
	yaml := func(more string) string {
		return embeddedtest.YAML(t, `
			version: 1
			node:
			  data: $DIR/data
			edge:
			  listen: 127.0.0.1:0
			admin:
			  listen: 127.0.0.1:0
			mesh:
			  listen: 127.0.0.1:0
			upstreams:
			  app:
			    targets: [$APP]
			routes:
			  - path: /*
			    cache: 1h
			    to: upstream:app
			`, "DIR", t.TempDir(), "APP", origin.URL) + more
	}
	prefix, _ := memoryGroup(t, mib)
	large := start(t, t.TempDir(), yaml("cache:\n  memory: 1GiB\n"), prefix...)
	if text := strings.Join(large.status(t).Degraded, "\n"); !strings.Contains(text, "leaves it 400 MiB") ||
		!strings.Contains(large.output.String(), "leaves it 400 MiB") {
		t.Errorf("with a cache of 1 GiB the node says %q", text)
	}
	large.kill()

	prefix, most := memoryGroup(t, mib)
	p := start(t, t.TempDir(), yaml(""), prefix...)
	within(t, wait, "the node is ready", func() bool { ok, _ := p.readyz(); return ok })
	count := 8_000 // half a gibibyte
	if long {
		count *= 10
	}
	fillCache(t, p, count)
	st := p.status(t)
	if text := strings.Join(st.Degraded, "\n"); strings.Contains(text, "memory") {
		t.Errorf("with the sizes by default the node says %q", text)
	}
	return fmt.Sprintf("%d MiB of responses through a cache of %d MiB: %d MiB of %d at most, page cache included",
		count>>4, st.Cache.MemoryMax>>20, most()>>20, mib)
}

// fillCache requests so many URLs over eight connections.
func fillCache(t *testing.T, p *nodeProcess, count int) {
	t.Helper()
	var next, failed atomic.Int64
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for n := next.Add(1); n <= int64(count); n = next.Add(1) {
				if code, _ := get(fmt.Sprintf("%s/page/%d", p.edge, n)); code != http.StatusOK {
					failed.Add(1)
				}
			}
		})
	}
	clients.Wait()
	select {
	case <-p.exited:
		t.Fatalf("the node was killed: %s", p.output)
	default:
	}
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d requests failed", n, count)
	}
}
