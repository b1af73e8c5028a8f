//go:build system

package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded"
	"millrace/embedded/embeddedtest"
	"millrace/mesh"
	"millrace/node"
)

const nodeMember = moduleRoot + "/mesh/_examples/node"

// memberStarter starts a process of a member that connects to url.
type memberStarter func(t *testing.T, url string, env ...string) *process

func TestNodeMember(t *testing.T) {
	testMember(t, func(t *testing.T, url string, env ...string) *process {
		t.Helper()
		return start(t, nodeMember, append(env, "NATS_URL="+url), "node", "member.js")
	})
}

func TestGoMember(t *testing.T) {
	program := build(t, "./mesh/_examples/go")
	testMember(t, func(t *testing.T, url string, env ...string) *process {
		t.Helper()
		return start(t, "", append(env, "NATS_URL="+url), program)
	})
}

// The smallest member is the one in the README.
func TestSmallestNodeMember(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(nodeMember, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	code := regexp.MustCompile("(?s)```js\n(.*?)```").FindSubmatch(readme)
	if code == nil {
		t.Fatal("README.md shows no member")
	}
	n := startNode(t, build(t, "./embedded/millrace"))
	start(t, nodeMember, []string{"NATS_URL=" + n.client}, "node", "--input-type=module", "--eval", string(code[1]))
	eventually(t, "the member answers", func() bool {
		a, err := n.call("GET", "/hello", "")
		return err == nil && a.status == 200 && a.text == "hello from Node.js\n"
	})
}

// startedNode is a process of millrace run with every service exposed.
type startedNode struct {
	edge, client string
	pid          int
	http         *http.Client
}

// startNode runs the command that was built into program. rest is what its configuration has after mesh.listen.
func startNode(t *testing.T, program string, rest ...string) *startedNode {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	config := writeConfig(t, dir, embeddedtest.YAML(t, `
		version: 1
		node:
		  name: n1
		  data: $DATA
		edge:
		  listen: 127.0.0.1:0
		  expose: ["*"]
		  linger: 0s
		admin:
		  listen: 127.0.0.1:0
		mesh:
		  listen: 127.0.0.1:0
		`, "DATA", data)+strings.Join(rest, ""))
	p := start(t, dir, nil, program, "run", "-c", config)
	n := &startedNode{
		pid: p.pid(), edge: p.find(t, `edge +(http://\S+)`),
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16}},
	}
	t.Cleanup(n.http.CloseIdleConnections)
	url, err := os.ReadFile(filepath.Join(data, "client.url"))
	if err != nil {
		t.Fatal(err)
	}
	n.client = strings.TrimSpace(string(url))
	return n
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

// memberAnswer is the answer of the example members.
type memberAnswer struct {
	Service, Method, Path, Body string
	Member                      int

	status int
	text   string
}

// call sends a request to the edge. The error is one of the connection.
func (n *startedNode) call(method, path, body string) (memberAnswer, error) {
	var a memberAnswer
	req, err := http.NewRequest(method, n.edge+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	resp, err := n.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	a.status, a.text = resp.StatusCode, string(text)
	_ = json.Unmarshal(text, &a) // other responses are in text only
	return a, err
}

// answering waits until each of the processes has answered.
func (n *startedNode) answering(t *testing.T, members ...*process) {
	t.Helper()
	seen := map[int]bool{}
	eventually(t, "every member answers", func() bool {
		if a, err := n.call("GET", "/hello", ""); err == nil && a.status == 200 {
			seen[a.Member] = true
		}
		for _, m := range members {
			if !seen[m.pid()] {
				return false
			}
		}
		return true
	})
}

func testMember(t *testing.T, startMember memberStarter) {
	t.Helper()
	program := build(t, "./embedded/millrace")
	t.Run("answers", func(t *testing.T) {
		n := startNode(t, program)
		n.answering(t, startMember(t, n.client))
		body := "Grüße, 世界\r\n\r\n" + strings.Repeat("x", 300_000)
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE"} {
			a, err := n.call(method, "/hello/a%20b?x=1", body)
			if err != nil || a.status != 200 || a.Method != method || !strings.HasPrefix(a.Path, "/hello/a") ||
				a.Body != body {
				t.Errorf("%s: %d %.200q, %v", method, a.status, a.text, err)
			}
		}
		if a, err := n.call("HEAD", "/hello", ""); err != nil || a.status != 200 || a.text != "" {
			t.Errorf("HEAD: %d %q, %v", a.status, a.text, err)
		}
	})
	t.Run("shares and drains", func(t *testing.T) {
		n := startNode(t, program)
		stays, leaves := startMember(t, n.client), startMember(t, n.client)
		n.answering(t, stays, leaves)
		testDrain(t, n, leaves)
	})
	t.Run("limit, cancellation, deadline", func(t *testing.T) { testControl(t, startMember) })
}

