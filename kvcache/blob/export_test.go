package blob

import (
	"context"
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

// StreamName is the name of the stream, and Subject the subject of a chunk.
func (s *Store) StreamName() string { return s.stream.name }

// Path is where a blob is on the disk.
var Path = func(s *Store, name string) string { return s.dir.path + "/b/" + name[:2] + "/" + name }
