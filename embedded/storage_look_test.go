package embedded

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// brokenStore doesn't store until it has been opened needs times.
type brokenStore struct {
	needs  int
	opened int
}

func (s *brokenStore) Trouble() string {
	if s.opened < s.needs {
		return "a write error"
	}
	return ""
}

func (s *brokenStore) Reopen() error {
	if s.opened++; s.opened < s.needs {
		return errors.New("no luck yet")
	}
	return nil
}

func conditionText(s *storage) string {
	var f conditionList
	s.conditions(&f)
	return strings.Join(append(f.blocking, f.other...), "\n")
}

// A store that doesn't store is reopened, at growing intervals, until it does, but not while its disk can't be written.
func TestStoreIsOpenedAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	store := &brokenStore{needs: 2}
	s := &storage{dir: dir, store: store, log: slog.New(slog.DiscardHandler), record: func(string, string) {}}
	for range 5 { // there is no directory to write to
		s.check()
	}
	if store.opened != 0 || !strings.Contains(conditionText(s), "can't be written") {
		t.Errorf("opened %d times on a disk that can't be written; told: %s", store.opened, conditionText(s))
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.check()
	if store.opened != 1 || !strings.Contains(conditionText(s), "no luck yet") {
		t.Errorf("opened %d times; told: %s", store.opened, conditionText(s))
	}
	s.reopenWait = time.Hour
	s.check()
	if store.opened != 1 {
		t.Error("opened again at once")
	}
	s.reopenWait = 0
	s.check()
	if store.opened != 2 || conditionText(s) != "" {
		t.Errorf("opened %d times; told: %s", store.opened, conditionText(s))
	}
	s.check()
	if store.opened != 2 {
		t.Error("opened again although it stores")
	}
}
