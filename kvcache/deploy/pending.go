package deploy

import (
	"fmt"
	"sync"
	"time"

	"millrace/node"
	"millrace/node/site"
)

// maxPending and pendingTime bound the manifests whose files publishers still send.
const (
	maxPending  = 32
	pendingTime = time.Hour
)

// pending are the deploys that publishers have begun at this node and that aren't in the bucket yet. It is safe for
// concurrent use.
type pending struct {
	mu    sync.Mutex             // guards begun
	begun map[node.Digest]*begun // by id
}

// begun is a deploy whose files may still be on their way.
type begun struct {
	id       node.Digest
	data     []byte // the manifest as it was sent
	manifest *site.Manifest
	blobs    map[node.Digest]node.Blob // all blobs of the manifest
	at       time.Time                 // of the last use
}

// add notes a deploy. The oldest leaves when there are too many.
func (p *pending) add(b *begun) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.begun == nil {
		p.begun = map[node.Digest]*begun{}
	}
	p.begun[b.id] = b
	for len(p.begun) > maxPending {
		var oldest *begun
		for _, o := range p.begun {
			if oldest == nil || o.at.Before(oldest.at) {
				oldest = o
			}
		}
		delete(p.begun, oldest.id)
	}
}

// use returns a deploy by its id; nil if it isn't known.
func (p *pending) use(id node.Digest, now time.Time) *begun {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.begun[id]
	if b != nil {
		b.at = now
	}
	return b
}

// blob returns what a pending deploy says of a blob.
func (p *pending) blob(d node.Digest, now time.Time) (node.Blob, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.begun {
		if out, ok := b.blobs[d]; ok {
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
	for id, b := range p.begun {
		if now.Sub(b.at) > pendingTime {
			delete(p.begun, id)
			continue
		}
		if _, ok := b.blobs[d]; ok || id == d {
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
	return fmt.Sprintf("another deploy became live meanwhile: %s, not %s", nameOf(e.Live), nameOf(e.Wanted))
}

func nameOf(id node.Digest) string {
	if id == (node.Digest{}) {
		return "nothing"
	}
	return shortID(id)
}
