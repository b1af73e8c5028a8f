package edge

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// chunkSize is what one entry of the store holds of a body that is larger than it.
const chunkSize = 256 << 10

// chunkKey is the key of the nth chunk of a stored response. No purge reaches chunks: without their response nobody finds them.
func chunkKey(nonce uint64, n uint32) []byte {
	b := []byte{'C'}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, nonce), n)
}

// chunkBody is a span of a stored body that lies in chunks. Those that are in memory are held from the start; others come from the
// bucket when it is their turn.
type chunkBody struct {
	c     *cached
	of    []byte // key of the stored response
	nonce uint64
	first uint32
	skip  int   // bytes of the first chunk that aren't wanted
	left  int64 // bytes that are
	mu    sync.Mutex
	views []*kvcache.View
	at    int
}

// chunks opens a span of a body. Not ok means that its beginning is missing already.
func (c *cached) chunks(rec *httpcache.Record, s httpcache.Span) (mesh.Body, bool) {
	b := &chunkBody{
		c: c, nonce: rec.Nonce, first: uint32(s.First / chunkSize), skip: int(s.First % chunkSize), left: s.Len(), //nolint:gosec // G115: within the body
	}
	last := uint32(s.Last / chunkSize) //nolint:gosec // G115: see above
	b.views = make([]*kvcache.View, last-b.first+1)
	for i := range b.views {
		v := &kvcache.View{}
		if c.store.Get(chunkKey(b.nonce, b.first+uint32(i)), v) {
			b.views[i] = v
		}
	}
	if b.views[0] == nil && !b.load(0) {
		_ = b.Close()
		return nil, false
	}
	return b, true
}

// load brings a chunk from the bucket.
func (b *chunkBody) load(i int) bool {
	v := &kvcache.View{}
	if !b.c.store.Load(context.Background(), chunkKey(b.nonce, b.first+uint32(i)), v) { //nolint:gosec // G115: see chunks
		return false
	}
	b.views[i] = v
	return true
}

var errChunk = errors.New("a part of a stored response has left the store")

// Next gives what is wanted of the next chunk.
func (b *chunkBody) Next() (mesh.Piece, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.at > 0 && b.at <= len(b.views) && b.views[b.at-1] != nil {
		b.views[b.at-1].Release()
		b.views[b.at-1] = nil
	}
	if b.left == 0 {
		return mesh.Piece{}, io.EOF
	}
	if b.at >= len(b.views) || (b.views[b.at] == nil && !b.load(b.at)) {
		b.lost()
		return mesh.Piece{}, errChunk
	}
	data := b.views[b.at].Value
	if b.at == 0 {
		data = data[min(b.skip, len(data)):]
	}
	data = data[:min(int64(len(data)), b.left)]
	b.left -= int64(len(data))
	b.at++
	if len(data) == 0 {
		return mesh.Piece{}, errChunk
	}
	return mesh.Piece{Data: data}, nil
}

// lostFor is how long a response isn't looked for of which a chunk is missing, in memory or bucket, until it is fetched anew.
const lostFor = 2 * time.Second

// lost takes the response out of the store, so that only those who read it now see it break off.
func (b *chunkBody) lost() {
	var v kvcache.View
	var rec httpcache.Record
	if b.c.store.Get(b.of, &v) && rec.Decode(v.Value) == nil && rec.Nonce == b.nonce {
		b.c.putEntry(b.of, &httpcache.Record{Kind: httpcache.KindPass, Text: "chunk-lost"}, kvcache.Scope{}, lostFor, kvcache.BothAlways)
	}
	v.Release()
}

// Trailer gives nothing: trailer fields aren't stored.
func (b *chunkBody) Trailer() mesh.Header { return nil }

// Close gives the chunks back.
func (b *chunkBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left, b.at = 0, len(b.views)+1
	for i, v := range b.views {
		if v != nil {
			v.Release()
			b.views[i] = nil
		}
	}
	return nil
}

// copyBody gives a response the whole body of a stored one, which may leave the store meanwhile.
func (c *cached) copyBody(rec *httpcache.Record, resp *mesh.Response) (ok bool) {
	if rec.Chunks == 0 {
		resp.Body = append([]byte(nil), rec.Body...)
		return true
	}
	resp.Length = rec.Length
	resp.Stream, ok = c.chunks(rec, httpcache.Span{First: 0, Last: rec.Length - 1})
	return ok
}

// readAll collects a body.
func readAll(body mesh.Body) ([]byte, error) {
	defer body.Close()
	var out []byte
	for {
		p, err := body.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err //nolint:wrapcheck // the caller gives up
		}
		out = append(out, p.Data...)
	}
}
