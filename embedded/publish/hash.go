package publish

import (
	"crypto/sha256"
	"hash"

	"millrace/node"
)

// hasher computes a node.Blob of what is written to it. The chunks of the first 512 KiB cost nothing: until then the
// digest of the chunk is that of the whole.
type hasher struct {
	whole, part hash.Hash
	size        int64
	chunks      []node.Digest
}

func newHasher() *hasher { return &hasher{whole: sha256.New(), part: sha256.New()} }

// Write never fails.
func (h *hasher) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if h.size > 0 && h.size%node.BlobChunk == 0 {
			h.endChunk()
		}
		piece := p[:min(int64(len(p)), node.BlobChunk-h.size%node.BlobChunk)]
		_, _ = h.whole.Write(piece) // a hash's Write never fails
		if h.size >= node.BlobChunk {
			_, _ = h.part.Write(piece) // likewise
		}
		h.size += int64(len(piece))
		p = p[len(piece):]
	}
	return n, nil
}

// endChunk keeps the digest of a chunk that is full.
func (h *hasher) endChunk() {
	from := h.part
	if h.size == node.BlobChunk {
		from = h.whole
	}
	h.chunks = append(h.chunks, node.Digest(from.Sum(nil)))
	h.part.Reset()
}

// blob returns the digests of all that was written. Nothing may be written after it.
func (h *hasher) blob() node.Blob {
	b := node.Blob{Digest: node.Digest(h.whole.Sum(nil)), Size: h.size}
	if h.size > node.BlobChunk {
		h.endChunk()
		b.Chunks = h.chunks
	}
	return b
}

func (h *hasher) reset() {
	h.whole.Reset()
	h.part.Reset()
	h.size, h.chunks = 0, nil
}
