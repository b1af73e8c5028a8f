package main

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"millrace/node/nodetest"
)

// A change is reported once, whether the file is written in place, replaced, or reached by a link that changes. A
// missing file isn't a change.
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
	read, err := os.Stat(at("link"))
	must(err)
	must(os.WriteFile(at("one"), []byte("written between"), 0o600))
	changes := watch(t.Context(), at("link"), read, every)
	select {
	case <-changes:
	case <-time.After(30 * time.Second):
		t.Error("written after it was read: no change was told")
	}
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

// run --watch applies a changed file by itself. A broken file changes nothing.
func TestRunWatch(t *testing.T) {
	dir := t.TempDir()
	write := func(expose string) (file string) {
		t.Helper()
		return writeConfig(t, dir, nodeYAML(t, dir)+"  expose: ["+expose+"]\n")
	}
	file := write("")
	p := startProcess(t, "run", "--watch", "-c", file)
	status := func() int {
		resp, err := http.Get(p.edge + "/hello")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return resp.StatusCode
	}
	if got := status(); got != http.StatusNotFound {
		t.Errorf("before: %d", got)
	}
	write("hello")
	// 503, since nobody subscribes
	nodetest.Eventually(t, "the new file is served", func() bool {
		return status() == http.StatusServiceUnavailable
	})
	write("Hello!")
	nodetest.Eventually(t, "the broken file is refused", func() bool {
		return journaled(p.status(t), "reload-refused", "millrace.yaml:11:")
	})
	if got := status(); got != http.StatusServiceUnavailable {
		t.Errorf("after the broken file: %d", got)
	}
}
