//go:build system

package chaos_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
)

// limitDamagedDisk kills a node that stands alone, damages the blocks of the limits' stream, and starts the node again.
// It must serve and report what was lost.
func limitDamagedDisk(t *testing.T, long bool) (seen string) {
	t.Helper()
	const most = 50
	clients := 100
	if long {
		clients = 2000
	}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	t.Cleanup(app.Close)
	dir := t.TempDir()
	yaml := embeddedtest.YAML(t, `
		version: 1
		node:
		  name: n1
		  data: $DIR/data
		edge:
		  listen: 127.0.0.1:0
		  linger: 0s
		admin:
		  listen: 127.0.0.1:0
		mesh:
		  listen: 127.0.0.1:0
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /x
		    to: upstream:app
		    limit:
		      max: $MAX
		      window: 1h
		      key: header:X-Key
		`, "DIR", dir, "APP", app.URL, "MAX", strconv.Itoa(most))
	n := start(t, dir, yaml)
	ask := func(client, times int) (passed, failed int) {
		for range times {
			switch status := getAs(n.edge+"/x", fmt.Sprint("client ", client)); status {
			case http.StatusOK:
				passed++
			case http.StatusTooManyRequests:
			default:
				failed++
			}
		}
		return passed, failed
	}
	got := make([]int, clients)
	for i := range got {
		got[i], _ = ask(i, 20)
	}
	within(t, wait, "the node remembers how far it was", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "data", "limits.mark"))
		return err == nil && strings.TrimSpace(string(b)) >= "1"
	})
	<-time.After(6 * time.Second)
	n.kill()
	blocks, err := filepath.Glob(filepath.Join(dir, "data", "jetstream", "jetstream", "*", "streams",
		"KV_millrace-limits", "msgs", "*.blk"))
	if err != nil || len(blocks) == 0 {
		t.Fatalf("blocks %v, %v", blocks, err)
	}
	for _, b := range blocks {
		raw, err := os.ReadFile(b)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(raw) / 2; i < len(raw); i += 5000 {
			raw[i] ^= 0xff
		}
		if err := os.WriteFile(b, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n = start(t, dir, yaml)
	more, failed := 0, 0
	for i := range got {
		passed, f := ask(i, 60)
		failed += f
		if got[i]+passed > most {
			more++
		}
	}
	degraded := strings.Join(n.status(t).Degraded, "\n")
	if !strings.Contains(degraded, "has lost records") {
		t.Errorf("%d clients got more than their limit, and status says %q", more, degraded)
	}
	if failed > 0 {
		t.Errorf("%d requests failed", failed)
	}
	return fmt.Sprintf("%d of %d clients got a part of their limit of %d a second time, which status told; %d "+
		"requests failed", more, clients, most, failed)
}

// getAs sends a request with a client's key.
func getAs(url, key string) (status int) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("X-Key", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}
