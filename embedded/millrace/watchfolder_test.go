package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// Each change of a folder is told once it is over: new, changed, renamed and removed files, at any depth.
func TestWatchFolder(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("a.html"), []byte("a"), 0o600))
	changes := watchFolder(t.Context(), dir, time.Millisecond)
	told := func() bool {
		select {
		case <-changes:
			return true
		default:
			return false
		}
	}
	for _, c := range []struct {
		what   string
		change func() error
	}{
		{"a new file", func() error { return os.WriteFile(at("b.html"), []byte("b"), 0o600) }},
		{"another size", func() error { return os.WriteFile(at("a.html"), []byte("another"), 0o600) }},
		{"another time", func() error { return os.Chtimes(at("a.html"), time.Now(), time.Now().Add(time.Hour)) }},
		{"a folder", func() error { return os.MkdirAll(at("deep/deeper"), 0o700) }},
		{"a link", func() error { return os.Symlink("a.html", at("link.html")) }},
		{"another name", func() error { return os.Rename(at("a.html"), at("deep/deeper/a.html")) }},
		{"a removed file", func() error { return os.Remove(at("b.html")) }},
	} {
		must(c.change())
		nodetest.Eventually(t, c.what+" is told", told)
	}
}

// A folder that a build removes and makes anew hasn't changed if it is the same afterwards.
func TestFingerprint(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dist")
	if _, ok := fingerprint(t.Context(), dir); ok {
		t.Error("a folder that isn't there has a fingerprint")
	}
	when := time.Now()
	fill := func() [32]byte {
		t.Helper()
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(filepath.Join(dir, "x"), when, when); err != nil {
			t.Fatal(err)
		}
		sum, ok := fingerprint(t.Context(), dir)
		if !ok {
			t.Fatal("no fingerprint")
		}
		return sum
	}
	first := fill()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if fill() != first {
		t.Error("the same folder has another fingerprint")
	}
}
