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

	"github.com/nats-io/nats.go"

	"millrace/embedded/embeddedtest"
)

// beMember makes the test binary a member of the service work, with the arguments NAME URL LOG. It logs a line for each
// request, and answers it unless its name is "holds".
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
	_, _ = io.Copy(io.Discard, os.Stdin) // runs until the test closes stdin or kills it
	return nil
}

// startMember starts a member in a process of its own and waits until it has subscribed.
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

// A member is killed with SIGKILL while it handles a request. A GET is answered by the other member. A POST gets 504 at
// its deadline, and has run once.
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
				continue // the other member got it
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

// askWhileKilled sends one request, and kills the victim as soon as that has got it.
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
				_ = victim.Process.Kill() // fails if it was killed already
			}
		}
	}
}

func read(path string) string {
	b, _ := os.ReadFile(path) // a missing file counts as empty
	return string(b)
}
