package state

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
)

// applicationID marks our files in SQLite's header (offset 68): "Mill".
const applicationID = 0x4d696c6c

// migrations lead from an empty file to the newest version: migrations[i] upgrades version i to i+1. All run in one
// transaction. A released step is never edited: changes are appended, and testdata gets a file of the previous version.
// Times are microseconds since 1970, UTC. AUTOINCREMENT prevents the numbers of pruned rows from being reused.
var migrations = []string{
	`
CREATE TABLE identity (
	one        INTEGER PRIMARY KEY CHECK (one = 1),
	node_id    TEXT    NOT NULL CHECK (node_id <> ''),
	seed       BLOB    NOT NULL CHECK (length(seed) = 32),
	created_us INTEGER NOT NULL
) STRICT;

CREATE TABLE secrets (
	name       TEXT    PRIMARY KEY CHECK (name <> ''),
	value      TEXT    NOT NULL CHECK (value <> ''),
	created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE configs (
	revision   INTEGER PRIMARY KEY AUTOINCREMENT,
	text       TEXT    NOT NULL,
	source     TEXT    NOT NULL,
	applied_us INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	time_us INTEGER NOT NULL,
	kind    TEXT    NOT NULL CHECK (kind <> ''),
	detail  TEXT    NOT NULL
) STRICT;

PRAGMA application_id = ` + "0x4d696c6c;",
	`
CREATE TABLE notes (
	name       TEXT    PRIMARY KEY CHECK (name <> ''),
	value      BLOB    NOT NULL,
	written_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
`,
}

// migrate applies the missing steps. The version is part of the file's first page, so it is committed or rolled back
// with them.
func migrate(ctx context.Context, db *sql.DB) error {
	var version int
	if err := db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	if version >= len(migrations) {
		return nil
	}
	return inTx(ctx, db, func(tx *sql.Tx) error { // one transaction for all: each costs a sync
		for ; version < len(migrations); version++ {
			if _, err := tx.ExecContext(ctx, migrations[version]); err != nil {
				return fmt.Errorf("migrate to version %d: %w", version+1, err)
			}
		}
		_, err := tx.ExecContext(ctx, "PRAGMA user_version = "+strconv.Itoa(version))
		return err
	})
}
