package state

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

var (
	// ErrNotFound is returned by [Store.LastConfig] and similar methods if nothing was saved.
	ErrNotFound = errors.New("not found")

	// ErrNewer is returned by [Store.Open] when a newer Millrace wrote the file. The file is untouched.
	ErrNewer = errors.New("state file was written by a newer Millrace")

	// ErrForeign is returned by [Store.Open] when the file is another program's SQLite database. The file is
	// untouched.
	ErrForeign = errors.New("file is not a Millrace state file")

	// ErrInUse is returned by [Store.Open] while another Store, in this process or another, has the same path
	// open.
	ErrInUse = errors.New("another node is using this data directory")

	// ErrNotOpen is returned by every method that needs the file, before Open and after Close.
	ErrNotOpen = errors.New("state is not open")
)

// Config configures a Store.
type Config struct {
	// Path of the file, for example <data>/node.db. Next to it are <Path>-wal and <Path>-shm (SQLite's own) and
	// <Path>.lock (empty; a flock on it locks the file). A relative path is resolved at Open.
	Path string

	// Now is the clock of every stored time; nil means time.Now. It may be called from several goroutines.
	Now func() time.Time
}

// Store is one node's state file. It is created by [New]; its methods may be called concurrently.
//
// Besides the errors that each method names, all of them return the context's error when it ends first,
// [ErrNotOpen], and what SQLite reports (a full disk, a disk error, a file locked by an operator's shell for
// more than two seconds).
type Store struct {
	cfg Config

	mu sync.RWMutex // guards f
	f  *files       // nil when not open
}

// files is what an open Store holds.
type files struct {
	lock     *os.File
	write    *sql.DB // one connection: SQLite has one writer, and waiting in Go is fairer than its busy loop
	read     *sql.DB // read-only connections
	setAside string
	lostLog  string // a copy of the write-ahead log, if it had lost commits
	fresh    bool   // the identity was made by Open
}

// New returns a Store for the file at cfg.Path. It does no I/O: [Store.Open] creates or reads the file. The only error
// is an empty path.
func New(cfg Config) (*Store, error) {
	if cfg.Path == "" {
		return nil, errors.New("create state: Path is empty")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{cfg: cfg}, nil
}

// SetAside returns the path to which Open moved a corrupt file; "" if the file was valid or new, or the Store isn't
// open.
func (s *Store) SetAside() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.f == nil {
		return ""
	}
	return s.f.setAside
}

// LostLog returns the path of a copy of the write-ahead log if Open found it damaged, otherwise "". The last records
// before are missing then.
func (s *Store) LostLog() string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.f == nil {
		return ""
	}
	return s.f.lostLog
}

// Fresh reports whether Open has created the node's identity: there was no file, it was empty, or it was set aside.
func (s *Store) Fresh() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.f != nil && s.f.fresh
}

// Close moves the write-ahead log into the file, closes it and unlocks it. It waits for running methods. It tries every
// step and returns all errors together. Closing a Store that isn't open does nothing; a closed one may be opened again.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.f == nil {
		return nil
	}
	err := s.f.close()
	s.f = nil
	if err != nil {
		return fmt.Errorf("close state %s: %w", s.cfg.Path, err)
	}
	return nil
}

// close releases what is held. Any field may be nil.
func (f *files) close() error {
	var errs []error
	if f.read != nil { // opened last: without it there is nothing to move either
		errs = append(errs, f.read.Close())
		// A reader in another process can keep the log from being emptied. SQLite reports that in a row, not as an
		// error: nothing is lost, and the next Open reads the log.
		ctx, cancel := context.WithTimeout(context.Background(), checkpointTimeout)
		_, err := f.write.ExecContext(ctx, "PRAGMA wal_checkpoint(TRUNCATE)")
		cancel()
		errs = append(errs, err)
	}
	if f.write != nil {
		errs = append(errs, f.write.Close())
	}
	if f.lock != nil {
		errs = append(errs, f.lock.Close())
	}
	return errors.Join(errs...)
}

// reading runs fn with the readers' connections. Close waits until it returns.
func (s *Store) reading(fn func(db *sql.DB) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.f == nil {
		return ErrNotOpen
	}
	return fn(s.f.read)
}

// writing runs fn in a transaction that is committed when fn returns nil and rolled back otherwise.
func (s *Store) writing(ctx context.Context, fn func(tx *sql.Tx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.f == nil {
		return ErrNotOpen
	}
	return inTx(ctx, s.f.write, fn)
}

func inTx(ctx context.Context, db *sql.DB, fn func(tx *sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := fn(tx); err != nil {
		// The context may have ended the transaction already, which is no further error.
		if rerr := tx.Rollback(); rerr != nil && !errors.Is(rerr, sql.ErrTxDone) {
			err = errors.Join(err, rerr)
		}
		return err
	}
	return tx.Commit()
}

// now returns the clock's time as the tables store it: microseconds since 1970.
func (s *Store) now() int64 { return s.cfg.Now().UnixMicro() }

func fromMicros(us int64) time.Time { return time.UnixMicro(us).UTC() }
