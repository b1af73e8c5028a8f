//go:build unix

package publish_test

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"millrace/embedded/publish"
	"millrace/node"
)

// secretText is in files outside of the folders, and in files that must not be published.
const secretText = "this text must never be published"

// hostile is a class of hostile folders.
type hostile struct {
	class string
	// make adds a variant to a folder that has an index.html. It returns the name that the message is about.
	make func(w *tree) string
	// want is part of the message.
	want     string
	severity publish.Severity
	opts     publish.ScanOptions
	// changes is what happens to the file after it was read; nil if nothing does.
	changes func(w *tree, name string, attempt int)
	// served are files that are published beside index.html.
	served int
}

// tree is variant n of a hostile folder, with the folder outside beside it that has outside.txt.
type tree struct {
	*testing.T

	dir, outside string
	n            int
}

func (w *tree) put(name, text string) {
	w.Helper()
	put(w.T, w.dir, name, text)
}

func (w *tree) link(target, name string) {
	w.Helper()
	at := filepath.Join(w.dir, name)
	w.must(os.MkdirAll(filepath.Dir(at), 0o755))
	w.must(os.Symlink(target, at))
}

func (w *tree) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// variants is how many folders there are of each class.
const variants = 8

// TestHostileFolders makes folders that try to get something published that isn't theirs, or to harm whoever reads
// them. Each gives its message, nothing outside of the folder is in the manifest, and no secret.
func TestHostileFolders(t *testing.T) {
	folders := 0
	for _, h := range hostileFolders() {
		t.Run(strings.ReplaceAll(h.class, " ", "-"), func(t *testing.T) {
			for n := range variants {
				folders++
				checkHostile(t, h, n)
			}
		})
	}
	if folders < 200 {
		t.Errorf("%d folders, want 200", folders)
	}
}

func checkHostile(t *testing.T, h hostile, n int) {
	t.Helper()
	top := t.TempDir()
	dir, outside := filepath.Join(top, "site"), filepath.Join(top, "outside")
	put(t, top, "outside/outside.txt", secretText)
	put(t, top, "site/index.html", "<h1>Hello</h1>")
	w := &tree{t, dir, outside, n}
	name := h.make(w)
	if h.changes != nil {
		h.opts = h.opts.WhileRead(func(read string, attempt int) {
			if read == name {
				h.changes(w, name, attempt)
			}
		})
	}
	f := scan(t, dir, h.opts)
	found := slices.ContainsFunc(f.Problems, func(p publish.Problem) bool {
		return p.Name == name && p.Severity == h.severity && strings.Contains(p.Message, h.want)
	})
	if !found {
		t.Errorf("%d: no %s %q about %q, but %v", n, h.severity, h.want, name, f.Problems)
	}
	if bad := f.Err() != nil; bad != (h.severity == publish.Bad) {
		t.Errorf("%d: refused: %v (%v)", n, bad, f.Err())
	}
	if got := len(f.Manifest().Files); got != h.served+1 && h.severity != publish.Bad {
		t.Errorf("%d: %v are served, want %d files", n, slices.Collect(maps.Keys(f.Manifest().Files)), h.served+1)
	}
	secret := node.DigestOf([]byte(secretText))
	for path, file := range f.Manifest().Files {
		if file.Digest == secret {
			t.Errorf("%d: the secret is in the manifest as %s", n, path)
		}
	}
}

// deepen returns a path that is n folders deep.
func deepen(n int, name string) string { return strings.Repeat("d/", n) + name }

func hostileFolders() []hostile {
	return slices.Concat(hostileLinks(), hostileKinds(), hostileNames(), hostileSecrets(), hostileBombs(),
		hostileCodings())
}