// testDrain ends one of two members under load. The requests are POSTs, which nobody repeats, so that each dropped one
// is noticed.
func testDrain(t *testing.T, n *startedNode, leaves *process) {
	t.Helper()
	var stop atomic.Bool
	var answered, byLeaver atomic.Int64
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for !stop.Load() {
				a, err := n.call("POST", "/hello?wait=20", "ping")
				if err != nil || a.status != 200 || a.Body != "ping" {
					t.Errorf("dropped: %d %q, %v", a.status, a.text, err)
					return
				}
				answered.Add(1)
				if a.Member == leaves.pid() {
					byLeaver.Add(1)
				}
			}
		})
	}
	defer workers.Wait()
	defer stop.Store(true)
	eventually(t, "the member that leaves is busy", func() bool { return byLeaver.Load() >= 50 || t.Failed() })
	leaves.terminate(t)
	eventually(t, "the member ends", func() bool {
		select {
		case <-leaves.exited:
			return true
		default:
			return false
		}
	})
	if leaves.err != nil {
		t.Errorf("the member ended with %v", leaves.err)
	}
	enough := answered.Load() + 50
	eventually(t, "the other member goes on", func() bool { return answered.Load() >= enough || t.Failed() })
}

// testControl uses a member that handles one request at a time, over the mesh itself, where a call can be canceled.
func testControl(t *testing.T, startMember memberStarter) {
	t.Helper()
	cfg := node.Default()
	cfg.Node.Data = t.TempDir()
	cfg.Edge.Listen, cfg.Admin.Listen, cfg.Mesh.Listen, cfg.Edge.Linger = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0", 0
	n, err := embedded.New(embedded.Options{Config: cfg, Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	startMember(t, n.ClientURL(), "LIMIT=1")
	do := func(ctx context.Context, target string, timeout time.Duration) error {
		req := &mesh.Request{Method: "POST", Target: target, Host: "h", Deadline: time.Now().Add(timeout)}
		resp, err := n.Mesh().Do(ctx, n.Mesh().Service("hello"), req)
		if err == nil && resp.Status != 200 {
			err = fmt.Errorf("status %d", resp.Status)
		}
		return err
	}
	free := func() bool { return do(t.Context(), "/hello", patience) == nil }
	eventually(t, "the member answers", free)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	long := make(chan error, 1)
	go func() { long <- do(ctx, "/hello?wait=600000", 10*time.Minute) }()
	eventually(t, "the member says that it is full", func() bool {
		return node.CodeOf(do(t.Context(), "/hello", patience)) == node.CodeBusy
	})
	cancel()
	if err := <-long; node.CodeOf(err) != node.CodeCanceled {
		t.Errorf("canceled call: %v", err)
	}
	eventually(t, "the member has stopped what was canceled", free)

	if err := do(t.Context(), "/hello?wait=600000", 200*time.Millisecond); node.CodeOf(err) != node.CodeTimeout {
		t.Errorf("call with a deadline: %v", err)
	}
	eventually(t, "the member has stopped at the deadline", free)
}
