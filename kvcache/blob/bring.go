package blob

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"

	"millrace/node"
)

// Bring fetches those of the blobs that aren't on this node's disk, many small ones at once. progress, if not nil, is
// called with the bytes that came, from several goroutines at once. The errors are ErrMissing, ErrAway, node.ErrBlob
// and those of the disk; the blobs that came before stay.
func (s *Store) Bring(ctx context.Context, blobs []node.Blob, progress func(bytes int64)) error {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if progress == nil {
		progress = func(int64) {}
	}
	var small []part
	var large []*node.Blob
	seen := make(map[node.Digest]bool, len(blobs))
	for i := range blobs {
		b := &blobs[i]
		if err := b.Check(); err != nil {
			return err
		}
		switch {
		case seen[b.Digest] || s.Has(*b):
		case b.Parts() == 1:
			small = append(small, part{blob: b})
		default:
			large = append(large, b)
		}
		seen[b.Digest] = true
	}
	err = s.fetch(ctx, small, func(p part, data []byte) error {
		if err := s.writeSmall(p.blob, data); err != nil {
			return err
		}
		progress(int64(len(data)))
		return nil
	})
	if err != nil {
		return fmt.Errorf("bring blobs: %w", err)
	}
	for _, b := range large {
		if err := s.bringLarge(ctx, b, progress); err != nil {
			return fmt.Errorf("bring blob %v: %w", b.Digest, err)
		}
	}
	return nil
}

// bringLarge brings a blob of several chunks, together with those who read it meanwhile.
func (s *Store) bringLarge(ctx context.Context, b *node.Blob, progress func(int64)) error {
	f := s.File(*b)
	r := &reader{}
	a, err := s.join(f, r)
	if err != nil {
		return err
	}
	defer a.leave(r)
	return a.awaitWhole(ctx, progress)
}

// checkWhole reads a file that was written, and returns ErrDigest if it isn't the blob.
func checkWhole(file *os.File, b *node.Blob) error {
	whole := sha256.New()
	buf := chunks.get()
	defer chunks.put(buf)
	for n := range b.Parts() {
		part := (*buf)[:b.PartSize(n)]
		if _, err := file.ReadAt(part, int64(n)*node.BlobChunk); err != nil {
			return err
		}
		whole.Write(part)
	}
	if sumOf(whole) != b.Digest {
		return ErrDigest
	}
	return nil
}

// ReadAll returns the whole content of a blob, such as a manifest. If it isn't on this node's disk, it is brought there
// first. The errors are those of Bring.
func (s *Store) ReadAll(ctx context.Context, b node.Blob) ([]byte, error) {
	return s.File(b).load(ctx, false)
}

// again fetches a blob in the background that was wrong on this node's disk. If that isn't possible now, since NATS is
// away or many others are being fetched anew, it comes when it is asked for.
func (s *Store) again(f *File) {
	select {
	case s.anew <- struct{}{}:
	default:
		return
	}
	begun := s.spawn(func() {
		defer func() { <-s.anew }()
		if err := s.Bring(s.ctx, []node.Blob{f.blob}, nil); err != nil && s.ctx.Err() == nil {
			s.cfg.Log.Warn("a wrong blob can't be fetched anew", slog.String("digest", f.blob.Digest.String()),
				slog.Any("error", err))
		}
	})
	if !begun {
		<-s.anew
	}
}
