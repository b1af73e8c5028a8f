package deploy

import (
	"fmt"
	"sync"
	"time"

	"millrace/node"
)

// maxPending, pendingBytes and pendingTime bound the manifests whose files publishers still send: their number, their
// encoded size, all in all, and their age. A decoded one takes up to five times its encoded size.
const (
	maxPending   = 32
	pendingBytes = 64 << 20
	pendingTime  = time.Hour
)

// pending are the deploys that publishers have begun at this node and that aren't in the bucket yet. It is safe for
// concurrent use.
type pending struct {
	mu    sync.Mutex // guards all below
	begun map[pendingKey]*begun
	bytes int // encoded manifests
}

// pendingKey is a deploy of a site.
type pendingKey struct {
	site string
	id   node.Digest
}

// begun is a deploy whose files may still be on their way. It never changes but for at.
type begun struct {
	key   pendingKey
	data  []byte // the manifest as it was sent
	files int
	size  int64
	blobs map[node.Digest]node.Blob // all blobs of the manifest
	at    time.Time                 // of the last use; guarded by pending.mu
}

// add notes a deploy. The oldest leave when there are too many.
func (p *pending) add(b *begun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun == nil {
		p.begun = map[pendingKey]*begun{}
	}
	p.dropLocked(b.key)
	p.begun[b.key] = b
	p.bytes += len(b.data)
	for len(p.begun) > 1 && (len(p.begun) > maxPending || p.bytes > pendingBytes) {
		var oldest *begun
		for _, o := range p.begun {
			if o != b && (oldest == nil || o.at.Before(oldest.at)) {
				oldest = o
			}
		}
		p.dropLocked(oldest.key)
	}
}

// drop forgets a deploy.
func (p *pending) drop(k pendingKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropLocked(k)
}

func (p *pending) dropLocked(k pendingKey) {
	if b := p.begun[k]; b != nil {
		p.bytes -= len(b.data)
		delete(p.begun, k)
	}
}

// use returns a deploy; nil if it isn't known.
func (p *pending) use(k pendingKey, now time.Time) *begun {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.begun[k]
	if b != nil {
		b.at = now
	}
	return b
}

// blob returns what a pending deploy of a site says of a blob.
func (p *pending) blob(site string, d node.Digest, size int64, now time.Time) (node.Blob, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, b := range p.begun {
		if out, ok := b.blobs[d]; ok && k.site == site && out.Size == size {
			b.at = now
			return out, true
		}
	}
	return node.Blob{}, false
}

// names reports whether a pending deploy names a blob. Deploys that nobody went on with are forgotten.
func (p *pending) names(d node.Digest, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for k, b := range p.begun {
		if now.Sub(b.at) > pendingTime {
			p.dropLocked(k)
			continue
		}
		if _, ok := b.blobs[d]; ok || k.id == d {
			return true
		}
	}
	return false
}

// LostRaceError is the error of a change that another one was faster than.
type LostRaceError struct {
	Live   node.Digest // what is live now; zero for nothing
	Wanted node.Digest // what the change expected to be live
}

func (e *LostRaceError) Error() string {
	return fmt.Sprintf("another deploy became live meanwhile: %s, not %s", Shown(e.Live), Shown(e.Wanted))
}

// Shown is how people see what is live: the first digits of the id, or that it is nothing.
func Shown(id node.Digest) string {
	if id == (node.Digest{}) {
		return "nothing"
	}
	return id.Short()
}
