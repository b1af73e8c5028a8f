package state

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
)

const secretBytes = 32

// Secret returns the secret of that name: 32 random bytes as base64url without padding (43 characters). The first call
// creates it; it never changes, and concurrent first calls return the same one. An empty name is an error.
func (s *Store) Secret(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", errors.New("read secret: name is empty")
	}
	var value string
	err := s.reading(func(db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT value FROM secrets WHERE name = ?", name).Scan(&value)
	})
	if errors.Is(err, sql.ErrNoRows) {
		value, err = s.makeSecret(ctx, name)
	}
	if err != nil {
		return "", fmt.Errorf("read secret %q: %w", name, err)
	}
	return value, nil
}

// makeSecret returns the stored secret if another caller was faster.
func (s *Store) makeSecret(ctx context.Context, name string) (string, error) {
	random := make([]byte, secretBytes)
	_, _ = rand.Read(random) // never fails: crypto/rand ends the process rather than return less

	var value string
	err := s.writing(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx,
			"INSERT INTO secrets (name, value, created_us) VALUES (?, ?, ?) ON CONFLICT (name) DO NOTHING",
			name, base64.RawURLEncoding.EncodeToString(random), s.now())
		if err != nil {
			return err
		}
		return tx.QueryRowContext(ctx, "SELECT value FROM secrets WHERE name = ?", name).Scan(&value)
	})
	return value, err
}
