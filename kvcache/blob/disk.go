package blob

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"

	"millrace/node"
)

// keep makes a blob of a file that was written and is right.
func (s *Store) keep(w *writer, digest node.Digest, size int64) error {
	s.renaming.Lock()
	defer s.renaming.Unlock()
	if err := w.keep(digest); err != nil {
		return err
	}
	s.table.add(digest, size)
	return nil
}

// remove removes a file, and everything that is remembered of it. It returns its size.
func (s *Store) remove(digest node.Digest) int64 {
	s.renaming.Lock()
	defer s.renaming.Unlock()
	files, size := s.table.remove(digest)
	for _, f := range files {
		s.memory.drop(f)
		s.open.retire(f)
	}
	if err := os.Remove(s.dir.file(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.cfg.Log.Warn("a blob can't be removed from the disk", slog.String("digest", digest.String()),
			slog.Any("error", err))
	}
	return size
}

// Sweep removes those of this node's files that keep doesn't want, and returns how many and their size in bytes. Files
// that are being read stay readable.
func (s *Store) Sweep(keep func(node.Digest) bool) (removed int, bytes int64) {
	for _, digest := range s.table.list(func(d node.Digest, _ onDisk) bool { return !keep(d) }) {
		bytes += s.remove(digest)
		removed++
	}
	return removed, bytes
}

// recheck reads the files again that were there when an unclean end was found, one after the other.
func (s *Store) recheck() {
	for _, digest := range s.table.list(func(_ node.Digest, have onDisk) bool { return !have.checked }) {
		if s.ctx.Err() != nil {
			return
		}
		size, ok := s.table.unread(digest)
		if !ok {
			continue
		}
		if err := s.readAgain(digest, size); wrong(err) {
			s.bad(digest, err)
		}
	}
}
