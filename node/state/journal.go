package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// MaxEvents is how many events the journal keeps.
	MaxEvents = 10_000

	// MaxDetailBytes is the maximal size of Detail; longer ones are truncated.
	MaxDetailBytes = 4096
)

// Event is one entry of the node's journal.
type Event struct {
	// Seq counts from 1 in the order of recording. Numbers aren't reused.
	Seq int64

	// Time is when it was recorded, in UTC, to the microsecond. Seq gives the order, not Time: clocks are set.
	Time time.Time

	// Kind names what happened, for example "config_applied"; never empty.
	Kind string

	// Detail is for people, at most [MaxDetailBytes] long.
	Detail string
}

// Record appends an event and returns when it is on disk. Beyond [MaxEvents] the oldest are dropped. An empty kind is
// an error. A detail that is too long is truncated between two characters.
func (s *Store) Record(ctx context.Context, kind, detail string) error {
	if kind == "" {
		return errors.New("record event: kind is empty")
	}
	if len(detail) > MaxDetailBytes {
		detail = strings.ToValidUTF8(detail[:MaxDetailBytes], "")
	}
	err := s.writing(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT INTO events (time_us, kind, detail) VALUES (?, ?, ?)", s.now(), kind,
			detail)
		if err != nil {
			return err
		}
		seq, err := res.LastInsertId()
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM events WHERE seq <= ?", seq-MaxEvents)
		return err
	})
	if err != nil {
		return fmt.Errorf("record event: %w", err)
	}
	return nil
}

// Events returns up to limit events, newest first; a limit of 0 or less means all. If there are none it returns an
// empty slice and no error.
func (s *Store) Events(ctx context.Context, limit int) ([]Event, error) {
	const query = "SELECT seq, time_us, kind, detail FROM events ORDER BY seq DESC LIMIT ?"
	all, err := queryAll(ctx, s, scanEvent, query, rowLimit(limit))
	if err != nil {
		return nil, fmt.Errorf("list events: %w", err)
	}
	return all, nil
}

// LastEvent returns the newest event of one of the kinds, or [ErrNotFound].
func (s *Store) LastEvent(ctx context.Context, kinds ...string) (Event, error) {
	args := make([]any, len(kinds))
	for i, k := range kinds {
		args[i] = k
	}
	query := "SELECT seq, time_us, kind, detail FROM events WHERE kind IN (" +
		strings.TrimPrefix(strings.Repeat(", ?", len(kinds)), ", ") + ") ORDER BY seq DESC LIMIT 1"
	found, err := queryAll(ctx, s, scanEvent, query, args...)
	if err == nil && len(found) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Event{}, fmt.Errorf("find event: %w", err)
	}
	return found[0], nil
}

func scanEvent(row scanner) (Event, error) {
	var (
		e  Event
		at int64
	)
	err := row.Scan(&e.Seq, &at, &e.Kind, &e.Detail)
	e.Time = fromMicros(at)
	return e, err
}
