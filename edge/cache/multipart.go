package cache

import (
	"errors"
	"io"
	"sync"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// multipart gives several parts in their frame, from where they lie.
func (c *serving) multipart(
	x *exchange.Exchange, l *lookup, resp *mesh.Response, spans []httpcache.Span, frame httpcache.Multipart,
) bool {
	b := &multipartBody{}
	for i, s := range spans {
		var part mesh.Response
		if !c.span(x, l, &part, s) {
			_ = b.Close() // it only gives memory back
			return false
		}
		b.left = append(b.left, section{data: []byte(frame.Heads[i])}, section{data: part.Body, body: part.Stream})
	}
	b.left = append(b.left, section{data: []byte(frame.Close)})
	resp.Stream = b
	return true
}

// atHand reports whether several spans of a stored body can be given without anybody being asked for each: else the
// whole is given, which one request brings (RFC 9110 §14.2 lets a server ignore Range).
func (c *records) atHand(rec *httpcache.Record, spans []httpcache.Span) bool {
	if rec.Chunks == 0 || len(spans) < 2 {
		return true
	}
	for _, s := range spans {
		for n := s.First / chunkSize; n <= s.Last/chunkSize; n++ {
			var v kvcache.View
			if !c.store.Get(ChunkKey(rec.Nonce, uint32(n)), &v) { //nolint:gosec // G115: within the body
				return false
			}
			v.Release()
		}
	}
	return true
}

// multipartBody is a body of several sections.
type multipartBody struct {
	mu   sync.Mutex // guards what follows
	left []section
	over bool
}

// section is bytes, or a body.
type section struct {
	data []byte
	body mesh.Body
}

// Next gives the sections in their order.
func (b *multipartBody) Next() (mesh.Piece, error) {
	for {
		s, err := b.current()
		if err != nil {
			return mesh.Piece{}, err
		}
		if s.body == nil {
			b.drop()
			if len(s.data) > 0 {
				return mesh.Piece{Data: s.data}, nil
			}
			continue
		}
		p, err := s.body.Next() // Close ends the wait
		if !errors.Is(err, io.EOF) {
			return p, err //nolint:wrapcheck // a wrapped body's errors are its own
		}
		_ = s.body.Close() // it has been read
		b.drop()
	}
}

func (b *multipartBody) current() (section, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.over:
		return section{}, exchange.ErrGone
	case len(b.left) == 0:
		return section{}, io.EOF
	}
	return b.left[0], nil
}

func (b *multipartBody) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.left) > 0 {
		b.left = b.left[1:]
	}
}

// Trailer gives nothing: trailer fields aren't stored.
func (b *multipartBody) Trailer() mesh.Header { return nil }

// Close gives back what wasn't read.
func (b *multipartBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.left {
		if s.body != nil {
			_ = s.body.Close() // it only gives memory back
		}
	}
	b.over, b.left = true, nil
	return nil
}
