package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// docShell runs the lines of one document in order. A line must be one of these commands; any other fails the test:
//
//   - millrace run, proxy, demo, serve and preview (also by go run) start a node, after the previous one was ended with
//     Ctrl-C. It must become ready, and a proxy must answer a request with the application's response. tail must print
//     a request.
//   - Any other millrace command must exit with 0, within the test's patience.
//   - go build builds into the shell's directory. go test ./... must cover this package; it is what runs this test.
//   - curl is a request by net/http with the line's method, fields and body. The status must be less than 400.
//   - nats reply is a member with that answer. A program of Node.js must exist; its effect is simulated here.
//
// Loopback ports are replaced: 3000 and above by a sample application's, and those of nodes by free ones. A file
// without listen keys gets them.
type docShell struct {
	t     *testing.T
	from  string // the document's directory
	dir   string // where lines run
	line  string // the current one, for messages
	ports map[string]string
	http  *http.Client
	node  *process // the running one; may be nil
}

func newDocShell(t *testing.T, from string) *docShell {
	t.Helper()
	s := &docShell{
		t: t, from: from, dir: t.TempDir(), ports: map[string]string{},
		http: &http.Client{
			Transport:     &http.Transport{DisableKeepAlives: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Timeout:       10 * time.Second,
		},
	}
	s.website()
	for _, port := range []string{"3000", "3001", "3002"} {
		sample := httptest.NewServer(http.HandlerFunc(docSample))
		t.Cleanup(sample.Close)
		s.ports[port] = sample.URL[strings.LastIndex(sample.URL, ":")+1:]
	}
	return s
}

// website makes the folder dist, as a build would.
func (s *docShell) website() {
	s.t.Helper()
	dir := filepath.Join(s.dir, "dist")
	err := os.Mkdir(dir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "index.html"), []byte("<h1>Hello</h1>"), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// docSample is the application behind the nodes of documents.
func docSample(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // the client went away
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "max-age=60")
	w.Header().Set("Cache-Tag", "products product-7")
	_ = json.NewEncoder(w).Encode(map[string]string{"id": "7", "plan": "gold", "path": r.URL.Path}) // likewise
}

var docPort = regexp.MustCompile(`\b(127\.0\.0\.1|localhost):(\d+)\b`)

// own replaces loopback ports by those of this test.
func (s *docShell) own(text string) string {
	return docPort.ReplaceAllStringFunc(text, func(address string) string {
		host, port, _ := strings.Cut(address, ":")
		if s.ports[port] == "" {
			s.t.Fatalf("%s: the test knows nothing of port %s", s.line, port)
		}
		return host + ":" + s.ports[port]
	})
}

// save writes a configuration file with ports of its own.
func (s *docShell) save(name, text string) {
	s.t.Helper()
	free := nodetest.FreePorts(s.t, 3)
	for i, key := range []string{"edge", "admin", "mesh"} {
		usual := []string{"8080", "8081", "4222"}[i]
		s.ports[usual] = strings.TrimPrefix(free[i], "127.0.0.1:")
		switch has := regexp.MustCompile(`(?m)^` + key + `:.*$`).FindString(text); {
		case has == "":
			text += fmt.Sprintf("%s: {listen: \"127.0.0.1:%s\"}\n", key, usual)
		case !strings.Contains(has, "127.0.0.1:"+usual):
			s.t.Fatalf("%s: a file that is run must say where %s listens, on port %s", name, key, usual)
		}
	}
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(s.own(text)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run executes a line.
func (s *docShell) run(line string) {
	s.t.Helper()
	c, err := s.parse(line)
	if err != nil {
		s.t.Fatalf("%s: %v", s.line, err)
	}
	if len(c.args) == 0 {
		return
	}
	switch program, args := c.args[0], c.args[1:]; program {
	case "millrace":
		s.millrace(os.Args[0], c.env, args, c.into)
	case "./millrace":
		s.millrace(filepath.Join(s.dir, "millrace"), c.env, args, c.into)
	case "go":
		s.golang(args)
	case "curl":
		s.curl(args)
	case "nats":
		s.nats(args)
	case "node", "npm":
		s.nodejs(c.env, c.args)
	default:
		s.t.Fatalf("%s: the test doesn't know the program %s", s.line, program)
	}
}

// millrace runs a command line of the binary at path. Its output goes into a file if one is named.
func (s *docShell) millrace(path string, env, args []string, into string) {
	s.t.Helper()
	if len(args) == 0 {
		s.t.Fatalf("%s: which command?", s.line)
	}
	cmd := exec.CommandContext(context.WithoutCancel(s.t.Context()), path, args...)
	cmd.Dir = s.dir
	switch args[0] {
	case "run", "proxy", "demo", "serve", "preview":
		s.start(cmd, args[0])
		return
	case "tail":
		s.tail(cmd)
		return
	}
	nodetest.Eventually(s.t, s.line, func() bool {
		cmd := exec.CommandContext(s.t.Context(), path, args...)
		cmd.Dir, cmd.Env = s.dir, append(append(os.Environ(), beMillrace+"=1"), env...)
		out, err := cmd.Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			s.t.Logf("%s: %v\n%s%s", s.line, err, out, exit.Stderr)
			if code := exit.ExitCode(); code == exitUsage || code == exitConfig {
				s.t.Fatal("no time will change that")
			}
			return false
		}
		if err == nil && into != "" {
			err = os.WriteFile(filepath.Join(s.dir, into), out, 0o600)
		}
		if err != nil {
			s.t.Fatalf("%s: %v", s.line, err)
		}
		return true
	})
}

// start starts a node in place of the running one, and waits until it is ready.
func (s *docShell) start(cmd *exec.Cmd, command string) {
	s.t.Helper()
	s.stop()
	// With a process group of its own, Ctrl-C reaches the children of go run too.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.node = begin(s.t, cmd)
	group := -cmd.Process.Pid
	node := s.node
	s.t.Cleanup(func() {
		if s.node == node { // the test has failed
			_ = syscall.Kill(group, syscall.SIGKILL) // fails if it has ended
		}
	})
	for usual, at := range map[string]string{"8080": s.node.edge, "8081": s.node.admin} {
		s.ports[usual] = at[strings.LastIndex(at, ":")+1:]
	}
	s.answers(http.MethodGet, s.node.admin+"/readyz", nil, "")
	switch command {
	case "proxy":
		if got := s.answers(http.MethodGet, s.node.edge+"/users/7", nil, ""); !strings.Contains(got, `"path":"/users/7"`) {
			s.t.Errorf("%s: the proxy answers %s", s.line, got)
		}
	case "demo":
		if got := s.answers(http.MethodGet, s.node.edge+"/hello", nil, ""); got != "hello from a subscriber\n" {
			s.t.Errorf("%s: the demo answers %s", s.line, got)
		}
	}
}

// stop ends the running node like Ctrl-C.
func (s *docShell) stop() {
	s.t.Helper()
	if s.node == nil {
		return
	}
	cmd := s.node.cmd
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		s.t.Fatal(err)
	}
	// After Ctrl-C go run itself ends with 1, and prints "exit status" only if the program has failed.
	goRun := filepath.Base(cmd.Path) == "go"
	if err := cmd.Wait(); err != nil && (!goRun || s.node.stderr.String() != "") {
		s.t.Errorf("%s: the node before ended with %v: %s", s.line, err, s.node.stderr)
	}
	s.node = nil
}

// tail runs until it prints a request.
func (s *docShell) tail(cmd *exec.Cmd) {
	s.t.Helper()
	var out nodetest.Output
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), beMillrace+"=1"), &out, &out
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("%s: %v", s.line, err)
	}
	ended := false
	s.t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	nodetest.Eventually(s.t, s.line, func() bool {
		s.answers(http.MethodGet, s.node.edge+"/api/told", nil, "")
		return strings.Contains(out.String(), "/api/told")
	})
	err := cmd.Process.Signal(syscall.SIGINT)
	ended = true
	if err = errors.Join(err, cmd.Wait()); err != nil {
		s.t.Errorf("%s: %v: %s", s.line, err, out.String())
	}
}

// answers retries until the status is below 400, and returns the body.
func (s *docShell) answers(method, url string, header http.Header, body string) string {
	s.t.Helper()
	answer, last := "", ""
	nodetest.Eventually(s.t, s.line, func() bool {
		req, err := http.NewRequestWithContext(s.t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			s.t.Fatalf("%s: %v", s.line, err)
		}
		maps.Copy(req.Header, header)
		resp, err := s.http.Do(req)
		now := fmt.Sprint(err)
		if err == nil {
			defer resp.Body.Close()
			text, readErr := io.ReadAll(resp.Body)
			if answer = string(text); readErr == nil && resp.StatusCode < http.StatusBadRequest {
				return true
			}
			now = fmt.Sprint(resp.Status, " ", answer, readErr)
		}
		if now != last {
			s.t.Logf("%s: %s", s.line, now)
			last = now
		}
		return false
	})
	return answer
}
