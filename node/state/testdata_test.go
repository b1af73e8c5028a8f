package state_test

import (
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"millrace/node/state"
)

// Each released version has a file in testdata that must always open: v<n>.db, and v<n>.txt with its contents. With
// -update the test writes the newest one again, as long as no release has created such files.
const newest = "v2"

func TestOldVersionsOpen(t *testing.T) {
	if *update {
		write(t, filepath.Join("testdata", newest+".db"), makeFile(t))
		write(t, filepath.Join("testdata", newest+".txt"), []byte(dump(t, filepath.Join("testdata", newest+".db"))))
	}
	files, err := filepath.Glob("testdata/v*.db")
	if err != nil || len(files) == 0 {
		t.Fatalf("testdata: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want := string(read(t, strings.TrimSuffix(file, ".db")+".txt"))
			if got := dump(t, file); got != want {
				t.Errorf("contents:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func makeFile(t *testing.T) []byte {
	t.Helper()
	path := newPath(t)
	filled(t, path)
	return read(t, path)
}

// dump opens a copy of a file and returns its contents as a text.
func dump(t *testing.T, file string) string {
	t.Helper()
	path := newPath(t)
	write(t, path, read(t, file))
	s := open(t, path)
	if s.SetAside() != "" {
		t.Fatalf("%s was set aside", file)
	}
	id := identity(t, s)
	secret, err := s.Secret(t.Context(), "mesh.token")
	if err != nil {
		t.Fatal(err)
	}
	configs, err := s.Configs(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	fmt.Fprintf(&out, "identity %s %s %s\n", id.ID, hex.EncodeToString(id.Key.Seed()), stamp(id.Created))
	fmt.Fprintf(&out, "secret mesh.token %s\n", secret)
	for _, c := range configs {
		fmt.Fprintf(&out, "config %d %q %q %s\n", c.Revision, c.Text, c.Source, stamp(c.Applied))
	}
	for _, e := range events(t, s, 0) {
		fmt.Fprintf(&out, "event %d %s %q %q\n", e.Seq, stamp(e.Time), e.Kind, e.Detail)
	}
	if note, err := s.Note(t.Context(), "test"); err == nil {
		fmt.Fprintf(&out, "note %q\n", note)
	} else if !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	record(t, s, "can be written")
	if _, err := s.SaveConfig(t.Context(), "another", "test"); err != nil {
		t.Error(err)
	}
	return out.String()
}

func stamp(at time.Time) string { return at.Format(time.RFC3339Nano) }
