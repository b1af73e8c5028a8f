package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"millrace/node"
)

// Stream returns length bytes of the content from offset on; length below 0 means all that follow. It is for a blob
// that isn't on this node's disk: its chunks are fetched, first those that are asked for, and each is checked before a
// byte of it is read. All readers of a blob share one fetch, which goes on while any of them reads, and leaves the blob
// on the disk. Stream returns when the first byte is there. Reading ends with ctx; the caller closes the reader. The
// errors are ErrMissing, ErrAway, ErrBusy and those of the disk; the reader has the same.
func (f *File) Stream(ctx context.Context, offset, length int64) (io.ReadCloser, error) {
	if err := f.blob.Check(); err != nil {
		return nil, err
	}
	if length < 0 {
		length = f.blob.Size - offset
	}
	if offset < 0 || length < 0 || offset > f.blob.Size-length {
		return nil, fmt.Errorf("read %d bytes from %d of a blob of %d: %w", length, offset, f.blob.Size, io.EOF)
	}
	if file, err := f.Acquire(); err == nil {
		return &heldReader{SectionReader: io.NewSectionReader(file, offset, length), f: f}, nil
	}
	first := int(offset / node.BlobChunk)
	last := int(max(offset+length-1, offset) / node.BlobChunk)
	r := &reader{at: min(first, f.blob.Parts()-1), end: min(last+1, f.blob.Parts())}
	a, err := f.store.join(f, r)
	if err != nil {
		return nil, err
	}
	out := &comingReader{ctx: ctx, a: a, r: r, at: offset, end: offset + length}
	if err := a.await(ctx, r, r.at); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return out, nil
}

// heldReader reads a file that is on the disk.
type heldReader struct {
	*io.SectionReader

	f *File
}

// Close releases the file.
func (r *heldReader) Close() error {
	if r.f != nil {
		r.f.Release()
		r.f = nil
	}
	return nil
}

// comingReader reads a blob that is coming.
type comingReader struct {
	ctx     context.Context //nolint:containedctx // of one reading
	a       *arrival
	r       *reader
	at, end int64
	closed  bool
}

// Read waits for the next chunk if it isn't there.
func (r *comingReader) Read(b []byte) (int, error) {
	if r.closed {
		return 0, os.ErrClosed
	}
	if r.at >= r.end {
		return 0, io.EOF
	}
	n := r.at / node.BlobChunk
	if err := r.a.await(r.ctx, r.r, int(n)); err != nil {
		return 0, err
	}
	size := min(int64(len(b)), r.end-r.at, (n+1)*node.BlobChunk-r.at)
	got, err := r.a.read.ReadAt(b[:size], r.at)
	r.at += int64(got)
	return got, err
}

// Close ends the reading. If nobody else reads the blob, no more of it is fetched.
func (r *comingReader) Close() error {
	if !r.closed {
		r.closed = true
		r.a.leave(r.r)
	}
	return nil
}
