//go:build system

package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
)

// TestSlowHTTPTest attacks one node with all four modes of slowhttptest at the same time: slow headers, slow bodies,
// ranges, and slow reading. Other clients are served meanwhile, and afterwards the node holds nothing of the attack.
func TestSlowHTTPTest(t *testing.T) {
	page := strings.Repeat("x", 400<<10)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/small" {
			_, _ = io.WriteString(w, "small")
			return
		}
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, page)
	}))
	t.Cleanup(app.Close)
	dir := t.TempDir()
	file := writeConfig(t, dir, embeddedtest.YAML(t, `
		version: 1
		node:
		  data: $DIR/data
		edge:
		  listen: 127.0.0.1:0
		  linger: 0s
		  read_timeout: 3s
		  write_timeout: 3s
		  idle_timeout: 3s
		admin:
		  listen: 127.0.0.1:0
		mesh:
		  listen: 127.0.0.1:0
		upstreams:
		  app:
		    targets: [$APP]
		routes:
		  - path: /*
		    to: upstream:app
		`, "DIR", dir, "APP", app.URL))
	node := start(t, dir, nil, build(t, "./embedded/millrace"), "run", "-c", file)
	url, admin := node.find(t, `edge +(http://\S+)`), node.find(t, `admin +(http://[0-9.:]+)`)
	const clients, seconds = "200", "10"
	common := []string{"-c", clients, "-r", "100", "-i", "1", "-l", seconds, "-p", "5", "-u", url + "/large"}
	var attacks []*process
	for _, mode := range [][]string{
		{"-H"},
		{"-B"},
		{"-R"},
		{"-X", "-k", "10", "-w", "512", "-y", "1024", "-n", "1", "-z", "32"},
	} {
		attacks = append(attacks, start(t, dir, nil, "slowhttptest", append(mode, common...)...))
	}
	var slowest time.Duration
	served := 0
	for over := false; !over; {
		over = true
		for _, a := range attacks {
			select {
			case <-a.exited:
			default:
				over = false
			}
		}
		begin := time.Now()
		resp, err := http.Get(url + "/small")
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || string(body) != "small" {
			t.Errorf("another client got %d %q, %v", resp.StatusCode, body, err)
		}
		slowest = max(slowest, time.Since(begin))
		served++
	}
	for _, a := range attacks {
		if out := a.stdout.String(); !strings.Contains(out, "service available:") || strings.Contains(out, "NO") {
			t.Errorf("%s says:\n%s", a.cmd.Args, out)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	eventually(t, "nothing of the attack is left", func() bool {
		var st struct {
			Connections int   `json:"connections"`
			InFlight    int   `json:"in_flight"`
			Buffered    int64 `json:"buffered_bytes"`
		}
		resp, err := http.Get(admin + "/v1/status")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if err := json.NewDecoder(resp.Body).Decode(&st); err != nil {
			t.Fatal(err)
		}
		return st.Connections == 0 && st.InFlight == 0 && st.Buffered == 0
	})
	t.Logf("%d requests of others meanwhile, the slowest took %s", served, slowest)
}
