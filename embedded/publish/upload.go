package publish

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"millrace/node"
)

// How blobs are sent: several requests at once, of a few blobs each, so that at most 8 MiB are on the way. A blob that
// is larger than that has a request of its own.
const (
	uploads     = 4
	uploadBytes = 2 << 20
	uploadBlobs = 512
	frameHeader = len(node.Digest{}) + 8
	blobsType   = "application/octet-stream"
)

// upload is the blobs of one request.
type upload struct {
	digests []node.Digest
	size    int64 // bytes of the request
}

// plan cuts what is missing into requests.
func plan(f *Folder, missing []node.Digest) []upload {
	var all []upload
	var now upload
	for _, d := range missing {
		size := int64(frameHeader) + f.sources[d].blob.Size
		if len(now.digests) > 0 && (now.size+size > uploadBytes || len(now.digests) == uploadBlobs) {
			all, now = append(all, now), upload{}
		}
		now.digests, now.size = append(now.digests, d), now.size+size
	}
	if len(now.digests) > 0 {
		all = append(all, now)
	}
	return all
}

// sendBlobs sends the blobs. The first error ends it; what was stored until then stays stored. sent is told the bytes,
// from several goroutines.
func (c *Client) sendBlobs(
	ctx context.Context, f *Folder, site string, missing []node.Digest, sent func(bytes int64),
) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan upload) // closed below
	var wg sync.WaitGroup
	for range uploads {
		wg.Go(func() {
			for u := range work {
				if err := c.sendOne(ctx, f, site, u, sent); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, u := range plan(f, missing) {
		select {
		case work <- u:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// sendOne sends one request of blobs.
func (c *Client) sendOne(ctx context.Context, f *Folder, site string, u upload, sent func(bytes int64)) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	frames := &frames{ctx: ctx, folder: f, left: u.digests, sent: sent}
	resp, err := c.send(ctx, http.MethodPost, sitePath(site, "/blobs"), blobsType, frames, u.size)
	if own := frames.stop(); own != nil { // the cause, if both failed
		return errors.Join(own, drop(resp))
	}
	if err != nil {
		return fmt.Errorf("send files: %w", err)
	}
	_, err = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
	if err = errors.Join(err, resp.Body.Close()); err != nil && ctx.Err() == nil {
		return fmt.Errorf("send files: %w: %w", ErrUnreachable, err)
	}
	return nil
}

// frames is the body of a request of blobs: for each its digest, its size as 8 bytes big endian, and its bytes.
type frames struct {
	ctx    context.Context //nolint:containedctx // an io.Reader that ends with its request
	folder *Folder
	sent   func(bytes int64)

	mu     sync.Mutex // guards the rest: a transport may read still when it has returned
	left   []node.Digest
	header []byte // what is left of the header of a frame
	now    io.ReadCloser
	failed error
}

// Read implements io.Reader.
func (r *frames) Read(p []byte) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n == 0 && err == nil && len(p) > 0 {
		n, err = r.read(p)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		r.failed = err
	}
	r.sent(int64(n))
	return n, err
}

func (r *frames) read(p []byte) (n int, err error) {
	switch {
	case r.failed != nil:
		return 0, r.failed
	case len(r.header) > 0:
		n = copy(p, r.header)
		r.header = r.header[n:]
		return n, nil
	case r.now != nil:
		n, err = r.now.Read(p)
		if errors.Is(err, io.EOF) {
			err, r.now = r.now.Close(), nil
		}
		return n, err
	case len(r.left) == 0:
		return 0, io.EOF
	}
	digest := r.left[0]
	r.left = r.left[1:]
	content, size, err := r.folder.Open(r.ctx, digest)
	if err != nil {
		return 0, err
	}
	r.now = content
	r.header = binary.BigEndian.AppendUint64(append(r.header, digest[:]...), uint64(size)) //nolint:gosec // sizes aren't negative
	return 0, nil
}

// Close implements io.Closer. The transport calls it when it reads no more.
func (r *frames) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now == nil {
		return nil
	}
	err := r.now.Close()
	r.now = nil
	return err
}

// stop ends reading and returns why reading failed, if it did.
func (r *frames) stop() error {
	err := r.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed != nil && r.ctx.Err() == nil {
		return r.failed
	}
	r.failed = io.ErrClosedPipe
	return err
}
