package state_test

import (
	"context"
	"database/sql"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"millrace/node/state"
)

var update = flag.Bool("update", false, "write testdata again (only before the version is released)")

// childEnv makes the test binary a child process that records events until it is killed: see
// TestKillLosesNothingAcknowledged.
const childEnv = "MILLRACE_STATE_TEST_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		recordForever(path)
		return
	}
	goleak.VerifyTestMain(m)
}

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 89_000, time.UTC)

func fixedNow() time.Time { return epoch }

func newPath(tb testing.TB) string {
	tb.Helper()
	return filepath.Join(tb.TempDir(), "node.db")
}

func newStore(tb testing.TB, path string) *state.Store {
	tb.Helper()
	s, err := state.New(state.Config{Path: path, Now: fixedNow})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// open returns an open Store, which is closed at the end of the test.
func open(tb testing.TB, path string) *state.Store {
	tb.Helper()
	s := newStore(tb, path)
	if err := s.Open(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { closeStore(tb, s) })
	return s
}

func closeStore(tb testing.TB, s *state.Store) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Errorf("close: %v", err)
	}
}

// filled makes a closed state file with a few rows in each table and returns its identity.
func filled(tb testing.TB, path string) state.Identity {
	tb.Helper()
	s := open(tb, path)
	for _, text := range []string{"version: 1\n", "version: 1\nroutes: []\n"} {
		if _, err := s.SaveConfig(tb.Context(), text, "millrace.yaml"); err != nil {
			tb.Fatal(err)
		}
	}
	for _, detail := range []string{"first", "second", "third"} {
		record(tb, s, detail)
	}
	if _, err := s.Secret(tb.Context(), "mesh.token"); err != nil {
		tb.Fatal(err)
	}
	if err := s.SetNote(tb.Context(), "test", []byte("a note")); err != nil {
		tb.Fatal(err)
	}
	id := identity(tb, s)
	closeStore(tb, s)
	return id
}

func record(tb testing.TB, s *state.Store, detail string) {
	tb.Helper()
	if err := s.Record(tb.Context(), "test", detail); err != nil {
		tb.Fatal(err)
	}
}

func identity(tb testing.TB, s *state.Store) state.Identity {
	tb.Helper()
	id, err := s.Identity(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	return id
}

func events(tb testing.TB, s *state.Store, limit int) []state.Event {
	tb.Helper()
	list, err := s.Events(tb.Context(), limit)
	if err != nil {
		tb.Fatal(err)
	}
	return list
}

// rawExec runs SQL on a file without the Store.
func rawExec(tb testing.TB, path string, queries ...string) {
	tb.Helper()
	db := rawOpen(tb, path)
	for _, q := range queries {
		if _, err := db.ExecContext(context.Background(), q); err != nil {
			tb.Fatalf("%s: %v", q, err)
		}
	}
	if err := db.Close(); err != nil {
		tb.Fatal(err)
	}
}

func rawOpen(tb testing.TB, path string) *sql.DB {
	tb.Helper()
	db, err := sql.Open("sqlite3", "file:"+(&url.URL{Path: path}).EscapedPath())
	if err != nil {
		tb.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	return db
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func write(tb testing.TB, path string, b []byte) {
	tb.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		tb.Fatal(err)
	}
}

// names returns the files of a directory without the lock file.
func names(tb testing.TB, dir string) []string {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".lock" {
			list = append(list, e.Name())
		}
	}
	return list
}
