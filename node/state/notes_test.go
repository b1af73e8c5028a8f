package state_test

import (
	"errors"
	"testing"

	"millrace/node/state"
)

// A note is the last value stored under its name, also after a restart.
func TestNoteSurvivesRestart(t *testing.T) {
	path := newPath(t)
	s := open(t, path)
	if _, err := s.Note(t.Context(), "a"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("a note that isn't there: %v", err)
	}
	for name, value := range map[string]string{"a": "1", "b": "", "c": "3"} {
		if err := s.SetNote(t.Context(), name, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.SetNote(t.Context(), "a", []byte("2")); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	s = open(t, path)
	for name, want := range map[string]string{"a": "2", "b": "", "c": "3"} {
		if got, err := s.Note(t.Context(), name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if s.SetNote(t.Context(), "", nil) == nil || s.SetNote(t.Context(), "x", make([]byte,
		state.MaxNoteBytes+1)) == nil {
		t.Error("a note without a name, or too long, is kept")
	}
}
