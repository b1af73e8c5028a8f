package publish

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"millrace/node"
)

// errChanges means that a file didn't stay the same while it was read.
var errChanges = errors.New("changes while it is read: publish when the build is done")

// errNotRegular means that a name isn't a file with bytes.
var errNotRegular = errors.New("is no regular file")

// readAttempts is how often a file that changes is read before the folder is refused.
const readAttempts = 3

// readBuffer is the size of the pieces in which files are read, in bytes.
const readBuffer = 128 << 10

// stamp is the state of a file that tells whether it changed.
type stamp struct {
	size int64
	at   time.Time
}

func stampOf(info fs.FileInfo) stamp { return stamp{info.Size(), info.ModTime()} }

// openFile opens a regular file of the folder. A pipe that took the place of the file doesn't block it.
func openFile(root *os.Root, resolved string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(filepath.FromSlash(resolved), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("can't be read: %w", plain(err))
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotRegular
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// reader reads files with one buffer. It isn't safe for concurrent use.
type reader struct {
	root   *os.Root
	limit  int64 // bytes of one file
	buffer []byte
	hash   *hasher
	head   []byte // the first bytes of the last file
}

func newReader(root *os.Root, limit int64) *reader {
	return &reader{root: root, limit: limit, buffer: make([]byte, readBuffer), hash: newHasher()}
}

// blob reads a file and returns its digests. A file that changes meanwhile is read again, a few times. between is
// called after the bytes were read and before it is looked whether they have changed; it may be nil.
func (r *reader) blob(ctx context.Context, resolved string, between func(attempt int)) (node.Blob, stamp, error) {
	for attempt := range readAttempts {
		b, at, err := r.once(ctx, resolved, func() {
			if between != nil {
				between(attempt)
			}
		})
		if !errors.Is(err, errChanges) {
			return b, at, err
		}
	}
	return node.Blob{}, stamp{}, errChanges
}

func (r *reader) once(ctx context.Context, resolved string, between func()) (b node.Blob, at stamp, err error) {
	f, info, err := openFile(r.root, resolved)
	if err != nil {
		return b, at, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	at = stampOf(info)
	if at.size > r.limit {
		return b, at, tooLarge(at.size, r.limit)
	}
	if b, err = r.read(ctx, f, at.size); err != nil {
		return b, at, err
	}
	between()
	after, err := f.Stat()
	if err != nil {
		return b, at, fmt.Errorf("can't be read: %w", plain(err))
	}
	if stampOf(after) != at || b.Size != at.size {
		return b, at, errChanges
	}
	return b, at, nil
}

// read hashes at most size bytes and one more: a file that grows isn't read for ever.
func (r *reader) read(ctx context.Context, from io.Reader, size int64) (node.Blob, error) {
	r.hash.reset()
	r.head = r.head[:0]
	from = io.LimitReader(from, size+1)
	for {
		if err := ctx.Err(); err != nil {
			return node.Blob{}, err
		}
		n, err := from.Read(r.buffer)
		if len(r.head) < headBytes {
			r.head = append(r.head, r.buffer[:min(n, headBytes-len(r.head))]...)
		}
		_, _ = r.hash.Write(r.buffer[:n]) // never fails
		if errors.Is(err, io.EOF) {
			return r.hash.blob(), nil
		}
		if err != nil {
			return node.Blob{}, fmt.Errorf("can't be read: %w", plain(err))
		}
	}
}

// headBytes is how much of each file is looked at for a private key, in bytes.
const headBytes = 128

func tooLarge(size, limit int64) error {
	return fmt.Errorf("has %s, and a file of a site may have %s", ShowBytes(size), ShowBytes(limit))
}

// ShowBytes writes a number of bytes for people, such as 1.5 MiB.
func ShowBytes(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d bytes", n)
	}
	value, i := float64(n)/unit, 0
	for ; value >= unit && i < 4; i++ {
		value /= unit
	}
	return fmt.Sprintf("%.4g %ciB", value, "KMGTP"[i])
}
