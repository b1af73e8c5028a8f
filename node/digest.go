package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
)

// Digest is the SHA-256 of some content, which it names (FIPS 180-4). The zero value names nothing.
type Digest [sha256.Size]byte

// DigestOf returns the digest of b.
func DigestOf(b []byte) Digest { return sha256.Sum256(b) }

// ErrDigest means that a text is not a digest.
var ErrDigest = errors.New("a digest has 64 hexadecimal digits in lower case")

// ParseDigest reads the 64 hexadecimal digits that String writes. The error is ErrDigest.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	err := d.UnmarshalText([]byte(s))
	if err == nil && d == (Digest{}) {
		err = ErrDigest
	}
	return d, err
}

// String returns the digest as 64 hexadecimal digits in lower case: safe as a file name and as a token of a subject.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// shortDigits is how many digits of a digest Short returns.
const shortDigits = 12

// Short returns the first digits of String: how people see the id of a deploy.
func (d Digest) Short() string { return d.String()[:shortDigits] }

// MarshalText writes the digest as String does, and an empty text for the zero value.
func (d Digest) MarshalText() ([]byte, error) {
	if d == (Digest{}) {
		return nil, nil
	}
	return hex.AppendEncode(nil, d[:]), nil
}

// UnmarshalText reads what MarshalText writes. The error is ErrDigest.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = Digest{}
		return nil
	}
	if len(text) != hex.EncodedLen(len(d)) {
		return ErrDigest
	}
	for _, c := range text {
		if c >= 'A' && c <= 'F' {
			return ErrDigest
		}
	}
	if _, err := hex.Decode(d[:], text); err != nil {
		return ErrDigest
	}
	return nil
}

// BlobChunk is the size of the chunks in which nodes keep and send a blob, in bytes. Only the last may be smaller.
const BlobChunk = int64(MaxMessageBody)

// Blob names some content: its digest and size in bytes. Of one larger than BlobChunk, Chunks has the digest of each
// chunk in order, so that a part of it can be checked without the rest; else Chunks is empty.
type Blob struct {
	Digest Digest   `json:"digest"`
	Size   int64    `json:"size"`
	Chunks []Digest `json:"chunks,omitempty"`
}

// Parts returns the number of chunks: at least one, since an empty blob is one empty chunk.
func (b *Blob) Parts() int { return max(int((b.Size+BlobChunk-1)/BlobChunk), 1) }

// PartSize returns the size of chunk n, in bytes.
func (b *Blob) PartSize(n int) int64 { return min(BlobChunk, b.Size-int64(n)*BlobChunk) }

// PartDigest returns the digest of chunk n.
func (b *Blob) PartDigest(n int) Digest {
	if len(b.Chunks) == 0 {
		return b.Digest
	}
	return b.Chunks[n]
}

// ErrBlob means that a Blob has no digest, or that its size and chunks don't fit together.
var ErrBlob = errors.New("a blob needs a digest, a size, and the digest of each chunk if it has several")

// Check returns ErrBlob if there is no digest, or size and chunks don't fit together.
func (b *Blob) Check() error {
	want := 0
	if b.Size > BlobChunk {
		want = b.Parts()
	}
	if b.Size < 0 || len(b.Chunks) != want || b.Digest == (Digest{}) {
		return ErrBlob
	}
	return nil
}
