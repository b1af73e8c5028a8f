//go:build system

package chaos_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"millrace/edge/admin"
	"millrace/node/nodetest"
)

// moduleRoot is the root of the module.
const moduleRoot = "../.."

// binary returns the path of the millrace command, which is built once for all trials.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-chaos")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "millrace")
	cmd := exec.Command("go", "build", "-o", path, "./embedded/millrace")
	cmd.Dir = moduleRoot
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// TestMain removes the command at the end.
func TestMain(m *testing.M) {
	m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
}

// wait bounds every wait of a trial that names no time of its own.
const wait = time.Minute

// within polls every few milliseconds until the condition holds, and returns how long that took. If that takes longer
// than limit, the trial fails.
func within(t *testing.T, limit time.Duration, what string, condition func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("not in %s: %s", limit, what)
		}
	}
	return time.Since(begun)
}

// nodeProcess is a node in a process of its own.
type nodeProcess struct {
	cmd    *exec.Cmd
	edge   string           // its URL, from the banner
	admin  string           // likewise
	output *nodetest.Output // stdout and stderr
	exited chan struct{}    // closed when the process has ended
}

var banner = regexp.MustCompile(`(?m)(edge|admin) +(http://[0-9.:]+)`)

// start writes the configuration into dir, runs a node with it, and waits for the banner. The command line begins with
// prefix, such as ip netns exec NAME.
func start(t *testing.T, dir, yaml string, prefix ...string) *nodeProcess {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "millrace.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(append([]string{}, prefix...), path, "run", "-c", file)
	p := &nodeProcess{
		cmd: exec.Command(args[0], args[1:]...), output: &nodetest.Output{}, exited: make(chan struct{}),
	}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() { p.kill() })
	within(t, wait, "the banner of "+file, func() bool {
		for _, m := range banner.FindAllStringSubmatch(p.output.String(), -1) {
			if m[1] == "edge" {
				p.edge = m[2]
			} else {
				p.admin = m[2]
			}
		}
		select {
		case <-p.exited:
			t.Fatalf("the node ended: %s", p.output)
		default:
		}
		return p.edge != "" && p.admin != ""
	})
	return p
}

// kill ends the process like a loss of power, except that the kernel still writes its buffers.
func (p *nodeProcess) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.exited
}

// stop ends the process as an operator does, and waits for that.
func (p *nodeProcess) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	<-p.exited
}

// client opens a connection for each request, and has a short timeout.
var client = &http.Client{
	Timeout: 5 * time.Second,
	Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
	},
}

// get is fetch with client.
func get(url string) (status int, body string) { return fetch(client, url) }

// fetch returns the status and body; 0 if there is no response.
func fetch(c *http.Client, url string) (status int, body string) {
	resp, err := c.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

// status returns the node's status.
func (p *nodeProcess) status(t *testing.T) (st admin.FullStatus) {
	t.Helper()
	code, body := get(p.admin + "/v1/status")
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatalf("status: %d %s: %v", code, body, err)
	}
	return st
}
