package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"millrace/node"
)

// Put stores a blob on this node's disk and in the mesh, and returns when it is whole there. It reads the content from
// r to the end. What the mesh has of a large blob isn't sent again. The errors are ErrDigest, also for a content of
// another size, ErrFull, ErrAway, node.ErrBlob, and those of r and of the disk.
func (s *Store) Put(ctx context.Context, b node.Blob, r io.Reader) error {
	u := s.Upload()
	return errors.Join(u.Put(ctx, b, r), u.Wait())
}

// PutBytes stores data as a blob, as Put does.
func (s *Store) PutBytes(ctx context.Context, data []byte) (node.Blob, error) {
	b := Of(data)
	return b, s.Put(ctx, b, bytes.NewReader(data))
}

// Of returns the Blob of a content.
func Of(data []byte) node.Blob {
	b := node.Blob{Digest: node.DigestOf(data), Size: int64(len(data))}
	for n := 0; b.Size > node.BlobChunk && n < b.Parts(); n++ {
		at := int64(n) * node.BlobChunk
		b.Chunks = append(b.Chunks, node.DigestOf(data[at:at+b.PartSize(n)]))
	}
	return b
}

// Upload stores many blobs. While one is sent, the next may be read. It is safe for concurrent use.
type Upload struct {
	s       *Store
	sending sync.WaitGroup

	mu  sync.Mutex // guards err
	err error
}

// Upload begins to store blobs. The caller calls Wait in the end.
func (s *Store) Upload() *Upload { return &Upload{s: s} }

// Put reads the content of a blob from r onto this node's disk, and sends it to the mesh in the background. It waits
// while too much is being sent. It returns the errors of reading, as Store.Put does, or one of an earlier blob that
// couldn't be sent. ctx ends the sending as well.
func (u *Upload) Put(ctx context.Context, b node.Blob, r io.Reader) error {
	if err := b.Check(); err != nil {
		return err
	}
	if err := u.failure(); err != nil {
		return err
	}
	ctx, end, err := u.s.begin(ctx)
	if err != nil {
		return err
	}
	if b.Size <= node.BlobChunk {
		err = u.small(ctx, end, &b, r)
	} else {
		err = u.large(ctx, end, &b, r)
	}
	if err != nil {
		end()
	}
	return err
}

// Wait returns when everything is sent, with the first error there was.
func (u *Upload) Wait() error {
	u.sending.Wait()
	return u.failure()
}

func (u *Upload) failure() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// send runs one sending in the background, and then end.
func (u *Upload) send(end func(), f func() error) {
	u.sending.Go(func() {
		defer end()
		if err := f(); err != nil {
			u.mu.Lock()
			defer u.mu.Unlock()
			if u.err == nil {
				u.err = err
			}
		}
	})
}

func (u *Upload) small(ctx context.Context, end func(), b *node.Blob, r io.Reader) error {
	weight := max(b.Size, sendWeight)
	if err := u.s.sends.take(ctx, weight); err != nil {
		return err
	}
	data := make([]byte, b.Size)
	err := u.s.spoolSmall(b, r, data)
	if err != nil {
		u.s.sends.give(weight)
		return err
	}
	u.send(end, func() error {
		defer u.s.sends.give(weight)
		return u.s.sendSmall(ctx, b, data)
	})
	return nil
}

// spoolSmall reads a blob of one chunk into data, and onto the disk.
func (s *Store) spoolSmall(b *node.Blob, r io.Reader, data []byte) error {
	if _, err := io.ReadFull(r, data); err != nil {
		return short(b, err)
	}
	if node.DigestOf(data) != b.Digest {
		return fmt.Errorf("read blob %v: %w", b.Digest, ErrDigest)
	}
	if err := atEnd(b, r); err != nil {
		return err
	}
	if s.table.has(b.Digest, b.Size) && s.table.checked(b.Digest) {
		return nil
	}
	return s.writeSmall(b, data)
}

// writeSmall writes a blob of one chunk, whose digest was checked, onto the disk.
func (s *Store) writeSmall(b *node.Blob, data []byte) error {
	w, err := s.dir.create()
	if err != nil {
		return fmt.Errorf("write blob %v: %w", b.Digest, err)
	}
	if _, err := w.Write(data); err != nil {
		w.drop()
		return fmt.Errorf("write blob %v: %w", b.Digest, err)
	}
	if err := s.keep(w, b.Digest, b.Size); err != nil {
		return fmt.Errorf("write blob %v: %w", b.Digest, err)
	}
	return nil
}

// short makes ErrDigest of a content that ended too early.
func short(b *node.Blob, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.Join(ErrDigest, err)
	}
	return fmt.Errorf("read blob %v: %w", b.Digest, err)
}

// atEnd returns ErrDigest if r has more.
func atEnd(b *node.Blob, r io.Reader) error {
	var one [1]byte
	switch n, err := io.ReadFull(r, one[:]); {
	case n > 0:
		return fmt.Errorf("read blob %v: more than %d bytes: %w", b.Digest, b.Size, ErrDigest)
	case errors.Is(err, io.EOF):
		return nil
	default:
		return fmt.Errorf("read blob %v: %w", b.Digest, err)
	}
}

