package node_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"millrace/node"
)

// A digest is written and read as 64 digits, and nothing else is one.
func TestDigest(t *testing.T) {
	t.Parallel()
	const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // FIPS 180-4: of no bytes
	d := node.DigestOf(nil)
	if d.String() != empty {
		t.Errorf("got %s", d)
	}
	if back, err := node.ParseDigest(empty); err != nil || back != d {
		t.Errorf("got %s, %v", back, err)
	}
	for _, s := range []string{
		"", empty[1:], empty + "0", strings.ToUpper(empty), strings.Replace(empty, "e", "g", 1), strings.Repeat("0", 64),
	} {
		if _, err := node.ParseDigest(s); !errors.Is(err, node.ErrDigest) {
			t.Errorf("%q: %v", s, err)
		}
	}
	var zero struct{ ID node.Digest }
	text, err := json.Marshal(zero)
	if err != nil || string(text) != `{"ID":""}` {
		t.Errorf("got %s, %v", text, err)
	}
	zero.ID = d
	if err := json.Unmarshal(text, &zero); err != nil || zero.ID != (node.Digest{}) {
		t.Errorf("got %s, %v", zero.ID, err)
	}
}

// A blob's size says how many chunks it has and how large each is.
func TestBlob(t *testing.T) {
	t.Parallel()
	d := node.DigestOf(nil)
	const c = node.BlobChunk
	for _, b := range []struct {
		size   int64
		chunks int // listed
		parts  int
		last   int64
		ok     bool
	}{
		{0, 0, 1, 0, true}, {1, 0, 1, 1, true}, {c, 0, 1, c, true}, {c + 1, 2, 2, 1, true}, {3 * c, 3, 3, c, true},
		{c + 1, 0, 2, 1, false}, {c, 1, 1, c, false}, {3 * c, 2, 3, c, false}, {-1, 0, 1, -1, false},
	} {
		blob := node.Blob{Digest: d, Size: b.size, Chunks: make([]node.Digest, b.chunks)}
		if err := blob.Check(); (err == nil) != b.ok || (err != nil && !errors.Is(err, node.ErrBlob)) {
			t.Errorf("%d bytes, %d chunks: %v", b.size, b.chunks, err)
		}
		if blob.Parts() != b.parts || blob.PartSize(b.parts-1) != b.last {
			t.Errorf("%d bytes: %d parts, the last of %d", b.size, blob.Parts(), blob.PartSize(b.parts-1))
		}
	}
	if err := (&node.Blob{}).Check(); !errors.Is(err, node.ErrBlob) {
		t.Errorf("no digest: %v", err)
	}
	two := node.Blob{Digest: d, Size: c + 1, Chunks: []node.Digest{{1}, {2}}}
	one := node.Blob{Digest: d, Size: 1}
	if two.PartDigest(1) != (node.Digest{2}) || one.PartDigest(0) != d {
		t.Error("a chunk has the wrong digest")
	}
}
