package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/mattn/go-sqlite3"
)

// sidecars are the files that SQLite keeps beside a database: the write-ahead log, its index, and the rollback
// journal that exists for a moment while a new database is switched to WAL.
var sidecars = []string{"-wal", "-shm", "-journal"}

// errCorrupt is returned by our own checks; SQLite has its own codes.
var errCorrupt = errors.New("state file is corrupt")

// isCorrupt reports whether err means that the content is wrong, rather than inaccessible: SQLITE_BUSY,
// SQLITE_CANTOPEN, SQLITE_IOERR, SQLITE_FULL and the like must never cost a node its state.
func isCorrupt(err error) bool {
	if errors.Is(err, errCorrupt) {
		return true
	}
	serr, ok := errors.AsType[sqlite3.Error](err)
	return ok && (serr.Code == sqlite3.ErrCorrupt || serr.Code == sqlite3.ErrNotADB)
}

// inspect checks the file without changing it. It returns nil for an empty database or a valid one of ours; ErrForeign;
// ErrNewer; an error for which isCorrupt is true; or another error.
func inspect(ctx context.Context, path string) error {
	size, wal, journal := length(path), length(path+"-wal"), length(path+"-journal")
	switch {
	case size == 0 && wal > 0:
		// A database gets its log after its first page, so this one was truncated, or only its log was copied. SQLite
		// would silently delete the log.
		return fmt.Errorf("%w: empty, with a write-ahead log", errCorrupt)
	case size == 0:
		return nil
	case journal > 0:
		// A creation that was killed halfway. Only a connection that may write can roll it back. Any other program
		// would do that first, too.
		return inspectVia(ctx, dsn(path, url.Values{"mode": {"rw"}}))
	case wal > 0:
		return inspectVia(ctx, dsn(path, url.Values{"mode": {"ro"}}))
	}
	// Immutable takes no locks and creates no -wal and -shm files, since the file may not be ours. But if an operator's
	// shell writes at the moment, it may see pages of two versions, so a bad result is checked again with locks.
	err := inspectVia(ctx, dsn(path, url.Values{"mode": {"ro"}, "immutable": {"1"}}))
	if isCorrupt(err) {
		err = inspectVia(ctx, dsn(path, url.Values{"mode": {"ro"}}))
	}
	return err
}

// length returns the size of a file; 0 if there is none or it is unknown: SQLite will report why.
func length(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func inspectVia(ctx context.Context, name string) (err error) {
	db, err := sql.Open("sqlite3", name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)

	var app, version, objects int
	for _, q := range []struct {
		text string
		dest *int
	}{
		{"PRAGMA application_id", &app},
		{"PRAGMA user_version", &version},
		{"SELECT count(*) FROM sqlite_schema", &objects},
	} {
		if err := db.QueryRowContext(ctx, q.text).Scan(q.dest); err != nil {
			return fmt.Errorf("inspect: %w", err)
		}
		// Before the next query: a foreign or newer file is refused even if it is damaged.
		if err := owner(app, version, objects); err != nil {
			return err
		}
	}
	if app == applicationID && version < 1 {
		return fmt.Errorf("%w: version %d", errCorrupt, version)
	}
	var verdict string
	if err := db.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&verdict); err != nil {
		return fmt.Errorf("inspect: %w", err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", errCorrupt, verdict)
	}
	return nil
}

// owner refuses files that aren't ours to write. version and objects may be 0 if they aren't known yet.
func owner(app, version, objects int) error {
	switch {
	case app != 0 && app != applicationID:
		return fmt.Errorf("%w: SQLite application_id %#x, want %#x; use another data directory",
			ErrForeign, uint32(app), applicationID) //nolint:gosec // G115: the header's field has 32 bits
	case app == 0 && (version != 0 || objects != 0):
		return fmt.Errorf("%w: an SQLite database of another program; use another data directory", ErrForeign)
	case version > len(migrations):
		return fmt.Errorf("%w: its version is %d, this binary knows versions up to %d; upgrade the binary or use "+
			"another data directory", ErrNewer, version, len(migrations))
	}
	return nil
}
