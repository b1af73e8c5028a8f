package cache

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// chunkSize is what one entry of the store holds of a body that is larger than it.
const chunkSize = 256 << 10

// ChunkKey is the key of the nth chunk of a stored response. No purge reaches chunks: without their response nobody
// finds them.
func ChunkKey(nonce uint64, n uint32) []byte {
	b := []byte{byte(kvcache.SpaceChunk)}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, nonce), n)
}

// chunkOf gives an entry with a chunk. It stays as long as any may, since a 304 can make its response fresh again and
// again.
func chunkOf(nonce uint64, n uint32, data []byte) kvcache.Entry {
	return kvcache.Entry{Key: ChunkKey(nonce, n), Value: data, Expires: time.Now().Add(kvcache.MaxKeep)}
}

func newNonce() uint64 { return rand.Uint64() } //nolint:gosec // G404: a name, not a secret

// cutBody gives the chunks of a body.
func cutBody(body []byte) (chunks [][]byte) {
	for len(body) > 0 {
		n := min(len(body), chunkSize)
		chunks, body = append(chunks, body[:n]), body[n:]
	}
	return chunks
}

// putLarge stores a response whose body lies in chunks: in this node's memory at once, and then, in the background, in
// the bucket with all of its chunks, or not at all. done is called when nobody needs the chunks any more. One that was
// stored before makes others leave the bucket for it.
func (c *writing) putLarge(
	x *exchange.Exchange, l *lookup, a admitted, rec *httpcache.Record, chunks [][]byte, tiers kvcache.Tiers,
	done func(),
) {
	entries := make([]kvcache.Entry, len(chunks))
	for i, chunk := range chunks {
		entries[i] = chunkOf(rec.Nonce, uint32(i), chunk)
		c.store.Put(&entries[i], kvcache.MemoryOnly)
	}
	rec.Chunks, rec.Body = uint32(len(chunks)), nil //nolint:gosec // G115: a body has few chunks
	key, scope := c.place(x, l, &a, tiers)
	c.putEntry(key, rec, scope, a.stored.Keep(), kvcache.MemoryOnly)
	if tiers == kvcache.MemoryOnly {
		done()
		return
	}
	nonce := rec.Nonce
	c.store.WriteTogether(entries, l.hit || l.gone, func(all bool) {
		if all {
			c.markInBucket(key, nonce)
		}
		done()
	})
}

// markInBucket writes a response's record to the bucket, which has its chunks, as it is now: a 304 may have made it
// fresh again meanwhile.
func (c *records) markInBucket(key []byte, nonce uint64) {
	l := &lookup{c: c}
	defer l.release()
	if !l.read(key, c.store.Get) || l.rec.Kind != httpcache.KindResponse || l.rec.Nonce != nonce {
		return
	}
	l.rec.Stored.Flags |= httpcache.InBucket
	entry := kvcache.Entry{Key: key, Value: l.rec.Append(nil), Expires: l.view.Expires, Scope: l.view.Scope}
	c.store.Put(&entry, kvcache.BothAlways)
}

// holds reports whether a key still has the response with these chunks.
func (c *records) holds(key []byte, nonce uint64) bool {
	l := &lookup{c: c}
	defer l.release()
	return l.read(key, c.store.Get) && l.rec.Kind == httpcache.KindResponse && l.rec.Nonce == nonce
}

// intact reports whether a stored body can be given to its end: its chunks are in memory, or the bucket or the origin
// has those that aren't.
func (c *records) intact(rec *httpcache.Record) bool {
	missing := uint32(0)
	for n := range rec.Chunks {
		var v kvcache.View
		if !c.store.Get(ChunkKey(rec.Nonce, n), &v) {
			missing++
		}
		v.Release()
	}
	return missing == 0 || rec.Stored.Flags.Has(httpcache.InBucket) ||
		(few(missing, rec.Chunks) && c.condition(rec) != "")
}

// few reports whether so few chunks are missing that each who reads asks the origin for them: all of a body is fetched
// once for everybody who wants it.
func few(missing, all uint32) bool { return 2*missing <= all }

// condition is what asks the origin for a range of a stored response; "" if nothing does.
func (c *coding) condition(rec *httpcache.Record) string {
	header, compressed := c.plain(rec.Header())
	if compressed { // by this cache: no origin has such bytes
		return ""
	}
	return httpcache.RangeCondition(header, time.Now())
}

// copyBody gives a response the whole body of a stored one, which may leave the store meanwhile.
func (c *target) copyBody(x *exchange.Exchange, l *lookup, resp *mesh.Response) (ok bool) {
	rec := &l.rec
	if rec.Chunks == 0 {
		resp.Body = append([]byte(nil), rec.Body...)
		return true
	}
	resp.Length = rec.Length
	resp.Stream, ok = c.chunks(x, l, httpcache.Span{First: 0, Last: rec.Length - 1})
	return ok
}