func hostileLinks() []hostile {
	return []hostile{
		{
			class: "relative link out", want: "leads out of the folder", severity: publish.Bad,
			make: func(w *tree) string {
				w.link(strings.Repeat("../", w.n+1)+"outside/outside.txt", deepen(w.n, "a.txt"))
				return deepen(w.n, "a.txt")
			},
		},
		{
			class: "absolute link out", want: "leads out of the folder", severity: publish.Bad,
			make: func(w *tree) string {
				targets := []string{
					w.outside + "/outside.txt", "/etc/passwd", "/proc/self/environ", "/dev/zero", "/", "//etc/passwd",
					w.dir + "/../outside/outside.txt", "/proc/self/root",
				}
				w.link(targets[w.n], deepen(w.n, "a.txt"))
				return deepen(w.n, "a.txt")
			},
		},
		{
			class: "chain of links out", want: "leads out of the folder", severity: publish.Bad,
			make: func(w *tree) string {
				for i := range w.n + 1 {
					w.link(fmt.Sprintf("l%d", i+1), fmt.Sprintf("l%d", i))
				}
				w.link("../outside/outside.txt", fmt.Sprintf("l%d", w.n+1))
				return "l0"
			},
		},
		{
			class: "link to a folder outside", want: "leads out of the folder", severity: publish.Bad,
			make: func(w *tree) string {
				w.link(strings.Repeat("../", w.n+1)+"outside", deepen(w.n, "a"))
				return deepen(w.n, "a")
			},
		},
		{
			class: "link out through a folder that is a link", want: "leads out of the folder", severity: publish.Bad,
			make: func(w *tree) string {
				w.put(deepen(w.n, "real/x.txt"), "x")
				w.link(strings.TrimSuffix(deepen(w.n, "real"), "/"), "near")
				// By its text alone it would stay in the folder: near is deeper than it looks.
				w.link("near/"+strings.Repeat("../", w.n+2)+"outside/outside.txt", "a.txt")
				return "a.txt"
			},
		},
		{
			class: "link to itself", want: "leads back to itself", severity: publish.Bad,
			make: func(w *tree) string {
				for i := range w.n + 1 {
					w.link(fmt.Sprintf("l%d", (i+1)%(w.n+1)), fmt.Sprintf("l%d", i))
				}
				return "l0"
			},
		},
		{
			class: "link to the folder that it is in", want: "leads back to itself", severity: publish.Bad,
			make: func(w *tree) string {
				w.link(strings.Repeat("../", w.n)+".", deepen(w.n, "a"))
				return deepen(w.n, "a")
			},
		},
		{
			class: "link to nothing", want: "doesn't exist", severity: publish.Bad,
			make: func(w *tree) string {
				w.link(fmt.Sprintf("gone%d", w.n), "a.txt")
				return "a.txt"
			},
		},
		{
			class: "link to a secret inside", want: "looks like a secret", severity: publish.Bad,
			make: func(w *tree) string {
				secrets := []string{
					".env", ".env.production", ".git/config", ".npmrc", ".aws/credentials", ".ssh/id_rsa", ".netrc",
					".ENV",
				}
				w.put(secrets[w.n], secretText)
				w.link(secrets[w.n], "config.txt")
				return "config.txt"
			},
		},
		{
			class: "many links to folders", want: "more than 400 files and folders", severity: publish.Bad,
			opts: publish.ScanOptions{Limits: publish.Limits{Files: 200}},
			make: func(w *tree) string {
				for i := range 12 { // 2 to the 12th ways
					w.link(fmt.Sprintf("../f%d", i+1), fmt.Sprintf("f%d/a", i))
					w.link(fmt.Sprintf("../f%d", i+1), fmt.Sprintf("f%d/b", i))
				}
				w.put(fmt.Sprintf("f12/%d.txt", w.n), "x")
				return ""
			},
		},
	}
}

func hostileKinds() []hostile {
	return []hostile{
		{
			class: "named pipe", want: "is a named pipe", severity: publish.Bad,
			make: func(w *tree) string {
				w.put(deepen(w.n, "x.txt"), "x")
				w.must(syscall.Mkfifo(filepath.Join(w.dir, deepen(w.n, "pipe")), 0o644))
				return deepen(w.n, "pipe")
			},
		},
		{
			class: "link to a named pipe", want: "is a named pipe", severity: publish.Bad,
			make: func(w *tree) string {
				w.must(syscall.Mkfifo(filepath.Join(w.dir, "pipe"), 0o644))
				w.link("pipe", fmt.Sprintf("a%d.txt", w.n))
				return fmt.Sprintf("a%d.txt", w.n)
			},
		},
		{
			class: "socket", want: "is a socket", severity: publish.Bad,
			make: func(w *tree) string {
				name := fmt.Sprintf("s%d", w.n)
				w.Chdir(w.dir) // the path of a socket is short
				l, err := net.Listen("unix", name)
				w.must(err)
				w.Cleanup(func() { _ = l.Close() })
				return name
			},
		},
		{
			class: "unreadable file", want: "can't be read", severity: publish.Bad,
			make: func(w *tree) string {
				name := fmt.Sprintf("f%d.txt", w.n)
				w.put(name, secretText)
				w.unreadable(name)
				return name
			},
		},
	}
}

// unreadable makes a file one that can't be read, also by root: it becomes a link to something in a file.
func (w *tree) unreadable(name string) {
	w.Helper()
	at := filepath.Join(w.dir, name)
	if os.Geteuid() != 0 {
		w.must(os.Chmod(at, 0))
		return
	}
	w.must(os.Remove(at))
	w.link("index.html/x", name)
}
