package publish_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"millrace/embedded/publish"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// write makes a folder with the files, by name with slashes.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		put(t, dir, name, text)
	}
	return dir
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	at := filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// scan reads a folder; it is closed when the test ends.
func scan(t *testing.T, dir string, opts publish.ScanOptions) *publish.Folder {
	t.Helper()
	f, err := publish.Scan(t.Context(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func paths(f *publish.Folder) []string {
	return slices.Sorted(maps.Keys(f.Manifest().Files))
}

// texts returns the problems of a severity as they are printed.
func texts(f *publish.Folder, severity publish.Severity) []string {
	var all []string
	for _, p := range f.Problems {
		if p.Severity == severity {
			all = append(all, p.String())
		}
	}
	return all
}

// prose returns text that compresses, the same for the same seed.
func prose(seed uint64, size int) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	for b.Len() < size {
		fmt.Fprintf(&b, "function f%d(a) { return a + %d }\n", r.IntN(500), r.IntN(1000))
	}
	return b.String()[:size]
}

// noise returns bytes that don't compress.
func noise(seed uint64, size int) string {
	r := rand.New(rand.NewPCG(seed, 2))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// noWait is Config.Wait of tests.
func noWait(ctx context.Context, _ int) error { return ctx.Err() }
