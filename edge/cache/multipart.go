package cache

import (
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
	b := &exchange.Sections{}
	for i, s := range spans {
		var part mesh.Response
		if !c.setSpan(x, l, &part, s) {
			_ = b.Close() // Close only returns memory
			return false
		}
		b.Add([]byte(frame.Heads[i]), nil)
		b.Add(part.Body, part.Stream)
	}
	b.Add([]byte(frame.Close), nil)
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