func (u *Upload) large(ctx context.Context, end func(), b *node.Blob, r io.Reader) error {
	select {
	case u.s.larges <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	file, err := u.s.spoolLarge(b, r)
	if err != nil {
		<-u.s.larges
		return err
	}
	u.send(end, func() error {
		defer func() { <-u.s.larges }()
		defer file.Close()
		return u.s.sendLarge(ctx, b, file)
	})
	return nil
}

// spoolLarge reads a blob of several chunks onto the disk, and returns its file.
func (s *Store) spoolLarge(b *node.Blob, r io.Reader) (*os.File, error) {
	w, err := s.dir.create()
	if err != nil {
		return nil, fmt.Errorf("write blob %v: %w", b.Digest, err)
	}
	if err := copyChunks(w, b, r); err != nil {
		w.drop()
		return nil, err
	}
	file, err := os.Open(w.Name())
	if err != nil {
		w.drop()
		return nil, fmt.Errorf("open blob %v: %w", b.Digest, err)
	}
	if err := s.keep(w, b.Digest, b.Size); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("write blob %v: %w", b.Digest, err)
	}
	return file, nil
}

// copyChunks copies a blob from r to w, and checks the digests of the chunks and of the whole.
func copyChunks(w io.Writer, b *node.Blob, r io.Reader) error {
	whole := sha256.New()
	buf := chunks.get()
	defer chunks.put(buf)
	for n := range b.Parts() {
		part := (*buf)[:b.PartSize(n)]
		if _, err := io.ReadFull(r, part); err != nil {
			return short(b, err)
		}
		if node.DigestOf(part) != b.PartDigest(n) {
			return fmt.Errorf("read chunk %d of blob %v: %w", n, b.Digest, ErrDigest)
		}
		whole.Write(part)
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("write blob %v: %w", b.Digest, err)
		}
	}
	if sumOf(whole) != b.Digest {
		return fmt.Errorf("read blob %v: %w", b.Digest, ErrDigest)
	}
	return atEnd(b, r)
}

func sumOf(h hash.Hash) (d node.Digest) {
	h.Sum(d[:0])
	return d
}

// sendLarge sends those chunks of a blob that the stream lacks, and then the first.
func (s *Store) sendLarge(ctx context.Context, b *node.Blob, file io.ReaderAt) error {
	have, err := s.trusted(ctx, b)
	if err != nil {
		return fmt.Errorf("send blob %v: %w", b.Digest, err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var sending sync.WaitGroup
	for n := 1; n < b.Parts(); n++ {
		if have[n] {
			continue
		}
		size := b.PartSize(n)
		if s.sends.take(ctx, size) != nil {
			break
		}
		sending.Go(func() {
			defer s.sends.give(size)
			if err := s.sendPart(ctx, b, file, n); err != nil {
				cancel(err)
			}
		})
	}
	sending.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := s.sends.take(ctx, node.BlobChunk); err != nil {
		return err
	}
	defer s.sends.give(node.BlobChunk)
	return s.sendPart(ctx, b, file, 0)
}

func (s *Store) sendPart(ctx context.Context, b *node.Blob, file io.ReaderAt, n int) error {
	buf := chunks.get()
	defer chunks.put(buf)
	part := (*buf)[:b.PartSize(n)]
	if _, err := file.ReadAt(part, int64(n)*node.BlobChunk); err != nil {
		return fmt.Errorf("send chunk %d of blob %v: %w", n, b.Digest, err)
	}
	if node.DigestOf(part) != b.PartDigest(n) {
		return fmt.Errorf("send chunk %d of blob %v: %w", n, b.Digest, ErrDigest)
	}
	if err := s.publish(ctx, s.stream.subject(b.Digest, n), part); err != nil {
		return fmt.Errorf("send chunk %d of blob %v: %w", n, b.Digest, err)
	}
	return nil
}

// chunks has buffers of the size of a chunk.
var chunks = bufferPool{}

type bufferPool struct{ pool sync.Pool }

func (p *bufferPool) get() *[]byte {
	if buf, ok := p.pool.Get().(*[]byte); ok {
		return buf
	}
	buf := make([]byte, node.BlobChunk)
	return &buf
}

func (p *bufferPool) put(buf *[]byte) { p.pool.Put(buf) }

// trusted returns which chunks of a large blob the stream has, and won't lose before the first one is sent.
func (s *Store) trusted(ctx context.Context, b *node.Blob) (map[int]bool, error) {
	if err := s.stream.ensure(ctx); err != nil {
		return nil, err
	}
	if err := s.claim(ctx, []node.Blob{*b}); err != nil {
		return nil, err
	}
	have := make(map[int]bool)
	err := s.stream.each(ctx, b.Digest.String()+".*", func(_ node.Digest, n int) { have[n] = true })
	return have, err
}
