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

// How often the data directory is looked at and written to, how long a write may take, and how often JetStream is
// opened again at most.
const (
	storageEvery = time.Second
	writeEvery   = 5 * time.Second
	writeSlow    = 10 * time.Second
	reopenFirst  = 2 * time.Second
	reopenLast   = time.Minute
)

// store is what storage watches beside the directory: JetStream on it.
type store interface {
	Trouble() string
	Reopen() error
}

// storage watches a node's data directory: whether it is still there, whether it can be written, and whether JetStream
// stores. When it doesn't, and the disk can be written, it is opened again.
type storage struct {
	dir    string
	log    *slog.Logger
	record func(kind, detail string)
	nats   *natsServer

	// Set by open.
	files map[string]os.FileInfo // what must stay as it was at the start, by path
	store store                  // nil with mesh.url
	stop  context.CancelFunc     // nil before open
	ended sync.WaitGroup

	mu      sync.Mutex // guards what follows
	gone    string     // what isn't there any more, or is another; empty if nothing
	failed  error      // of the last write
	since   time.Time  // of the first write that failed
	writing time.Time  // when the write that runs began; zero if none does
	trouble string     // of JetStream, twice in a row
	opening error      // of opening it last
	free    int64
	used    int64 // by JetStream

	// Of the goroutine that looks.
	wrote    time.Time     // when a write was tried last
	before   string        // trouble of the look before
	spoiled  bool          // a write has failed since JetStream was opened
	reopened time.Time     // when JetStream was opened last
	pause    time.Duration // until it may be opened again
}

// open begins to watch, once everything lies where it stays.
func (s *storage) open(context.Context) error {
	s.pause = reopenFirst
	paths := []string{s.dir, filepath.Join(s.dir, "node.db")}
	if server := s.nats.server; server != nil {
		s.store = server
		if server.Store() != natsserver.StoreRemote {
			paths = append(paths, filepath.Join(s.dir, "jetstream"))
		}
	}
	if err := s.remember(paths); err != nil {
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

func (s *storage) remember(paths []string) error {
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
		s.look()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// look finds out what there is to know, and does what there is to do.
func (s *storage) look() {
	s.lookForFiles()
	now := time.Now()
	if s.failing() || now.Sub(s.wrote) >= writeEvery {
		s.wrote = now
		s.tryWrite()
	}
	if s.store != nil {
		s.lookAtStore()
	}
}

// lookForFiles notices what was deleted or replaced. Files that are open go on without a name, so nothing else would.
func (s *storage) lookForFiles() {
	gone := ""
	for path, before := range s.files {
		now, err := os.Stat(path)
		missing := errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
		if missing || (err == nil && !os.SameFile(before, now)) {
			if gone == "" || len(path) < len(gone) { // the directory rather than what was in it
				gone = path
			}
		}
	}
	s.mu.Lock()
	was := s.gone
	s.gone = gone
	s.mu.Unlock()
	switch {
	case gone != "" && was == "":
		s.log.Error("a part of the data directory was deleted or replaced: what the node stores is lost when it stops",
			"file", gone)
	case gone == "" && was != "":
		s.log.Info("the data directory is back", "file", was)
	}
}

// failing reports whether the disk can't be written.
func (s *storage) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed != nil
}

// full reports whether the disk has no room.
func (s *storage) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return noRoom(s.failed)
}

func noRoom(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// tryWrite writes. A disk that doesn't answer holds it; condition tells.
func (s *storage) tryWrite() {
	s.mu.Lock()
	if s.gone != "" { // it would make the directory anew
		s.mu.Unlock()
		return
	}
	s.writing = time.Now()
	s.mu.Unlock()
	err := machine.TryWrite(s.dir)
	s.measure()
	s.mu.Lock()
	was, since := s.failed, s.since
	s.failed, s.writing = err, time.Time{}
	if err != nil && was == nil {
		s.since = time.Now()
	}
	s.mu.Unlock()
	s.tellWrite(err, was, since)
}

// measure finds out how full the disk is.
func (s *storage) measure() {
	used := machine.DiskUsed(filepath.Join(s.dir, "jetstream"))
	free, err := machine.DiskFree(s.dir)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used = used; err == nil {
		s.free = free
	}
}

// space gives what is free on the disk, and what JetStream uses of it, in bytes.
func (s *storage) space() (free, used int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, s.used
}

func (s *storage) tellWrite(err, was error, since time.Time) {
	switch {
	case err != nil:
		s.spoiled = true
		if was == nil {
			s.log.Error("the data directory can't be written: what is limited, purged or kept can't be stored", "file",
				s.dir, "cause", err)
		}
	case was != nil:
		s.log.Info("the data directory can be written again", "file", s.dir, "after", time.Since(since))
		s.record("disk", fmt.Sprintf("could not be written for %s: %s", time.Since(since).Round(time.Second), was))
	}
}

// lookAtStore opens JetStream again when it doesn't store although the disk can be written.
func (s *storage) lookAtStore() {
	trouble := s.store.Trouble()
	now := time.Now()
	if trouble != "" && now.Sub(s.wrote) >= storageEvery {
		s.wrote = now
		s.tryWrite()
	}
	s.mu.Lock()
	s.trouble = ""
	// twice: a stream that is being made has its directory a moment before it is there
	if trouble != "" && s.before != "" {
		s.trouble = trouble
	}
	writable := s.failed == nil && s.gone == "" && s.writing.IsZero()
	wanted := s.trouble != "" || s.spoiled
	s.mu.Unlock()
	s.before = trouble
	switch {
	case !wanted && now.Sub(s.reopened) > reopenLast:
		s.pause = reopenFirst
	case wanted && writable && now.Sub(s.reopened) > s.pause:
		s.reopen(trouble)
	}
}

// reopen opens JetStream again. Each time it waits twice as long for the next.
func (s *storage) reopen(trouble string) {
	err := s.store.Reopen()
	s.reopened, s.pause, s.before = time.Now(), min(2*s.pause, reopenLast), ""
	s.spoiled = err != nil
	s.mu.Lock()
	s.opening = err
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

// conditions tells what is wrong with the data directory and JetStream on it.
func (s *storage) conditions(f *found) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gone != "" {
		f.add(s.gone+" was deleted or replaced while the node runs, and what it stores is lost when it stops: stop "+
			"the node, bring the data directory back if there is a copy, and start it", true)
	}
	switch {
	case noRoom(s.failed):
		f.add(fmt.Sprintf("the disk of %s is full: what is limited, purged or kept can't be stored; make room, and "+
			"the node goes on by itself", s.dir), false)
	case s.failed != nil:
		f.add(fmt.Sprintf("%s can't be written (%s): what is limited, purged or kept can't be stored; when it can, "+
			"the node goes on by itself", s.dir, s.failed), false)
	case !s.writing.IsZero() && time.Since(s.writing) > writeSlow:
		f.add(fmt.Sprintf("the disk of %s hasn't answered a write for %s: look for its errors", s.dir,
			time.Since(s.writing).Round(time.Second)), false)
	case s.opening != nil:
		f.add(fmt.Sprintf("JetStream can't be opened again (%s): look for its reason in the log; it is tried again",
			s.opening), false)
	case s.trouble != "":
		f.add(fmt.Sprintf("JetStream doesn't store (%s): the node opens it again by itself", s.trouble), false)
	}
}
