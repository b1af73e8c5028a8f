package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"millrace/node/state"
)

func TestNewChecksPath(t *testing.T) {
	if _, err := state.New(state.Config{}); err == nil {
		t.Fatal("New without a path: no error")
	}
}

func TestNewDoesNoIO(t *testing.T) {
	dir := t.TempDir()
	newStore(t, filepath.Join(dir, "node.db"))
	if got := names(t, dir); len(got) != 0 {
		t.Fatalf("New made %v", got)
	}
}

func TestReopenKeepsEverything(t *testing.T) {
	path := newPath(t)
	want := filled(t, path)
	s := open(t, path)

	got := identity(t, s)
	if got.ID != want.ID || !got.Key.Equal(want.Key) || !got.Created.Equal(epoch) {
		t.Errorf("identity %v of %v, want %v of %v", got, got.Created, want, epoch)
	}
	last, err := s.LastConfig(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := (state.ConfigRevision{
		Revision: 2, Text: "version: 1\nroutes: []\n", Source: "millrace.yaml",
		Applied: epoch,
	}); last != want {
		t.Errorf("last config %+v, want %+v", last, want)
	}
	if got := events(t, s, 1); len(got) != 1 ||
		got[0] != (state.Event{Seq: 3, Time: epoch, Kind: "test", Detail: "third"}) {
		t.Errorf("last event %+v", got)
	}
	if aside := s.SetAside(); aside != "" {
		t.Errorf("set aside %q", aside)
	}
}

func TestCloseLeavesOneFile(t *testing.T) {
	path := newPath(t)
	filled(t, path)
	if got := names(t, filepath.Dir(path)); len(got) != 1 || got[0] != "node.db" {
		t.Fatalf("after Close: %v, want only node.db", got)
	}
}

func TestFileModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data", "node.db")
	s := open(t, path)
	record(t, s, "so that there is a log")
	for name, want := range map[string]os.FileMode{
		filepath.Dir(path): 0o700 | os.ModeDir, path: 0o600, path + "-wal": 0o600, path + "-shm": 0o600,
		path + ".lock": 0o600,
	} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), want)
		}
	}
}

func TestPathIsEscaped(t *testing.T) {
	for _, name := range []string{"a?mode=memory", "a#b", "a%20b", "a b", "ü"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), name)
			id := filled(t, path)
			if got := identity(t, open(t, path)); got.ID != id.ID {
				t.Errorf("identity %v, want %v", got, id)
			}
			if got := names(t, filepath.Dir(path)); got[0] != name {
				t.Errorf("files %q", got)
			}
		})
	}
}

func TestRelativePath(t *testing.T) {
	t.Chdir(t.TempDir())
	id := filled(t, "node.db")
	if got := identity(t, open(t, "./node.db")); got.ID != id.ID {
		t.Errorf("identity %v, want %v", got, id)
	}
}

func TestLifecycle(t *testing.T) {
	s := newStore(t, newPath(t))
	closeStore(t, s) // never opened
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err == nil {
		t.Error("second Open: no error")
	}
	record(t, s, "the second Open did no harm")
	id := identity(t, s)
	closeStore(t, s)
	closeStore(t, s)
	if err := s.Open(t.Context()); err != nil {
		t.Fatalf("open again: %v", err)
	}
	if got := identity(t, s); got.ID != id.ID {
		t.Errorf("identity %v, want %v", got, id)
	}
	closeStore(t, s)
}

func TestNotOpen(t *testing.T) {
	s, ctx := newStore(t, newPath(t)), t.Context()
	for name, call := range map[string]func() error{
		"Identity":   func() error { _, err := s.Identity(ctx); return err },
		"Secret":     func() error { _, err := s.Secret(ctx, "x"); return err },
		"SaveConfig": func() error { _, err := s.SaveConfig(ctx, "x", "y"); return err },
		"LastConfig": func() error { _, err := s.LastConfig(ctx); return err },
		"Configs":    func() error { _, err := s.Configs(ctx, 1); return err },
		"Record":     func() error { return s.Record(ctx, "x", "y") },
		"Events":     func() error { _, err := s.Events(ctx, 1); return err },
	} {
		if err := call(); !errors.Is(err, state.ErrNotOpen) {
			t.Errorf("%s: %v, want ErrNotOpen", name, err)
		}
	}
	if got := s.SetAside(); got != "" {
		t.Errorf("SetAside %q", got)
	}
}

func TestContextEnds(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Record(ctx, "test", "late"); !errors.Is(err, context.Canceled) {
		t.Errorf("Record: %v", err)
	}
	if _, err := s.Events(ctx, 1); !errors.Is(err, context.Canceled) {
		t.Errorf("Events: %v", err)
	}
	record(t, s, "in time")
	if got := events(t, s, 0); len(got) != 1 || got[0].Detail != "in time" {
		t.Errorf("events %+v", got)
	}
}

func TestInUse(t *testing.T) {
	path := newPath(t)
	first, second := open(t, path), newStore(t, path)
	err := second.Open(t.Context())
	if !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Fatalf("second node: %v, want ErrInUse naming %s", err, path)
	}
	record(t, first, "undisturbed")
	closeStore(t, first)
	if err := second.Open(t.Context()); err != nil {
		t.Fatalf("after the first closed: %v", err)
	}
	if got := events(t, second, 0); len(got) != 1 {
		t.Errorf("events %+v", got)
	}
	closeStore(t, second)
}

func TestCloseWaitsForCallers(t *testing.T) {
	s := open(t, newPath(t))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				err := s.Record(t.Context(), "test", "until closed")
				if errors.Is(err, state.ErrNotOpen) {
					return
				}
				if err != nil {
					t.Errorf("record: %v", err)
					return
				}
			}
		})
	}
	closeStore(t, s)
	wg.Wait()
}

func TestPragmas(t *testing.T) {
	path := newPath(t)
	filled(t, path)
	db := rawOpen(t, path)
	defer db.Close()
	for query, want := range map[string]string{
		"PRAGMA journal_mode":   "wal", // kept in the file, as are the others
		"PRAGMA user_version":   "2",
		"PRAGMA application_id": "1298754668",
		"SELECT count(*) FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND NOT strict AND name NOT " +
			"LIKE 'sqlite_%'": "0",
	} {
		var got string
		if err := db.QueryRow(query).Scan(&got); err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("%s is %s, want %s", query, got, want)
		}
	}
}

func TestIdentityPrintsNoKey(t *testing.T) {
	id := identity(t, open(t, newPath(t)))
	if len(id.ID) != 26 || strings.Trim(id.ID, "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("ID %q", id.ID)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("started", "node", id)
	if !strings.Contains(log.String(), `"node":"`+id.ID+`"`) || strings.Contains(log.String(), "Key") {
		t.Errorf("logs as %s", log.String())
	}
	if got := fmt.Sprintf("%v %+v", id, id); got != id.ID+" "+id.ID {
		t.Errorf("prints as %s", got)
	}
}
