package state_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"millrace/node/state"
)

const pageSize = 4096

func flip(b []byte) []byte {
	b = bytes.Clone(b)
	for i := range b {
		b[i] ^= 0xff
	}
	return b
}

func TestCorruptIsSetAside(t *testing.T) {
	sound := func() []byte {
		path := newPath(t)
		filled(t, path)
		return read(t, path)
	}()
	pages := len(sound) / pageSize
	random := make([]byte, 3*pageSize)
	_, _ = rand.Read(random)

	cases := map[string][]byte{
		"text":                []byte("this is not a database\n"),
		"random":              random,
		"zeros":               make([]byte, 2*pageSize),
		"header only":         sound[:16],
		"half the first page": sound[:pageSize/2],
		"cut at a page":       sound[:pageSize],
		"cut within a page":   sound[:len(sound)-pageSize/2],
		"version 0":           slices.Concat(sound[:60], []byte{0, 0, 0, 0}, sound[64:]),
	}
	for n := range pages {
		cases["flipped page "+string(rune('1'+n))] = slices.Concat(
			sound[:n*pageSize], flip(sound[n*pageSize:(n+1)*pageSize]), sound[(n+1)*pageSize:])
	}
	for name, bad := range cases {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			write(t, path, bad)
			s := open(t, path)
			if want := path + ".corrupt-20260304T050607Z"; s.SetAside() != want {
				t.Fatalf("set aside %q, want %q", s.SetAside(), want)
			}
			if !bytes.Equal(read(t, s.SetAside()), bad) {
				t.Error("the old bytes changed")
			}
			if got := events(t, s, 0); len(got) != 0 {
				t.Errorf("the new file has events: %+v", got)
			}
			record(t, s, "works")
			closeStore(t, s)
			if s = open(t, path); s.SetAside() != "" {
				t.Errorf("set aside %q at the next Open", s.SetAside())
			}
		})
	}
}

func TestCorruptIsSetAsideWithItsLog(t *testing.T) {
	for name, bad := range map[string][]byte{"garbage": bytes.Repeat([]byte("x"), pageSize), "emptied": {}} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			filled(t, path)
			s := open(t, path)
			record(t, s, "in the log") // and the first page isn't: SQLite can't heal the file from the log
			wal := read(t, path+"-wal")

			path = newPath(t)
			write(t, path, bad)
			write(t, path+"-wal", wal)
			write(t, path+"-shm", []byte("index"))
			s = open(t, path)
			aside := s.SetAside()
			if aside == "" {
				t.Fatal("not set aside")
			}
			if !bytes.Equal(read(t, aside), bad) || !bytes.Equal(read(t, aside+"-wal"), wal) {
				t.Error("the old bytes changed")
			}
			if _, err := os.Stat(aside + "-shm"); err != nil {
				t.Error(err)
			}
			if got := events(t, s, 0); len(got) != 0 {
				t.Errorf("the new file has the old log's events: %+v", got)
			}
		})
	}
}

func TestSetAsideNeverOverwrites(t *testing.T) {
	path := newPath(t)
	base := path + ".corrupt-20260304T050607Z"
	write(t, base+"-wal", []byte("an older log"))
	var got []string
	for _, text := range []string{"bad 1", "bad 2"} {
		write(t, path, []byte(text))
		s := open(t, path)
		got = append(got, s.SetAside())
		closeStore(t, s)
	}
	if want := []string{base + "-2", base + "-3"}; !slices.Equal(got, want) {
		t.Fatalf("set aside %v, want %v", got, want)
	}
	for name, want := range map[string]string{
		base + "-wal": "an older log", base + "-2": "bad 1",
		base + "-3": "bad 2",
	} {
		if string(read(t, name)) != want {
			t.Errorf("%s was overwritten", name)
		}
	}
}

// A corrupt file whose new name the file system won't have is an error, and stays.
func TestSetAsideFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("n", 240)) // 255 bytes are the most a name may have
	write(t, path, []byte("bad"))
	err := newStore(t, path).Open(t.Context())
	if err == nil || !strings.Contains(err.Error(), "set corrupt file aside") {
		t.Fatalf("open: %v", err)
	}
	if string(read(t, path)) != "bad" {
		t.Error("the file was touched")
	}
}

// refused opens a file that isn't ours to write and checks that it and what is beside it are as before.
func refused(t *testing.T, path string, want error) error {
	t.Helper()
	dir := filepath.Dir(path)
	before := map[string][]byte{}
	for _, name := range names(t, dir) {
		before[name] = read(t, filepath.Join(dir, name))
	}
	err := newStore(t, path).Open(t.Context())
	if !errors.Is(err, want) {
		t.Fatalf("open: %v, want %v", err, want)
	}
	for _, name := range names(t, dir) {
		old, ok := before[name]
		if !ok && strings.HasSuffix(name, "-shm") && before[filepath.Base(path)+"-wal"] != nil {
			continue // the index of a log, which can't be read without one
		}
		if !ok || !bytes.Equal(read(t, filepath.Join(dir, name)), old) {
			t.Errorf("%s was touched or made", name)
		}
		delete(before, name)
	}
	if len(before) > 0 {
		t.Errorf("%d files are gone", len(before))
	}
	return err
}

func TestNewerIsRefused(t *testing.T) {
	path := newPath(t)
	filled(t, path)
	rawExec(t, path, "PRAGMA user_version = 7")
	err := refused(t, path, state.ErrNewer)
	for _, part := range []string{path, "version is 7", "up to 2", "upgrade the binary", "another data directory"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q doesn't say %q", err, part)
		}
	}
}

