package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A change is told once, whether the file is written in place, replaced, or reached by a link that moves on; a file that
// is away isn't a change.
func TestWatch(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(at("one"), []byte("1"), 0o600))
	must(os.WriteFile(at("two"), []byte("2"), 0o600))
	must(os.Symlink(at("one"), at("link")))
	const every = 5 * time.Millisecond
	changes := watch(t.Context(), at("link"), every)
	for name, change := range map[string]func(){
		"written in place": func() { must(os.WriteFile(at("one"), []byte("longer"), 0o600)) },
		"replaced": func() {
			must(os.WriteFile(at("new"), []byte("3"), 0o600))
			must(os.Rename(at("new"), at("one")))
		},
	} {
		change()
		select {
		case <-changes:
		case <-time.After(30 * time.Second):
			t.Errorf("%s: no change was told", name)
		}
	}
	must(os.Remove(at("link")))
	must(os.Symlink(at("two"), at("link")))
	select {
	case <-changes:
	case <-time.After(30 * time.Second):
		t.Error("link moved: no change was told")
	}
	must(os.Rename(at("two"), at("away")))
	select {
	case <-changes:
		t.Error("a missing file was told as a change")
	case <-time.After(20 * every):
	}
	must(os.Rename(at("away"), at("two")))
	select {
	case <-changes:
		t.Error("the same file was told as a change")
	case <-time.After(20 * every):
	}
}
