package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	_ "github.com/mattn/go-sqlite3" // the driver "sqlite3"
)

const (
	busyTimeout       = 2 * time.Second // only an operator's shell can compete: flock excludes other nodes
	checkpointTimeout = 10 * time.Second
	maxReaders        = 4
	accessWrite       = 0o3 // W_OK and X_OK of access(2)

	hint = "the data directory must be on a writable disk with free space, and it and its files must belong to " +
		"the user that runs the node"
)

// Open locks the file, creates it (mode 0600, in a directory that is created too, 0700) or checks it, migrates its
// tables, and creates the node's identity if there is none. It reads the whole file once.
//
// A corrupt file (not a database, truncated, or failing SQLite's quick_check) is moved, together with its log, to
// <Path>.corrupt-<UTC time>, and a new one is created: see [Store.SetAside]. If its log has lost commits, a copy of the
// log is kept, and what can be read of it is used: see [Store.LostLog].
//
// Errors: [ErrInUse], [ErrNewer], [ErrForeign]; a file system error ([fs.ErrPermission] and others) that contains the
// path and a hint if directory or file can't be written. After an error nothing stays locked and Open may be called
// again. Opening an open Store is an error.
func (s *Store) Open(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f != nil {
		return fmt.Errorf("open state %s: already open", s.cfg.Path)
	}
	f := &files{}
	if err := s.open(ctx, f); err != nil {
		return fmt.Errorf("open state %s: %w", s.cfg.Path, errors.Join(err, f.close()))
	}
	s.f = f
	return nil
}

func (s *Store) open(ctx context.Context, f *files) error {
	path, err := filepath.Abs(s.cfg.Path)
	if err != nil {
		return err
	}
	if f.lock, err = acquire(path); err != nil {
		return err
	}
	if err := touch(path); err != nil {
		return err
	}
	lost, err := copyLostWAL(path, s.cfg.Now())
	if err != nil {
		return err
	}
	f.lostLog = lost
	if err := inspect(ctx, path); isCorrupt(err) {
		if f.setAside, err = setAside(path, s.cfg.Now()); err != nil {
			return err
		}
		f.lostLog = "" // it was moved with the file
		if err := touch(path); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	return s.connect(ctx, f, path)
}

// connect opens the connections and migrates the tables.
func (s *Store) connect(ctx context.Context, f *files, path string) error {
	var err error
	f.write, err = sql.Open("sqlite3", dsn(path, url.Values{
		"mode":          {"rw"},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"1"},
		"_txlock":       {"immediate"}, // a deferred one can fail with SQLITE_BUSY at its first write, at once
	}))
	if err != nil {
		return err
	}
	f.write.SetMaxOpenConns(1)
	if err := migrate(ctx, f.write); err != nil {
		return err
	}
	if f.fresh, err = s.ensureIdentity(ctx, f.write); err != nil {
		return err
	}
	f.read, err = sql.Open("sqlite3", dsn(path, url.Values{"mode": {"ro"}, "_query_only": {"1"}}))
	if err != nil {
		return err
	}
	f.read.SetMaxOpenConns(maxReaders)
	f.read.SetMaxIdleConns(maxReaders)
	return f.read.PingContext(ctx)
}

// acquire takes the flock that excludes other nodes. The lock file stays when the Store closes. Otherwise one process
// could lock the removed file, and another one a new file of the same name.
func acquire(path string) (*os.File, error) {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, withHint(err)
	}
	// Existing files can be opened in a directory that isn't writable, but SQLite can't create its log there.
	if err := syscall.Access(dir, accessWrite); err != nil {
		return nil, withHint(&fs.PathError{Op: "write to", Path: dir, Err: err})
	}
	lock, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, withHint(err)
	}
	err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return lock, nil
	}
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = ErrInUse
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", lock.Name(), err), lock.Close())
}

// touch makes sure that the file exists and can be written. SQLite would create it too, but with mode 0644, and its
// errors don't contain the reason from the file system.
//
// Closing a descriptor drops this process's POSIX locks on the file, SQLite's included. That is harmless here only
// because the flock is held and this Store hasn't opened the file yet.
func touch(path string) error {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return withHint(err)
	}
	return file.Close()
}

// setAside moves a corrupt file and its sidecars to an unused name, and returns that name. The file itself is moved
// last: a crash in between leaves a corrupt file for the next Open to find.
func setAside(path string, now time.Time) (string, error) {
	to, err := freeName(path + ".corrupt-" + now.UTC().Format("20060102T150405Z"))
	if err != nil {
		return "", fmt.Errorf("set corrupt file aside: %w", err)
	}
	for _, suffix := range sidecars {
		if err := os.Rename(path+suffix, to+suffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("set corrupt file aside: %w", withHint(err))
		}
	}
	if err := os.Rename(path, to); err != nil {
		return "", fmt.Errorf("set corrupt file aside: %w", withHint(err))
	}
	return to, nil
}

// freeName returns base, or base with a number, so that neither it nor a name that SQLite derives from it is in use.
// The held flock ensures that nobody else takes it.
func freeName(base string) (string, error) {
	to := base
	for n := 2; ; n++ {
		used, err := inUse(to)
		if err != nil || !used {
			return to, err
		}
		to = base + "-" + strconv.Itoa(n)
	}
}

func inUse(path string) (bool, error) {
	for _, suffix := range append([]string{""}, sidecars...) {
		switch _, err := os.Lstat(path + suffix); {
		case err == nil:
			return true, nil
		case !errors.Is(err, fs.ErrNotExist):
			return false, err
		}
	}
	return false, nil
}

func withHint(err error) error { return fmt.Errorf("%w (hint: %s)", err, hint) }

// dsn returns the driver's name for a connection. The path is escaped, since a "?" would start the options.
func dsn(path string, opts url.Values) string {
	opts.Set("_busy_timeout", strconv.FormatInt(busyTimeout.Milliseconds(), 10))
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + opts.Encode()
}
