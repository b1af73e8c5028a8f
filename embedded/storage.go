package embedded

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"millrace/embedded/machine"
	"millrace/embedded/natsserver"
)

const (
	storageEvery = time.Second             // from one check of the data directory to the next
	writeEvery   = 5 * time.Second         // from one test write to the next
	writeSlow    = 10 * time.Second        // a write that takes longer is reported
	troubleTime  = 1500 * time.Millisecond // how long a trouble of JetStream must last until it counts
	reopenFirst  = 2 * time.Second         // the least time between two attempts to reopen JetStream; it doubles
	reopenLast   = time.Minute             // up to this
)

// jetStream is the server whose storage is watched besides the directory.
type jetStream interface {
	Trouble() string
	Reopen() error
}

// storage watches a node's data directory: whether it is still the same, whether it can be written, and whether
// JetStream stores. When JetStream has stopped storing and the disk can be written, storage reopens it.
type storage struct {
	dir    string
	log    *slog.Logger
	record func(kind, detail string)
	nats   *natsServer

	// Set by open.
	files map[string]os.FileInfo // the files that must stay the same, by path, as they were at open
	store jetStream              // nil with mesh.url
	stop  context.CancelFunc     // nil before open
	ended sync.WaitGroup

	mu          sync.Mutex // guards what follows
	lostPath    string     // deleted or replaced since open; empty if nothing was
	writeErr    error      // of the last test write
	failedSince time.Time  // of the first test write that failed
	writeBegan  time.Time  // of the running test write; zero if none runs
	trouble     string     // of JetStream, once it has lasted for troubleTime
	reopenErr   error      // of the last attempt to reopen JetStream
	free        int64
	used        int64 // by JetStream

	// Used only by the goroutine of run.
	lastWrite       time.Time     // of the last test write
	lastTrouble     string        // trouble in the previous check
	troubleSince    time.Time     // since when it was that
	failedSinceOpen bool          // a write has failed since JetStream was opened
	reopened        time.Time     // of the last attempt to reopen JetStream
	reopenWait      time.Duration // from reopened to the next attempt
}

// open starts to watch. All files must be in place.
func (s *storage) open(context.Context) error {
	s.reopenWait = reopenFirst
	paths := []string{s.dir, filepath.Join(s.dir, "node.db")}
	if server := s.nats.server; server != nil {
		s.store = server
		if server.Store() != natsserver.StoreRemote {
			paths = append(paths, filepath.Join(s.dir, "jetstream"))
		}
	}
	if err := s.recordFiles(paths); err != nil {
		return err
	}
	s.measure()
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.ended.Go(func() { s.run(ctx) })
	return nil
}

func (s *storage) close() error {
	if s.stop != nil {
		s.stop()
		s.ended.Wait()
	}
	return nil
}

func (s *storage) recordFiles(paths []string) error {
	s.files = map[string]os.FileInfo{}
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("look at the data directory: %w", err)
		}
		s.files[path] = info
	}
	return nil
}

func (s *storage) run(ctx context.Context) {
	tick := time.NewTicker(storageEvery)
	defer tick.Stop()
	for {
		s.check()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// check runs all checks once.
func (s *storage) check() {
	s.checkFiles()
	now := time.Now()
	if s.failing() || now.Sub(s.lastWrite) >= writeEvery {
		s.lastWrite = now
		s.tryWrite()
	}
	if s.store != nil {
		s.checkStore()
	}
}

// checkFiles notices files that were deleted or replaced. An open file stays usable without its name, so nothing else
// would notice.
func (s *storage) checkFiles() {
	gone := ""
	for path, before := range s.files {
		now, err := os.Stat(path)
		missing := errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
		if missing || (err == nil && !os.SameFile(before, now)) {
			if gone == "" || len(path) < len(gone) { // report the directory rather than a file in it
				gone = path
			}
		}
	}
	s.mu.Lock()
	was := s.lostPath
	s.lostPath = gone
	s.mu.Unlock()
	switch {
	case gone != "" && was == "":
		s.log.Error("a part of the data directory was deleted or replaced: what the node stores is lost when it stops",
			"file", gone)
	case gone == "" && was != "":
		s.log.Info("the data directory is back", "file", was)
	}
}

// failing reports whether the last test write failed.
func (s *storage) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeErr != nil
}

// full reports whether the last test write found no space.
func (s *storage) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return outOfSpace(s.writeErr)
}

func outOfSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// tryWrite makes a test write. On a disk that doesn't answer it blocks; conditions reports that from writeBegan.
func (s *storage) tryWrite() {
	s.mu.Lock()
	if s.lostPath != "" { // a write would create the directory again
		s.mu.Unlock()
		return
	}
	s.writeBegan = time.Now()
	s.mu.Unlock()
	err := machine.TryWrite(s.dir)
	s.measure()
	s.mu.Lock()
	was, since := s.writeErr, s.failedSince
	s.writeErr, s.writeBegan = err, time.Time{}
	if err != nil && was == nil {
		s.failedSince = time.Now()
	}
	s.mu.Unlock()
	s.reportWrite(err, was, since)
}

// measure updates the free and used space.
func (s *storage) measure() {
	used := machine.DiskUsed(filepath.Join(s.dir, "jetstream"))
	free, err := machine.DiskFree(s.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used = used; err == nil {
		s.free = free
	}
}

// space returns the bytes that are free on the disk, and those that JetStream uses.
func (s *storage) space() (free, used int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, s.used
}

func (s *storage) reportWrite(err, was error, since time.Time) {
	switch {
	case err != nil:
		s.failedSinceOpen = true
		if was == nil {
			s.log.Error("the data directory can't be written: what is limited, purged or kept can't be stored", "file",
				s.dir, "cause", err)
		}
	case was != nil:
		s.log.Info("the data directory can be written again", "file", s.dir, "after", time.Since(since))
		s.record("disk", fmt.Sprintf("could not be written for %s: %s", time.Since(since).Round(time.Second), was))
	}
}

// checkStore reopens JetStream when it doesn't store although the disk can be written.
func (s *storage) checkStore() {
	trouble := s.store.Trouble()
	now := time.Now()
	if trouble != "" && now.Sub(s.lastWrite) >= storageEvery {
		s.lastWrite = now
		s.tryWrite()
	}
	if trouble != s.lastTrouble {
		s.lastTrouble, s.troubleSince = trouble, now
	}
	s.mu.Lock()
	s.trouble = ""
	// The directory of a new stream exists before the stream does: a moment, or longer on a slow disk. Opening
	// JetStream again at that time would lose the stream.
	if trouble != "" && now.Sub(s.troubleSince) >= troubleTime {
		s.trouble = trouble
	}
	writable := s.writeErr == nil && s.lostPath == "" && s.writeBegan.IsZero()
	wanted := s.trouble != "" || s.failedSinceOpen
	s.mu.Unlock()
	switch {
	case !wanted && now.Sub(s.reopened) > reopenLast:
		s.reopenWait = reopenFirst
	case wanted && writable && now.Sub(s.reopened) > s.reopenWait:
		s.reopen(trouble)
	}
}

// reopen reopens JetStream. Each attempt doubles the wait before the next.
func (s *storage) reopen(trouble string) {
	err := s.store.Reopen()
	s.reopened, s.reopenWait, s.lastTrouble = time.Now(), min(2*s.reopenWait, reopenLast), ""
	s.failedSinceOpen = err != nil
	s.mu.Lock()
	s.reopenErr = err
	if err == nil {
		s.trouble = ""
	}
	s.mu.Unlock()
	if err != nil {
		s.log.Error("JetStream can't be opened again", "trouble", trouble, "cause", err)
		return
	}
	s.log.Info("JetStream was opened again", "trouble", trouble)
	s.record("jetstream-reopened", trouble)
}

// conditions reports what is wrong with the data directory and with JetStream in it.
func (s *storage) conditions(f *conditionList) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lostPath != "" {
		f.add(s.lostPath+" was deleted or replaced while the node runs, and what it stores is lost when it stops: "+
			"stop the node, bring the data directory back if there is a copy, and start it", true)
	}
	switch {
	case outOfSpace(s.writeErr):
		f.add(fmt.Sprintf("the disk of %s is full: what is limited, purged or kept can't be stored; make room, and "+
			"the node goes on by itself", s.dir), false)
	case s.writeErr != nil:
		f.add(fmt.Sprintf("%s can't be written (%s): what is limited, purged or kept can't be stored; when it can, "+
			"the node goes on by itself", s.dir, s.writeErr), false)
	case !s.writeBegan.IsZero() && time.Since(s.writeBegan) > writeSlow:
		f.add(fmt.Sprintf("the disk of %s hasn't answered a write for %s: look for its errors", s.dir,
			time.Since(s.writeBegan).Round(time.Second)), false)
	case s.reopenErr != nil:
		f.add(fmt.Sprintf("JetStream can't be opened again (%s): look for its reason in the log; it is tried again",
			s.reopenErr), false)
	case s.trouble != "":
		f.add(fmt.Sprintf("JetStream doesn't store (%s): the node opens it again by itself", s.trouble), false)
	}
}
