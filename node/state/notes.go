package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// MaxNoteBytes is the longest note.
const MaxNoteBytes = 64 << 10

// SetNote stores a value under a name, replaces the previous one, and returns when it is on disk. Names are chosen by
// programs, not by users, so there are few. An empty name and a value longer than [MaxNoteBytes] are errors.
func (s *Store) SetNote(ctx context.Context, name string, value []byte) error {
	if name == "" || len(value) > MaxNoteBytes {
		return fmt.Errorf("keep note %q: a name is needed, and at most %d bytes", name, MaxNoteBytes)
	}
	if value == nil {
		value = []byte{}
	}
	err := s.writing(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO notes (name, value, written_us) VALUES (?, ?, ?)"+
			" ON CONFLICT (name) DO UPDATE SET value = excluded.value, written_us = excluded.written_us", name, value,
			s.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("keep note %q: %w", name, err)
	}
	return nil
}

// Note returns the value of a name, or [ErrNotFound].
func (s *Store) Note(ctx context.Context, name string) ([]byte, error) {
	var value []byte
	err := s.reading(func(db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT value FROM notes WHERE name = ?", name).Scan(&value)
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read note %q: %w", name, err)
	}
	return value, nil
}
