//go:build system

package chaos_test

import (
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// siteReaders lets a hundred clients read one large file at once. Each must get it whole; the memory that the node
// needs for them is told.
func siteReaders(t *testing.T, long bool) (seen string) {
	t.Helper()
	const readers = 100
	size := int64(32 << 20)
	if long {
		size = 1 << 30
	}
	n := startSiteNode(t, t.TempDir(), "n1", "local: auto")
	dir := t.TempDir()
	want := writeLarge(t, filepath.Join(dir, "large.bin"), size)
	writeText(t, filepath.Join(dir, "index.html"), "deploy 1")
	if _, err := publishTo(t.Context(), n, dir); err != nil {
		t.Fatal(err)
	}
	if sum, got, err := readSum(n.edge + "/large.bin"); err != nil || got != size || sum != want {
		t.Fatalf("one reader: %d bytes, %v", got, err)
	}
	// What the publish needed doesn't count.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", n.cmd.Process.Pid), []byte("5"), 0)
	before := mostMemory(n.cmd.Process.Pid)
	var reading sync.WaitGroup
	var wrong atomic.Int64
	begun := time.Now()
	for range readers {
		reading.Go(func() {
			if sum, got, err := readSum(n.edge + "/large.bin"); err != nil || got != size || sum != want {
				wrong.Add(1)
			}
		})
	}
	reading.Wait()
	took, after := time.Since(begun), mostMemory(n.cmd.Process.Pid)
	if wrong.Load() > 0 {
		t.Errorf("%d of %d readers didn't get the file", wrong.Load(), readers)
	}
	return fmt.Sprintf("%d readers of %d MiB had it after %s; the node's memory went from %d to %d MiB meanwhile",
		readers, size>>20, took.Round(time.Millisecond), before>>20, after>>20)
}

// writeLarge writes a file of random bytes, and returns their checksum.
func writeLarge(t *testing.T, name string, size int64) (sum uint32) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	hash := crc32.NewIEEE()
	if _, err = io.CopyN(io.MultiWriter(f, hash), rand.NewChaCha8([32]byte{3}), size); err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return hash.Sum32()
}

// readSum reads a response, and returns the checksum and the number of its bytes.
func readSum(url string) (sum uint32, n int64, err error) {
	resp, err := http.Get(url)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	hash := crc32.NewIEEE()
	n, err = io.Copy(hash, resp.Body)
	return hash.Sum32(), n, err
}
