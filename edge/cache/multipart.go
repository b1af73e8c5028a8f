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

// setMultipart sets a multipart body whose parts are read from where they are stored. It reports whether they are all
// there.
func (c *serving) setMultipart(
	x *exchange.Exchange, l *lookup, resp *mesh.Response, spans []httpcache.Span, frame httpcache.Multipart,
) bool {
	b := &multipartBody{}
	for i, s := range spans {
		var part mesh.Response
		if !c.setSpan(x, l, &part, s) {
			_ = b.Close() // Close only returns memory
			return false
		}
		b.left = append(b.left, section{data: []byte(frame.Heads[i])}, section{data: part.Body, body: part.Stream})
	}
	b.left = append(b.left, section{data: []byte(frame.Close)})
	resp.Stream = b
	return true
}

// inMemory reports whether several spans of a stored body can be served without asking for each. If not, the whole is
// served, which one request brings (RFC 9110 §14.2 lets a server ignore Range).
func (c *records) inMemory(rec *httpcache.Record, spans []httpcache.Span) bool {
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
	mu     sync.Mutex // guards what follows
	left   []section
	closed bool
}

// section is bytes or a body.
type section struct {
	data []byte
	body mesh.Body
}

// Next returns the sections in order.
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
		p, err := s.body.Next() // Close ends the wait, so mu isn't held
		if !errors.Is(err, io.EOF) {
			return p, err
		}
		_ = s.body.Close() // it was read to its end
		b.drop()
	}
}

func (b *multipartBody) current() (section, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.closed:
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

// Trailer returns nil: trailer fields aren't stored.
func (b *multipartBody) Trailer() mesh.Header { return nil }

// Close closes the sections that weren't read.
func (b *multipartBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.left {
		if s.body != nil {
			_ = s.body.Close() // Close only returns memory
		}
	}
	b.closed, b.left = true, nil
	return nil
}
