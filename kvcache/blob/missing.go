package blob

import (
	"context"
	"fmt"

	"millrace/node"
)

// askEach is up to how many blobs are asked for one by one; for more, everything is listed.
const askEach = 16

// Missing returns those blobs that the mesh doesn't have whole. Those that it has aren't collected within the grace of
// Collect. The errors are ErrAway, ErrFull and node.ErrBlob.
func (s *Store) Missing(ctx context.Context, blobs []node.Blob) ([]node.Blob, error) {
	ctx, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	for i := range blobs {
		if err := blobs[i].Check(); err != nil {
			return nil, err
		}
	}
	if err := s.stream.ensure(ctx); err != nil {
		return nil, err
	}
	if err := s.claim(ctx, blobs); err != nil {
		return nil, err
	}
	have, err := s.whole(ctx, blobs)
	if err != nil {
		return nil, fmt.Errorf("ask for missing blobs: %w", err)
	}
	var out []node.Blob
	for _, b := range blobs {
		if !have[b.Digest] {
			have[b.Digest] = true // it is named once
			out = append(out, b)
		}
	}
	return out, nil
}

// whole returns those digests that the stream has whole, at least of the blobs.
func (s *Store) whole(ctx context.Context, blobs []node.Blob) (map[node.Digest]bool, error) {
	have := make(map[node.Digest]bool)
	note := func(digest node.Digest, _ int) { have[digest] = true }
	if len(blobs) > askEach {
		return have, s.stream.each(ctx, "*.0", note)
	}
	for i := range blobs {
		if err := s.stream.each(ctx, blobs[i].Digest.String()+".0", note); err != nil {
			return nil, err
		}
	}
	return have, nil
}
