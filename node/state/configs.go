package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// MaxConfigs is how many configurations are kept: the last one and 100 before it.
const MaxConfigs = 101

// ConfigRevision is a configuration that the node applied.
type ConfigRevision struct {
	// Revision counts from 1 in the order of saving; a number is never given twice.
	Revision int64

	// Text is the configuration as it was saved, byte for byte.
	Text string

	// Source says in the caller's words where it came from: a path, "admin", "cluster".
	Source string

	// Applied is when it was saved, in UTC, to the microsecond.
	Applied time.Time
}

// SaveConfig makes text the last good configuration and returns its revision. If the newest one has the same
// text, nothing is written and that one is returned, with its own source and time. Configurations past
// [MaxConfigs] are dropped, oldest first.
func (s *Store) SaveConfig(ctx context.Context, text, source string) (ConfigRevision, error) {
	var saved ConfigRevision
	err := s.writing(ctx, func(tx *sql.Tx) error {
		newest, err := scanConfig(tx.QueryRowContext(ctx, newestConfig))
		if err == nil && newest.Text == text {
			saved = newest
			return nil
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		saved, err = scanConfig(tx.QueryRowContext(ctx,
			"INSERT INTO configs (text, source, applied_us) VALUES (?, ?, ?)"+
				" RETURNING revision, text, source, applied_us", text, source, s.now()))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM configs WHERE revision <= ?", saved.Revision-MaxConfigs)
		return err
	})
	if err != nil {
		return ConfigRevision{}, fmt.Errorf("save config: %w", err)
	}
	return saved, nil
}

// LastConfig returns the configuration that was saved last, or [ErrNotFound].
func (s *Store) LastConfig(ctx context.Context) (ConfigRevision, error) {
	var last ConfigRevision
	err := s.reading(func(db *sql.DB) (err error) {
		last, err = scanConfig(db.QueryRowContext(ctx, newestConfig))
		return err
	})
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	if err != nil {
		return ConfigRevision{}, fmt.Errorf("read last config: %w", err)
	}
	return last, nil
}

// Configs returns up to limit configurations, newest first; a limit of 0 or less means all that are kept.
// Without any it returns an empty slice and no error.
func (s *Store) Configs(ctx context.Context, limit int) ([]ConfigRevision, error) {
	const query = "SELECT revision, text, source, applied_us FROM configs ORDER BY revision DESC LIMIT ?"
	all, err := queryAll(ctx, s, scanConfig, query, rowLimit(limit))
	if err != nil {
		return nil, fmt.Errorf("list configs: %w", err)
	}
	return all, nil
}

const newestConfig = "SELECT revision, text, source, applied_us FROM configs ORDER BY revision DESC LIMIT 1"

func scanConfig(row scanner) (ConfigRevision, error) {
	var (
		c       ConfigRevision
		applied int64
	)
	err := row.Scan(&c.Revision, &c.Text, &c.Source, &applied)
	c.Applied = fromMicros(applied)
	return c, err
}
