package main

import (
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

	"millrace/embedded/embeddedtest"
	"millrace/node/nodetest"
)

// startRun starts a node with that linger. rest is what its configuration has after nodeYAML.
func startRun(t *testing.T, linger, rest string) *process {
	t.Helper()
	dir := t.TempDir()
	text := strings.Replace(nodeYAML(t, dir), "linger: 0s", "linger: "+linger, 1)
	p := startProcess(t, "run", "-c", writeConfig(t, dir, text+rest))
	p.dir = dir
	return p
}

// end sends a signal and returns the exit code and how long the process took to end.
func (p *process) end(t *testing.T, s syscall.Signal) (code int, took time.Duration) {
	t.Helper()
	begin := time.Now()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	_ = p.cmd.Wait() // the exit code is in ProcessState
	return p.cmd.ProcessState.ExitCode(), time.Since(begin)
}

// Ctrl-C ends an idle node at once, whatever its linger, even if a client keeps a connection. SIGTERM, which
// orchestrators send, waits for the linger.
func TestCtrlCWhenNothingRuns(t *testing.T) {
	p := startRun(t, "60s", embeddedtest.YAML(t, `
		routes:
		  - path: /x
		    respond:
		      body: hi
		`))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Get(p.edge + "/x")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	code, took := p.end(t, syscall.SIGINT)
	if code != 0 || took > 30*time.Second {
		t.Errorf("Ctrl-C: exit code %d after %s; stderr: %s", code, took, p.stderr)
	}
	t.Logf("Ctrl-C took %s", took)
	if code, took = startRun(t, "1500ms", "").end(t, syscall.SIGTERM); code != 0 || took < 1500*time.Millisecond {
		t.Errorf("SIGTERM: exit code %d after %s, want 0 after the linger", code, took)
	}
}

// Ctrl-C while a request runs prints what the node waits for. A second one ends the node at once, with an exit code for
// failure.
func TestCtrlCTwice(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(entered)
		<-finish
	}))
	defer app.Close()
	defer close(finish)
	p := startProcess(t, "proxy", app.URL, "--listen", "127.0.0.1:0")
	failed := make(chan bool, 1)
	go func() {
		resp, err := http.Get(p.edge + "/slow")
		if err == nil {
			resp.Body.Close()
		}
		failed <- err != nil || resp.StatusCode >= 500
	}()
	<-entered
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "it says what it waits for", func() bool {
		return strings.Contains(p.stdout.String(), "waiting for 1 request; press Ctrl-C again to end at once\n")
	})
	code, took := p.end(t, syscall.SIGINT)
	const said = "millrace: ended at once, as asked: 1 request cut off\n"
	if code != exitFailed || took > 20*time.Second || !strings.Contains(p.stderr.String(), said) {
		t.Errorf("the second Ctrl-C: exit code %d after %s; stderr: %s", code, took, p.stderr)
	}
	t.Logf("the second Ctrl-C took %s", took)
	if !<-failed {
		t.Error("the request that ran was answered")
	}
	if left, err := os.ReadDir(p.temp); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

// A shutdown without requests names only what the node has: without limits there are no permits to return.
func TestWhatAShutdownWaitsFor(t *testing.T) {
	for _, c := range []struct {
		requests int
		limits   bool
		want     string
	}{
		{0, false, "the node to close its stores"},
		{0, true, "the store to take back permits and leases"},
		{1, true, "1 request"},
		{2, false, "2 requests"},
	} {
		if got := awaited(c.requests, c.limits); got != c.want {
			t.Errorf("%d requests, limits %t: %q, want %q", c.requests, c.limits, got, c.want)
		}
	}
}

// Durations in logs have a unit.
func TestDurationsInLogs(t *testing.T) {
	p := startRun(t, "0s", "")
	nodetest.Eventually(t, "it is ready", func() bool {
		return strings.Contains(p.stderr.String(), `"msg":"ready"`)
	})
	p.end(t, syscall.SIGTERM)
	for _, want := range []string{`"msg":"ready".*"took_ms":[0-9.]+}`, `"msg":"draining".*"linger_ms":0}`} {
		if !regexp.MustCompile(want).MatchString(p.stderr.String()) {
			t.Errorf("no %s in the log: %s", want, p.stderr)
		}
	}
	var text nodetest.Output
	log := logger(&text, true, 0).With("every", 1500*time.Microsecond)
	log.WithGroup("g").Info("m", "after", 2*time.Second, "count", 3)
	if got := text.String(); !strings.Contains(got, `"every_ms":1.5,"g":{"after_ms":2000,"count":3}}`) {
		t.Errorf("logged %s", got)
	}
}

// bash completes commands and flags through its script. The candidates come from the commands themselves.
func TestCompletionInBash(t *testing.T) {
	bin := t.TempDir()
	if err := os.Symlink(os.Args[0], filepath.Join(bin, "millrace")); err != nil {
		t.Fatal(err)
	}
	for words, want := range map[string]string{
		"millrace st": "status", "millrace run --wa": "--watch", "millrace limits ": "show reset",
		"millrace completion z": "zsh",
		"millrace purge --to":   "--token", "millrace -": "--help --version", "millrace run --config ": "",
		"millrace nothing": "", "millrace tail -c x --j": "--json",
	} {
		script := `source <(millrace completion bash); COMP_WORDS=(` + words +
			`); [[ "$1" = *' ' ]] && COMP_WORDS+=(''); ` +
			`COMP_CWORD=$((${#COMP_WORDS[@]}-1)); _millrace; echo "${COMPREPLY[@]}"`
		cmd := exec.CommandContext(t.Context(), "bash", "-c", script, "bash", words)
		cmd.Env = append(os.Environ(), beMillrace+"=1", "PATH="+bin+":"+os.Getenv("PATH"))
		got, err := cmd.CombinedOutput()
		if err != nil || strings.TrimSpace(string(got)) != want {
			t.Errorf("%q completes to %q, want %q (%v)", words, got, want, err)
		}
	}
}
