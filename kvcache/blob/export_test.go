package blob

import (
	"context"
	"os"
	"time"

	"millrace/node"
)

// Lacks reports whether the mesh lacks a blob, and claims nothing.
func (s *Store) Lacks(ctx context.Context, b node.Blob) (bool, error) {
	have, err := s.whole(ctx, []node.Blob{b})
	return !have[b.Digest], err
}

// SetDisk makes writes fail with what refuse returns. The caller does it before the store is used.
func (s *Store) SetDisk(refuse func(n int) error) { s.dir.refuse = refuse }

// SetStale makes the store take a collection for dead after d.
func (s *Store) SetStale(d time.Duration) { s.claims.stale = d }

// BeginCollection makes the mesh look as if a node had died while it purged blobs.
func (s *Store) BeginCollection(t interface {
	Helper()
	Fatal(args ...any)
},
) {
	t.Helper()
	was, err := s.claims.state(s.ctx)
	if err == nil {
		_, err = s.claims.set(s.ctx, was, true)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// StreamName is the name of the stream.
func (s *Store) StreamName() string { return s.stream.name }

// Temporary is how many files are being written.
func (s *Store) Temporary() int {
	entries, err := os.ReadDir(s.dir.temporary())
	if err != nil {
		return -1
	}
	return len(entries)
}

// Known is how many blobs have Files.
func (s *Store) Known() int {
	s.table.mu.Lock()
	defer s.table.mu.Unlock()
	return len(s.table.files)
}

// AppendAsk writes a request for the first chunk of each blob.
func AppendAsk(b []byte, blobs []node.Blob) []byte {
	var parts []part
	for i := range blobs {
		parts = append(parts, part{blob: &blobs[i]})
	}
	return appendAsk(b, parts)
}

// ReadAsk reads a request and writes it again.
func ReadAsk(b []byte) ([]byte, error) {
	wanted, err := readAsk(b)
	var parts []part
	for _, a := range wanted {
		parts = append(parts, part{blob: &node.Blob{Digest: a.digest}, n: a.n})
	}
	return appendAsk(nil, parts), err
}

// ReadAnswer reads an answer and writes it again.
func ReadAnswer(b []byte) ([]byte, bool) {
	a, ok := readAnswer(b)
	return append(appendAnswer(nil, a.kind, a.at), a.data...), ok
}
