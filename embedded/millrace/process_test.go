package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// process is a millrace command in a process of its own.
type process struct {
	cmd    *exec.Cmd
	edge   string // its URL, from the banner
	admin  string // likewise
	temp   string // its TMPDIR
	dir    string // of its configuration file, if startRun has written it
	stderr *nodetest.Output
	stdout *nodetest.Output // what follows the banner
}

func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	return begin(t, exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], args...))
}

// startLimited starts a process that may open so many files.
func startLimited(t *testing.T, files int, args ...string) *process {
	t.Helper()
	shell := append([]string{"-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, files), os.Args[0]}, args...)
	return begin(t, exec.CommandContext(context.WithoutCancel(t.Context()), "sh", shell...))
}

func begin(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{temp: t.TempDir(), stderr: &nodetest.Output{}, stdout: &nodetest.Output{}, cmd: cmd}
	p.cmd.Env = append(os.Environ(), beMillrace+"=1", "TMPDIR="+p.temp)
	p.cmd.Stderr = p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	banner := regexp.MustCompile(`(edge|admin) +(http://[0-9.:]+)`)
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		m := banner.FindStringSubmatch(lines.Text())
		switch {
		case m == nil:
		case m[1] == "edge":
			p.edge = m[2]
		default:
			p.admin = m[2]
			go func() { _, _ = io.Copy(p.stdout, stdout) }()
			return p
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // after that stderr is complete
	t.Fatalf("no banner; stderr: %s", p.stderr)
	return nil
}

// nodeYAML is the configuration of a node on free ports whose data is in dir. It ends with edge. The node doesn't
// linger.
func nodeYAML(t *testing.T, dir string) string {
	t.Helper()
	return embeddedtest.YAML(t, `
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
		`, "DIR", dir)
}

// writeConfig writes a configuration to a file in dir and returns its path.
func writeConfig(t *testing.T, dir, text string) (file string) {
	t.Helper()
	file = filepath.Join(dir, "millrace.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// SIGTERM under load: keep-alive clients send 1,000 requests a second and move to another node on Connection: close. No
// request fails, the process exits with 0, and its temporary directory is removed.
func TestSIGTERMUnderLoad(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	defer app.Close()
	leaves := startProcess(t, "proxy", app.URL, "--listen", "127.0.0.1:0")
	stays := startProcess(t, "proxy", app.URL, "--listen", "127.0.0.1:0")
	const clients, pace = 50, 50 * time.Millisecond
	var done, failed, moved atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 1}, Timeout: 20 * time.Second}
			defer client.CloseIdleConnections()
			url := leaves.edge
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
				}
				if told, err := post(client, url); err != nil {
					failed.Add(1)
					t.Errorf("client %d: %v", i, err)
					return
				} else if told && url == leaves.edge {
					url = stays.edge
					moved.Add(1)
				}
				done.Add(1)
			}
		})
	}
	nodetest.Eventually(t, "requests flow", func() bool { return done.Load() > 1000 || failed.Load() > 0 })
	if err := leaves.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := leaves.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v; stderr: %s", err, leaves.stderr)
	}
	before := done.Load()
	nodetest.Eventually(t, "requests flow on", func() bool {
		return done.Load() > before+500 || failed.Load() > 0
	})
	close(stop)
	wg.Wait()
	if moved.Load() != clients {
		t.Errorf("%d of %d clients were told to move on", moved.Load(), clients)
	}
	if left, err := os.ReadDir(leaves.temp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
	t.Logf("%d requests, %d failed", done.Load(), failed.Load())
}

// SIGTERM is handled while a reload waits for a request, and that request still succeeds.
func TestSIGTERMWhileReloading(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	var taken atomic.Bool
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if !taken.Swap(true) { // further requests come until the reload has begun
			close(entered)
			<-finish
		}
	}))
	defer app.Close()
	dir := t.TempDir()
	file := writeConfig(t, dir, nodeYAML(t, dir)+embeddedtest.YAML(t, `
		upstreams:
		  a:
		    targets: [$APP]
		routes:
		  - path: /a
		    to: upstream:a
		`, "APP", app.URL))
	p := startProcess(t, "run", "-c", file)
	status := make(chan int, 1)
	go func() {
		resp, err := http.Get(p.edge + "/a")
		if err != nil {
			status <- 0
			return
		}
		_ = resp.Body.Close()
		status <- resp.StatusCode
	}()
	<-entered
	writeConfig(t, dir, nodeYAML(t, dir))
	signal := func(s syscall.Signal) {
		t.Helper()
		if err := p.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGHUP)
	nodetest.Eventually(t, "the reload has begun", func() bool {
		resp, err := http.Get(p.edge + "/a")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusNotFound
	})
	signal(syscall.SIGTERM)
	nodetest.Eventually(t, "the node drains", func() bool {
		resp, err := http.Get(p.admin + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusServiceUnavailable
	})
	close(finish)
	if got := <-status; got != http.StatusOK {
		t.Errorf("the request that ran got %d", got)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("the process ended with %v; stderr: %s", err, p.stderr)
	}
}

// post sends one request and reports whether the response closes the connection.
func post(client *http.Client, url string) (told bool, err error) {
	resp, err := client.Post(url+"/x", "text/plain", strings.NewReader("hello"))
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(body) != "hello") {
		err = fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	return resp.Close, err
}
