package main

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"millrace/node/nodetest"
)

// A preview shows each change of the folder. A mistake is told, and what was there before stays; without the mistake
// the change shows. Nothing temporary stays behind.
func TestPreviewTellsMistakes(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("index.html", "<h1>The first</h1>")
	p := startProcess(t, "preview", dir, "--listen", "127.0.0.1:0")
	shows := func(text string) bool {
		resp, err := http.Get(p.edge + "/")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return err == nil && resp.StatusCode == http.StatusOK && strings.Contains(string(body), text)
	}
	nodetest.Eventually(t, "the folder shows", func() bool { return shows("The first") })
	write("_redirects", "/a /b 999\n")
	write("index.html", "<h1>The second</h1>")
	nodetest.Eventually(t, "the mistake is told", func() bool {
		return strings.Contains(p.stderr.String(), dir+" isn't published: the folder can't be published:\n"+
			"  _redirects:1:7: status 999 isn't one of a rule")
	})
	if !shows("The first") {
		t.Error("what was published before the mistake isn't shown any more")
	}
	write("_redirects", "/a /b 301\n")
	nodetest.Eventually(t, "the change shows", func() bool { return shows("The second") })
	if code, _ := p.end(t, syscall.SIGINT); code != exitOK {
		t.Errorf("exit code %d: %s", code, p.stderr)
	}
	left, err := os.ReadDir(p.temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
