package embedded_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/embedded/publish"
	"millrace/node/nodetest"
)

// publishFiles publishes files to the site www through a node.
func publishFiles(t *testing.T, adminURL string, files map[string]string) (*publish.Result, error) {
	t.Helper()
	dir := t.TempDir()
	for path, text := range files {
		file := filepath.Join(dir, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, file, text)
	}
	client, err := publish.NewClient(publish.Config{URL: adminURL})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	folder, err := publish.Scan(t.Context(), dir, publish.ScanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer folder.Close()
	return client.Publish(t.Context(), folder, publish.Request{Site: "www"})
}

// siteGet asks for a path of the host www.test.
func siteGet(t *testing.T, edgeURL, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edgeURL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "www.test"
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(text)
}

// A leaf has what was published at its hub as soon as that is live, and serves it while it is cut off, also after a
// restart. What is published meanwhile it has soon after the cut. It publishes nothing itself.
func TestLeafServesSites(t *testing.T) {
	url, _ := counted(t)
	hub, leaf, link, opts := hubAndLeaf(t, url, 10*time.Millisecond)
	nodetest.Eventually(t, "both know of each other", func() bool {
		return len(hub.Status().Nodes) == 2 && len(leaf.Status().Nodes) == 2
	})
	large := strings.Repeat("0123456789abcdef", 1<<16)
	done, err := publishFiles(t, hub.AdminURL(), map[string]string{"index.html": "one", "large.bin": large})
	if err != nil || len(done.Behind) > 0 {
		t.Fatalf("got %+v, %v", done, err)
	}
	for path, want := range map[string]string{"/": "one", "/large.bin": large} {
		if status, body := siteGet(t, leaf.EdgeURL(), path); status != http.StatusOK || body != want {
			t.Errorf("%s: %d, %d bytes", path, status, len(body))
		}
	}
	if _, err := publishFiles(t, leaf.AdminURL(), map[string]string{"index.html": "x"}); err == nil ||
		!strings.Contains(err.Error(), "leaf") {
		t.Errorf("a leaf published: %v", err)
	}
	link.Cut()
	if status, body := siteGet(t, leaf.EdgeURL(), "/"); status != http.StatusOK || body != "one" {
		t.Errorf("cut off: %d %s", status, body)
	}
	if err := leaf.Close(); err != nil {
		t.Fatal(err)
	}
	leaf = open(t, opts)
	for path, want := range map[string]string{"/": "one", "/large.bin": large} {
		if status, body := siteGet(t, leaf.EdgeURL(), path); status != http.StatusOK || body != want {
			t.Errorf("cut off and restarted: %s: %d, %d bytes", path, status, len(body))
		}
	}
	if _, err := publishFiles(t, hub.AdminURL(), map[string]string{"index.html": "two"}); err != nil {
		t.Fatal(err)
	}
	link.Heal()
	nodetest.Eventually(t, "the leaf serves what was published meanwhile", func() bool {
		_, body := siteGet(t, leaf.EdgeURL(), "/")
		return body == "two"
	})
}
