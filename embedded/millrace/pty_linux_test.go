package main

import (
	"bufio"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"millrace/node/nodetest"
)

// openTerminal opens a pseudo-terminal. What is written to terminal can be read from screen.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = screen.Close() })
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		terminal, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	return screen, terminal
}

// On a terminal a proxy prints a colored line for each request without being asked, and what a client sends can't act
// there.
func TestProxyOnATerminal(t *testing.T) {
	app := httptest.NewServer(http.NotFoundHandler())
	defer app.Close()
	screen, terminal := openTerminal(t)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), os.Args[0], "proxy", app.URL, "--listen",
		"127.0.0.1:0")
	cmd.Env = append(os.Environ(), beMillrace+"=1", "TMPDIR="+t.TempDir(), "NO_COLOR=")
	cmd.Stdout, cmd.Stderr = terminal, terminal
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	_ = terminal.Close() // the process has its own descriptor
	var shown nodetest.Output
	lines := bufio.NewScanner(screen)
	edge := ""
	for edge == "" && lines.Scan() {
		if _, url, ok := strings.Cut(lines.Text(), "edge   "); ok {
			edge, _, _ = strings.Cut(url, " ")
		}
	}
	if edge == "" {
		t.Fatal("no banner")
	}
	go func() {
		for lines.Scan() {
			_, _ = shown.Write(append(lines.Bytes(), '\n'))
		}
	}()
	nodetest.Eventually(t, "the request has its line", func() bool {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, edge+"/x?y=%1b", nil)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return strings.Contains(shown.String(), "\x1b[33m404\x1b[0m  GET    \"") &&
			strings.Contains(shown.String(), `/x?y=%1b"`)
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v: %s", err, shown.String())
	}
}
