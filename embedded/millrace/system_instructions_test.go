//go:build system

package main_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"millrace/embedded/embeddedtest"
)

// TestLimitInstructions counts the CPU instructions of requests to a route with a limit and to the same route without
// one, by valgrind's cachegrind, which doesn't count those of the kernel. The difference of two runs of different
// length excludes the start.
func TestLimitInstructions(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, "hello")
	}))
	t.Cleanup(app.Close)
	binary := build(t, "./embedded/millrace")
	perRequest := func(route string, few, many int) float64 {
		return (instructions(t, binary, app.URL, route, many) - instructions(t, binary, app.URL, route, few)) / float64(
			many-few)
	}
	free, limited := perRequest("/free", 500, 4000), perRequest("/limited", 500, 4000)
	t.Logf("forwarded: %.0f instructions without a limit, %.0f with one: %.3f times", free, limited, limited/free)
	if limited > 1.1*free {
		t.Errorf("the limit costs %.0f of %.0f instructions", limited-free, free)
	}
}

// instructions runs a node until it has served n requests, and returns its instructions.
func instructions(t *testing.T, binary, app, route string, n int) float64 {
	t.Helper()
	dir := t.TempDir()
	file := writeConfig(t, dir, embeddedtest.YAML(t, `
		version: 1
		node:
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
		  - path: /free
		    to: upstream:app
		  - path: /limited
		    to: upstream:app
		    limit: 2000000000/1h
		`, "DIR", dir, "APP", app))
	counted := filepath.Join(dir, "counted")
	// This setting makes Go avoid an instruction that valgrind doesn't know.
	node := start(t, dir, []string{"GODEBUG=cpu.rdtscp=off", "GOMAXPROCS=1"}, "valgrind", "--tool=cachegrind",
		"--cache-sim=no", "--cachegrind-out-file=/dev/null",
		"--log-file="+counted, binary, "run", "-c", file)
	url := node.find(t, `edge +(http://[0-9.:]+)`)
	for range n {
		resp, err := http.Get(url + route)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK || (resp.Header.Get("RateLimit") != "") != (route == "/limited") {
			t.Fatalf("got %d, %v", resp.StatusCode, resp.Header)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	if err := node.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-node.exited
	out, err := os.ReadFile(counted)
	if err != nil {
		t.Fatal(err)
	}
	refs := regexp.MustCompile(`I +refs: +([0-9,]+)`).FindSubmatch(out)
	if refs == nil {
		t.Fatalf("valgrind counted nothing: %s", out)
	}
	total, err := strconv.ParseFloat(strings.ReplaceAll(string(refs[1]), ",", ""), 64)
	if err != nil {
		t.Fatal(err)
	}
	return total
}
