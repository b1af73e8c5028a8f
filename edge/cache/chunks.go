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

// chunkSize is the size of a store entry that holds a piece of a body larger than that.
const chunkSize = 256 << 10

// ChunkKey returns the key of the nth chunk of a stored response. Purges don't need to reach chunks: without the record
// of the response nothing finds them.
func ChunkKey(nonce uint64, n uint32) []byte {
	b := []byte{byte(kvcache.SpaceChunk)}
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, nonce), n)
}

// chunkEntry returns an entry with a chunk. It has the longest lifetime that the store allows, since 304 responses can
// keep its response fresh any number of times.
func chunkEntry(nonce uint64, n uint32, data []byte) kvcache.Entry {
	return kvcache.Entry{Key: ChunkKey(nonce, n), Value: data, Expires: time.Now().Add(kvcache.MaxKeep)}
}

func newNonce() uint64 { return rand.Uint64() } //nolint:gosec // G404: a name, not a secret

// splitBody returns the chunks of a body.
func splitBody(body []byte) (chunks [][]byte) {
	for len(body) > 0 {
		n := min(len(body), chunkSize)
		chunks, body = append(chunks, body[:n]), body[n:]
	}
	return chunks
}

// putLarge stores a response whose body is in chunks: in this node's memory at once, then, in the background, in the
// bucket, with all of its chunks or not at all. It calls done when the chunks aren't needed anymore. A key that had a
// stored response before may evict others from the bucket.
func (c *writing) putLarge(
	x *exchange.Exchange, l *lookup, a admitted, rec *httpcache.Record, chunks [][]byte, tiers kvcache.Tiers,
	done func(),
) {
	entries := make([]kvcache.Entry, len(chunks))
	for i, chunk := range chunks {
		entries[i] = chunkEntry(rec.Nonce, uint32(i), chunk)
		c.store.Put(&entries[i], kvcache.MemoryOnly)
	}
	rec.Chunks, rec.Body = uint32(len(chunks)), nil //nolint:gosec // G115: a body has few chunks
	key, scope := c.keyAndScope(x, l, &a, tiers)
	c.putEntry(key, rec, scope, a.stored.Keep(), kvcache.MemoryOnly)
	if tiers == kvcache.MemoryOnly {
		done()
		return
	}
	nonce := rec.Nonce
	c.store.WriteTogether(entries, l.hit || l.discarded, func(all bool) {
		if all {
			c.markInBucket(key, nonce)
		}
		done()
	})
}

// markInBucket stores the record of a response in the bucket, after its chunks. It uses the record as it is now, since
// a 304 may have updated it meanwhile.
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

// intact reports whether a stored body can be served to its end: the chunks that aren't in memory can be had from the
// bucket or the origin.
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
		(fewMissing(missing, rec.Chunks) && c.rangeCondition(rec) != "")
}

// fewMissing reports whether so few chunks are missing that each reader asks the origin for them. If more are missing,
// the whole body is fetched once for all readers, since a fetch is shared and a range request isn't.
func fewMissing(missing, all uint32) bool { return 2*missing <= all }

// rangeCondition returns the value of If-Range for requests of the missing bytes of a stored response; "" if it has no
// strong validator.
func (c *coding) rangeCondition(rec *httpcache.Record) string {
	header, compressed := c.originHeader(rec.Header())
	if compressed { // compressed by this cache: the origin doesn't have these bytes
		return ""
	}
	return httpcache.RangeCondition(header, time.Now())
}

// copyBody sets the body of resp to that of the stored response. A body in one entry is copied, since the entry may
// leave the store meanwhile.
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
