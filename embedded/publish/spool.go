package publish

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"millrace/node"
)

// spool keeps encoded bytes in a temporary file until they are sent, so that memory doesn't grow with the folder. It is
// safe for concurrent use.
type spool struct {
	mu    sync.Mutex // guards file and end
	file  *os.File   // nil until something is kept
	end   int64
	bytes int64 // limit of end
}

// errSpoolFull means that the codings of a folder need too much temporary space.
var errSpoolFull = errors.New("temporary space for compressed files is used up")

// put appends a piece and returns where it is.
func (s *spool) put(p []byte) (at int64, err error) {
	s.mu.Lock()
	if s.file == nil {
		if s.file, err = os.CreateTemp("", "millrace-publish-*"); err != nil {
			s.mu.Unlock()
			return 0, fmt.Errorf("keep compressed files: %w", err)
		}
	}
	at, file := s.end, s.file
	if at+int64(len(p)) > s.bytes {
		s.mu.Unlock()
		return 0, errSpoolFull
	}
	s.end += int64(len(p))
	s.mu.Unlock()
	if _, err := file.WriteAt(p, at); err != nil {
		return 0, fmt.Errorf("keep compressed files: %w", err)
	}
	return at, nil
}

// open returns a reader of content that begins at the places that put returned, one for each chunk.
func (s *spool) open(places []int64, size int64) io.Reader {
	var parts []io.Reader
	for i, at := range places {
		n := min(node.BlobChunk, size-int64(i)*node.BlobChunk)
		parts = append(parts, io.NewSectionReader(s.file, at, n))
	}
	return io.MultiReader(parts...)
}

// close removes the file.
func (s *spool) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil {
		return nil
	}
	name := s.file.Name()
	err := errors.Join(s.file.Close(), os.Remove(name))
	s.file = nil
	return err
}

// spooling is one content on its way into a spool: an io.Writer that hashes too. Its Write never fails, for the sake of
// encoders; finish has the error.
type spooling struct {
	spool  *spool
	hash   *hasher
	limit  int64
	buffer []byte
	places []int64
	failed error // nothing is kept any more
}

// errNotSmaller means that an encoded form isn't small enough to be worth its place.
var errNotSmaller = errors.New("the encoded form isn't smaller")

// reset begins a content that is kept if it has at most limit bytes.
func (w *spooling) reset(limit int64) {
	w.hash.reset()
	w.limit, w.buffer, w.places, w.failed = limit, w.buffer[:0], nil, nil
}

// Write implements io.Writer.
func (w *spooling) Write(p []byte) (int, error) {
	n := len(p)
	if w.failed == nil && w.hash.size+int64(n) > w.limit {
		w.failed = errNotSmaller
	}
	if w.failed != nil {
		return n, nil //nolint:nilerr // finish returns it
	}
	_, _ = w.hash.Write(p) // never fails
	for {
		piece := p[:min(len(p), int(node.BlobChunk)-len(w.buffer))]
		w.buffer = append(w.buffer, piece...)
		if p = p[len(piece):]; len(p) == 0 {
			return n, nil
		}
		w.flush()
	}
}

func (w *spooling) flush() {
	at, err := w.spool.put(w.buffer)
	w.places, w.buffer = append(w.places, at), w.buffer[:0]
	w.failed = errors.Join(w.failed, err)
}

// finish returns the blob of all that was written, and its places. The error is errNotSmaller, or that of the spool.
func (w *spooling) finish() (node.Blob, []int64, error) {
	if w.failed == nil {
		w.flush()
	}
	if w.failed != nil {
		return node.Blob{}, nil, w.failed
	}
	return w.hash.blob(), w.places, nil
}
