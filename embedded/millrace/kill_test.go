package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/embedded/embeddedtest"

	"github.com/nats-io/nats.go"
)

// beMember makes the test binary a member of the service work: NAME URL LOG. It writes a line for each request that it
// got, and answers it unless its name is "holds".
const beMember = "TEST_BE_MEMBER"

func memberMain(name, url, log string) error {
	f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	nc, err := nats.Connect(url)
	if err != nil {
		return err
	}
	_, err = nc.QueueSubscribe("http.work", "q", func(msg *nats.Msg) {
		line, _, _ := strings.Cut(string(msg.Data), "\r\n")
		fmt.Fprintf(f, "%s %s\n", name, line)
		if name != "holds" {
			_ = msg.Respond([]byte("HTTP/1.1 200 OK\r\n\r\n" + name))
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin) // lives until the test closes its end, or kills it
	return nil
}

// startMember starts a member in a process of its own and waits until it has joined.
func startMember(t *testing.T, name, url, log string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], name, url, log)
	cmd.Env = append(os.Environ(), beMember+"=1")
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("member %s: %q, %v", name, line, err)
	}
	return cmd
}

// A member is killed with SIGKILL while it works. The client of a GET is answered by the other member, the client of a
// POST gets 504 by the deadline, and the POST ran once.
func TestMemberKilled(t *testing.T) {
	const timeout = 2 * time.Second
	dir := t.TempDir()
	config := writeConfig(t, dir, nodeYAML(t, dir)+embeddedtest.YAML(t, `
		  expose: [work]
		  timeout: $TIMEOUT
		`, "TIMEOUT", timeout.String()))
	p := startProcess(t, "run", "-c", config)
	url, err := os.ReadFile(filepath.Join(dir, "data", "client.url"))
	if err != nil {
		t.Fatal(err)
	}
	startMember(t, "answers", strings.TrimSpace(string(url)), filepath.Join(dir, "answers.log"))
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		held := filepath.Join(dir, "holds-"+method+".log")
		victim := startMember(t, "holds", strings.TrimSpace(string(url)), held)
		for i := 0; ; i++ {
			target := fmt.Sprintf("/work/%s/%d", method, i)
			status, body, took := askWhileKilled(t, p.edge, method, target, held, victim)
			if !strings.Contains(read(held), target+" ") {
				continue // the other member had it
			}
			if took > timeout+3*time.Second {
				t.Errorf("%s took %s, far beyond its deadline", method, took)
			}
			answered := strings.Count(read(filepath.Join(dir, "answers.log")), target+" ")
			if method == http.MethodGet && (status != http.StatusOK || body != "answers" || answered != 1) {
				t.Errorf("GET: %d %q, answered %d times", status, body, answered)
			}
			if method == http.MethodPost && (status != http.StatusGatewayTimeout || answered != 0) {
				t.Errorf("POST: %d %q, and the other member ran it %d times", status, body, answered)
			}
			break
		}
	}
}

// askWhileKilled sends one request, and kills the victim as soon as it has got it.
func askWhileKilled(t *testing.T, edge, method, target, held string,
	victim *exec.Cmd,
) (status int, body string, took time.Duration) {
	t.Helper()
	begin := time.Now()
	done := make(chan struct{})
	go func() {
		defer close(done)
		req, _ := http.NewRequestWithContext(t.Context(), method, edge+target, nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		status, body = resp.StatusCode, string(b)
	}()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return status, body, time.Since(begin)
		case <-tick.C:
			if strings.Contains(read(held), target+" ") {
				_ = victim.Process.Kill() // a second kill finds it gone
			}
		}
	}
}

func read(path string) string {
	b, _ := os.ReadFile(path) // not written yet counts as empty
	return string(b)
}
