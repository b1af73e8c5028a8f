package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"millrace/node"
)

// File is a blob as this node serves it: from memory, from its disk, or while it comes. There is one File for a blob,
// and holding it costs little. Its methods are safe for concurrent use.
type File struct {
	content atomic.Pointer[[]byte] // set and cleared by memory
	used    atomic.Bool            // asked for since memory looked last
	here    atomic.Bool            // set and cleared by table

	store *Store
	blob  node.Blob
	slot  int        // where memory has it; guarded by memory.mu
	fd    descriptor // guarded by descriptors.mu

	reading sync.Mutex // held while the content is read into memory or checked
}

// File returns the File of a blob, never nil. It does no I/O. If b is no blob by node.Blob.Check, all methods say that
// it isn't here.
func (s *Store) File(b node.Blob) *File { return s.table.file(s, b) }

func (f *File) same(b *node.Blob) bool {
	return f.blob.Size == b.Size && slices.Equal(f.blob.Chunks, b.Chunks)
}

// Blob returns what the File is of. The caller must not change its Chunks.
func (f *File) Blob() node.Blob { return f.blob }

// Bytes returns the whole content if it is in memory, else nil: no lock, no allocation. The caller must not change it.
// The content of an empty blob isn't nil, once it was loaded.
func (f *File) Bytes() []byte {
	content := f.content.Load()
	if content == nil {
		return nil
	}
	if !f.used.Load() { // most find it set, and write nothing
		f.used.Store(true)
	}
	return *content
}

// Here reports whether the blob is whole on this node's disk.
func (f *File) Here() bool { return f.here.Load() }

// Load returns the whole content, and keeps it in memory as far as Config.Memory allows. It is for small files: it
// reads the whole and checks the digest. A blob that isn't on the disk is brought. The errors are those of Store.Bring.
func (f *File) Load(ctx context.Context) ([]byte, error) {
	if content := f.Bytes(); content != nil {
		return content, nil
	}
	return f.load(ctx, true)
}

func (f *File) load(ctx context.Context, keep bool) ([]byte, error) {
	content, err := f.read(keep)
	if !errors.Is(err, ErrNotHere) {
		return content, err
	}
	if err := f.store.Bring(ctx, []node.Blob{f.blob}, nil); err != nil {
		return nil, err
	}
	return f.read(keep)
}

// read reads the content from the disk, and keeps it in memory if keep is set. The error is ErrNotHere if it isn't
// there, or was wrong.
func (f *File) read(keep bool) ([]byte, error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	if content := f.Bytes(); content != nil {
		return content, nil
	}
	if !f.here.Load() {
		return nil, ErrNotHere
	}
	content, err := readWhole(f.store.dir.file(f.blob.Digest), f.blob.Size)
	if err == nil && node.DigestOf(content) != f.blob.Digest {
		err = ErrDigest
	}
	if wrong(err) {
		f.Bad(err)
		return nil, errors.Join(ErrNotHere, err)
	}
	if err != nil {
		return nil, fmt.Errorf("read blob %v: %w", f.blob.Digest, err)
	}
	f.store.table.markChecked(f.blob.Digest)
	if keep {
		f.store.memory.keep(f, content)
	}
	return content, nil
}

// wrong reports whether an error of reading a file means that it is lost or has wrong bytes. Others, such as too many
// open files, say nothing about it.
func wrong(err error) bool {
	return errors.Is(err, ErrDigest) || errors.Is(err, os.ErrNotExist) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, io.EOF) || errors.Is(err, syscall.EIO)
}

// readWhole reads a file that must have a size.
func readWhole(path string, size int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content := make([]byte, size)
	if _, err := io.ReadFull(file, content); err != nil {
		return nil, fmt.Errorf("read %d bytes: %w", size, err)
	}
	if n, _ := file.Read(make([]byte, 1)); n > 0 {
		return nil, ErrDigest
	}
	return content, nil
}

// Acquire returns the open file, for reading at offsets of the caller's own. Each Acquire needs a Release; the caller
// doesn't close it. The error is ErrNotHere if the blob isn't on this node's disk. The first Acquire after an unclean
// end reads the whole file to see whether it is right.
func (f *File) Acquire() (*os.File, error) {
	if !f.here.Load() {
		return nil, ErrNotHere
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	file, err := f.store.open.acquire(f, func() (*os.File, error) {
		file, err := os.Open(f.store.dir.file(f.blob.Digest))
		if err != nil {
			return nil, err
		}
		if have, err := file.Stat(); err != nil || have.Size() != f.blob.Size {
			_ = file.Close()
			return nil, errors.Join(ErrDigest, err)
		}
		return file, nil
	})
	switch {
	case err == nil || errors.Is(err, ErrClosed):
		return file, err
	case wrong(err):
		f.Bad(err)
		return nil, errors.Join(ErrNotHere, err)
	}
	return nil, fmt.Errorf("open blob %v: %w", f.blob.Digest, err)
}

// Release ends the use of the file that Acquire returned.
func (f *File) Release() { f.store.open.release(f) }

// check reads the file if that is needed. The error is ErrNotHere if it was wrong.
func (f *File) check() error {
	if f.store.table.checked(f.blob.Digest) {
		return nil
	}
	f.reading.Lock()
	defer f.reading.Unlock()
	if f.store.table.checked(f.blob.Digest) {
		return nil
	}
	err := f.store.readAgain(f.blob.Digest, f.blob.Size)
	if wrong(err) {
		f.Bad(err)
		return errors.Join(ErrNotHere, err)
	}
	return err
}

// readAgain reads a file to see whether it is right. It ends early with the store.
func (s *Store) readAgain(digest node.Digest, size int64) error {
	file, err := os.Open(s.dir.file(digest))
	if err != nil {
		return err
	}
	defer file.Close()
	if have, err := file.Stat(); err != nil || have.Size() != size {
		return errors.Join(ErrDigest, err)
	}
	sum := sha256.New()
	buf := chunks.get()
	defer chunks.put(buf)
	for at := int64(0); at < size; at += int64(len(*buf)) {
		if s.ctx.Err() != nil {
			return ErrClosed
		}
		part := (*buf)[:min(int64(len(*buf)), size-at)]
		if _, err := file.ReadAt(part, at); err != nil {
			return fmt.Errorf("read blob %v: %w", digest, err)
		}
		sum.Write(part)
	}
	if sumOf(sum) != digest {
		return ErrDigest
	}
	s.table.markChecked(digest)
	return nil
}

// Bad reports that the file on the disk is short or has wrong bytes. It is removed, and fetched anew in the background.
// Descriptors that are in use stay usable.
func (f *File) Bad(why error) {
	if !f.here.Load() {
		return // somebody else has reported it
	}
	f.store.bad(f.blob.Digest, why)
	f.store.again(f)
}

// bad removes a file that is wrong.
func (s *Store) bad(digest node.Digest, why error) {
	s.counts.bad.Add(1)
	s.cfg.Log.Warn("a blob on this node's disk is wrong; it is fetched anew", slog.String("digest", digest.String()),
		slog.Any("error", why))
	s.remove(digest)
}
