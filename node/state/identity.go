package state

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Identity identifies a node. It is printed and logged as its ID only; Key is a secret.
type Identity struct {
	// ID is unique among all nodes: 26 characters of [a-z2-7], usable as a NATS subject token.
	ID string

	// Key is the node's own; no other node has it.
	Key ed25519.PrivateKey

	// Created is when the file was made, in UTC, to the microsecond.
	Created time.Time
}

// String returns the ID.
func (i Identity) String() string { return i.ID }

// LogValue returns the ID, so that no log gets the key.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.ID) }

// Identity returns the node's identity, which is the same at every call and after every restart, until the file
// is lost or set aside. The caller owns the key's bytes.
func (s *Store) Identity(ctx context.Context) (Identity, error) {
	var (
		id      Identity
		seed    []byte
		created int64
	)
	err := s.reading(func(db *sql.DB) error {
		return db.QueryRowContext(ctx, "SELECT node_id, seed, created_us FROM identity").Scan(&id.ID, &seed, &created)
	})
	if err != nil {
		return Identity{}, fmt.Errorf("read identity: %w", err)
	}
	id.Key = ed25519.NewKeyFromSeed(seed) // a CHECK of the table ensures the length
	id.Created = fromMicros(created)
	return id, nil
}

// ensureIdentity creates the identity of a file without one, and reports whether it did.
func (s *Store) ensureIdentity(ctx context.Context, db *sql.DB) (made bool, err error) {
	var n int
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM identity").Scan(&n); err != nil {
		return false, fmt.Errorf("read identity: %w", err)
	}
	if n > 0 {
		return false, nil
	}
	seed := make([]byte, ed25519.SeedSize)
	_, _ = rand.Read(seed) // never fails: crypto/rand ends the process rather than return less
	_, err = db.ExecContext(ctx, "INSERT INTO identity (one, node_id, seed, created_us) VALUES (1, ?, ?, ?)",
		strings.ToLower(rand.Text()), seed, s.now())
	if err != nil {
		return false, fmt.Errorf("make identity: %w", err)
	}
	return true, nil
}