// The newer version may be in the log only: the newer node was killed before a checkpoint.
func TestNewerInLogIsRefused(t *testing.T) {
	path := newPath(t)
	filled(t, path)
	db := rawOpen(t, path)
	defer db.Close()
	if _, err := db.Exec("PRAGMA user_version = 7"); err != nil {
		t.Fatal(err)
	}
	copied := copyLive(t, path)
	refused(t, copied, state.ErrNewer)
}

func TestForeignIsRefused(t *testing.T) {
	for name, setup := range map[string][]string{
		"other id":         {"PRAGMA application_id = 252006673", "CREATE TABLE t (a)"},
		"negative id":      {"PRAGMA application_id = -5", "CREATE TABLE t (a)"},
		"no id, tables":    {"CREATE TABLE t (a)", "INSERT INTO t VALUES (1)"},
		"no id, version":   {"PRAGMA user_version = 3"},
		"no id, WAL":       {"PRAGMA journal_mode = WAL", "CREATE TABLE t (a)"},
		"other id, no row": {"PRAGMA application_id = 1"},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			rawExec(t, path, setup...)
			if err := refused(t, path, state.ErrForeign); !strings.Contains(err.Error(), path) {
				t.Errorf("%q doesn't name the path", err)
			}
		})
	}
}

// A foreign file is refused, not set aside, even if it is damaged.
func TestDamagedForeignIsRefused(t *testing.T) {
	path := newPath(t)
	rawExec(t, path, "PRAGMA application_id = 252006673", "CREATE TABLE t (a)", "INSERT INTO t VALUES (1)")
	b := read(t, path)
	write(t, path, slices.Concat(b[:pageSize], flip(b[pageSize:])))
	refused(t, path, state.ErrForeign)
}

// What a creation leaves that was killed before its first migration is a new file.
func TestUnfinishedCreationIsANewFile(t *testing.T) {
	for name, setup := range map[string][]string{
		"empty file": nil,
		"WAL set":    {"PRAGMA journal_mode = WAL"},
		"vacuumed":   {"VACUUM"},
	} {
		t.Run(name, func(t *testing.T) {
			path := newPath(t)
			write(t, path, nil)
			rawExec(t, path, setup...)
			s := open(t, path)
			record(t, s, "works")
			if s.SetAside() != "" {
				t.Errorf("set aside %q", s.SetAside())
			}
		})
	}
}

func TestNotWritable(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	write(t, file, nil)
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"parent is a file":      filepath.Join(file, "node.db"),
		"grandparent is a file": filepath.Join(file, "data", "node.db"),
		"path is a directory":   filepath.Join(dir, "dir"),
		"kernel refuses":        "/proc/self/node.db",
	} {
		t.Run(name, func(t *testing.T) {
			err := newStore(t, path).Open(t.Context())
			perr, ok := errors.AsType[*fs.PathError](err)
			if !ok || !strings.Contains(err.Error(), path) ||
				!strings.Contains(err.Error(), "hint: the data directory must") {
				t.Errorf("error %q (path error: %v)", err, perr)
			}
		})
	}
}

func TestReadOnly(t *testing.T) {
	if os.Geteuid() == 0 { // root may write to read-only files and directories
		asNobody(t, "TestReadOnly")
		return
	}
	path := newPath(t)
	filled(t, path)
	for name, mode := range map[string]os.FileMode{path: 0o400, filepath.Dir(path): 0o500} {
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		err := newStore(t, path).Open(t.Context())
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "hint:") {
			t.Errorf("%s with mode %v: %v", name, mode, err)
		}
		if err := os.Chmod(name, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if s := open(t, path); len(events(t, s, 0)) != 3 {
		t.Error("events are lost")
	}
}

// asNobody runs one test of this binary again, as a user without privileges, from a directory that this user can read.
func asNobody(t *testing.T, test string) {
	t.Helper()
	const nobody = 65534
	dir, err := os.MkdirTemp("", "nobody-*") //nolint:usetesting // the parents of t.TempDir are closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program, err := os.ReadFile(os.Args[0])
	binary := filepath.Join(dir, "state.test")
	if err = errors.Join(err, os.WriteFile(binary, program, 0o755), os.Chown(dir, nobody, nobody),
		os.Chmod(binary, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.run=^"+test+"$", "-test.v")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+test) {
		t.Errorf("as a user without privileges: %v\n%s", err, out)
	}
}

// An operator's shell that holds the file is no corruption.
func TestBusyIsNotSetAside(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	filled(t, path)
	db := rawOpen(t, path)
	defer db.Close()
	for _, q := range []string{
		"PRAGMA locking_mode = EXCLUSIVE",
		"INSERT INTO events (time_us, kind, detail) VALUES (0, 'x', 'y')",
	} {
		if _, err := db.Exec(q); err != nil {
			t.Fatal(err)
		}
	}
	s := newStore(t, path)
	if err := s.Open(t.Context()); err == nil || !strings.Contains(err.Error(), "locked") {
		t.Fatalf("open: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatalf("after the shell closed: %v", err)
	}
	if got := events(t, s, 0); len(got) != 4 || s.SetAside() != "" {
		t.Errorf("%d events, set aside %q", len(got), s.SetAside())
	}
	closeStore(t, s)
}

func TestOpenCanceled(t *testing.T) {
	path := newPath(t)
	filled(t, path)
	before := read(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := newStore(t, path).Open(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("open: %v", err)
	}
	if !bytes.Equal(read(t, path), before) {
		t.Error("the file was touched")
	}
	if s := open(t, path); s.SetAside() != "" { // the lock was released, too
		t.Errorf("set aside %q", s.SetAside())
	}
}
