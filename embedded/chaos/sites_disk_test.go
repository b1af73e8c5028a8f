//go:build system

package chaos_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// siteDisk takes a node's disk away in several ways. The node must serve again soon, from what it has or by asking the
// others, never wrong bytes, and say what was wrong.
func siteDisk(t *testing.T, long bool) (seen string) {
	t.Helper()
	files := map[string]string{
		"/index.html": "deploy 1",
		"/large.bin":  strings.Repeat("0123456789abcde\n", 10<<16),
	}
	for i := range 500 {
		files[fmt.Sprintf("/f/%d.txt", i)] = strings.Repeat(fmt.Sprint(i), 10_000)
	}
	if !long {
		delete(files, "/large.bin")
		files["/large.bin"] = strings.Repeat("0123456789abcde\n", 1<<16)
	}
	c := startThree(t, siteRoutes)
	dir := filepath.Join(t.TempDir(), "deploy")
	writeFiles(t, dir, files)
	if _, err := publishTo(t.Context(), c.nodes[0], dir); err != nil {
		t.Fatal(err)
	}
	wiped := wipedDisk(t, c, files)
	damaged := damagedFiles(t, c, files)
	alone := withoutQuorum(t, c, files)
	return fmt.Sprintf("with a wiped disk a node served after %s and had all files after %s; a flipped and a cut file were "+
		"brought again and told after %s; started without quorum, it served after %s",
		wiped[0].Round(time.Millisecond), wiped[1].Round(time.Millisecond), damaged.Round(time.Millisecond),
		alone.Round(time.Millisecond))
}

// allRight reports whether a node serves all files with their content. Any other content of a file ends the trial.
func allRight(t *testing.T, n *nodeProcess, files map[string]string) bool {
	t.Helper()
	right := true
	for path, want := range files {
		status, body := get(n.edge + strings.TrimSuffix(path, "index.html"))
		if status == http.StatusOK && body != want {
			t.Fatalf("%s has wrong bytes: %d of them, want %d", path, len(body), len(want))
		}
		right = right && status == http.StatusOK
	}
	return right
}

// wipedDisk stops a node, deletes all its data, and starts it again. It returns after what time the node served a page,
// and all files.
func wipedDisk(t *testing.T, c *cluster, files map[string]string) (took [2]time.Duration) {
	t.Helper()
	c.nodes[2].kill()
	if err := os.RemoveAll(filepath.Join(c.dirs[2], "data")); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	c.start(t, 2)
	within(t, wait, "a node with a wiped disk serves", func() bool { return pageNumber(c.nodes[2]) == 1 })
	took[0] = time.Since(begun)
	within(t, wait, "it serves every file", func() bool { return allRight(t, c.nodes[2], files) })
	within(t, wait, "it has every file", func() bool { return len(blobFiles(t, c.dirs[2])) > len(files) })
	took[1] = time.Since(begun)
	c.whole(t)
	return took
}

// blobFiles returns the files of sites in a node's directory by their digests.
func blobFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	_ = filepath.WalkDir(filepath.Join(dir, "data", "blobs"), func(path string, e os.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && len(e.Name()) == 2*sha256.Size {
			out[e.Name()] = path
		}
		return nil // a directory may be gone again
	})
	return out
}

// damagedFiles kills a node, flips a byte of one of its files and cuts another, and starts it again.
func damagedFiles(t *testing.T, c *cluster, files map[string]string) time.Duration {
	t.Helper()
	c.nodes[2].kill()
	here := blobFiles(t, c.dirs[2])
	for i, path := range []string{"/f/7.txt", "/f/8.txt"} {
		sum := sha256.Sum256([]byte(files[path]))
		file := here[hex.EncodeToString(sum[:])]
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if data[5000] ^= 1; i == 1 {
			data = data[:4000]
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.start(t, 2)
	begun := time.Now()
	within(t, wait, "every file is right again", func() bool { return allRight(t, c.nodes[2], files) })
	within(t, wait, "status tells of wrong bytes", func() bool {
		return strings.Contains(strings.Join(c.nodes[2].status(t).Degraded, "\n"), "wrong bytes")
	})
	return time.Since(begun)
}

// withoutQuorum kills all nodes and starts one of them. It returns how long after its start that one served a page.
func withoutQuorum(t *testing.T, c *cluster, files map[string]string) time.Duration {
	t.Helper()
	for _, n := range c.nodes {
		n.kill()
	}
	begun := time.Now()
	c.start(t, 1)
	within(t, wait, "a node alone serves", func() bool { return pageNumber(c.nodes[1]) == 1 })
	took := time.Since(begun)
	if !allRight(t, c.nodes[1], files) {
		t.Error("a node alone doesn't serve every file")
	}
	c.start(t, 0)
	c.start(t, 2)
	c.whole(t)
	return took
}
