package admin

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"millrace/kvcache/blob"
	"millrace/kvcache/deploy"
	"millrace/node"
	"millrace/node/site"
)

// Limits of the bodies that publishers send. A manifest is in memory as a whole, and a blob of one chunk, too. Those of
// a site are fewer than all, so that a site's token leaves room for other sites. Publishers have up to 4 requests.
const (
	maxManifests, maxManifestsOfSite = 4, 2
	maxBlobs, maxBlobsOfSite         = 64, 16

	bodyPause = 30 * time.Second // the longest pause in a body, and what one may take beyond bodyPace
	bodyPace  = 16 << 10         // bytes a second
)

// uploads bounds how many bodies of a kind are taken at once. It is safe for concurrent use.
type uploads struct {
	most, mostOfSite int

	mu     sync.Mutex // guards what follows
	all    int
	bySite map[string]int
}

// enter begins to take a body for a site, until leave. It answers the request itself if there are too many.
func (u *uploads) enter(w http.ResponseWriter, site string) (leave func(), ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all >= u.most || u.bySite[site] >= u.mostOfSite {
		w.Header().Set("Connection", "close") // the body isn't read
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "too much is being published at once: try again")
		return nil, false
	}
	if u.bySite == nil {
		u.bySite = map[string]int{}
	}
	u.all++
	u.bySite[site]++
	return func() { u.leave(site) }, true
}

func (u *uploads) leave(site string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all--
	if u.bySite[site]--; u.bySite[site] == 0 {
		delete(u.bySite, site)
	}
}

// pausing reads a body that may be long, but neither stand still nor trickle. The time in which nobody reads it doesn't
// count.
type pausing struct {
	io.Reader

	out    *http.ResponseController
	read   int64         // bytes
	waited time.Duration // for them
}

func (p *pausing) Read(b []byte) (int, error) {
	begun := time.Now()
	left := bodyPause + time.Duration(p.read/bodyPace)*time.Second - p.waited
	_ = p.out.SetReadDeadline(begun.Add(min(left, bodyPause))) // if this fails, so does Read
	n, err := p.Reader.Read(b)
	p.read, p.waited = p.read+int64(n), p.waited+time.Since(begun)
	return n, err
}

// bodyOf returns the body of a page that takesStream.
func bodyOf(w http.ResponseWriter, r *http.Request) io.Reader {
	out := http.NewResponseController(w)
	_ = out.SetWriteDeadline(time.Time{}) // reply sets another
	return &pausing{Reader: r.Body, out: out}
}

// readManifest reads a body of that length, -1 if it isn't known, up to a byte more than a manifest may have. It takes
// no more memory than the body has: a buffer that grows takes several times as much.
func readManifest(in io.Reader, length int64) ([]byte, error) {
	var b bytes.Buffer
	if length > 0 && length <= site.MaxManifest {
		b.Grow(int(length) + bytes.MinRead)
	}
	_, err := b.ReadFrom(io.LimitReader(in, site.MaxManifest+1))
	return b.Bytes(), err
}

// takeBlobs stores the blobs of a body, and returns how many there were.
func takeBlobs(ctx context.Context, up BlobUpload, in io.Reader) (stored int, err error) {
	for {
		found, err := receiveFrame(ctx, up, in)
		switch {
		case err != nil:
			_ = up.Wait() // what came before is stored all the same
			return stored, fmt.Errorf("take blob %d of the request: %w", stored+1, err)
		case !found:
			return stored, up.Wait()
		}
		stored++
	}
}

// receiveFrame reads one blob with what stands before it: 32 bytes of digest and 8 of size, big endian. found is false
// at the end of the body.
func receiveFrame(ctx context.Context, up BlobUpload, in io.Reader) (found bool, err error) {
	var head [len(node.Digest{}) + 8]byte
	switch _, err := io.ReadFull(in, head[:]); {
	case errors.Is(err, io.EOF):
		return false, nil
	case err != nil:
		return false, brokenOff(err)
	}
	size := int64(binary.BigEndian.Uint64(head[len(node.Digest{}):])) //nolint:gosec // G115: a negative one is refused
	if size < 0 || size > site.MaxFile {
		return false, deploy.ErrUnknownBlob
	}
	body := &io.LimitedReader{R: in, N: size}
	if size <= node.BlobChunk { // the store holds a place for it while it is read: none waits for a client's network
		content := make([]byte, size)
		if _, err := io.ReadFull(in, content); err != nil {
			return false, brokenOff(err)
		}
		body.R = bytes.NewReader(content)
	}
	if err := up.Put(ctx, node.Digest(head[:len(node.Digest{})]), size, body); err != nil {
		return false, err
	}
	_, err = io.Copy(io.Discard, body) // what was there already may not have been read
	return true, err
}

// brokenOff is the error of a body that isn't as long as it says, and any other one of reading it.
func brokenOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.Join(blob.ErrDigest, io.ErrUnexpectedEOF)
	}
	return err
}
