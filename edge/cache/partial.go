package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// ranged reports whether the request asks for ranges in bytes. Only a GET does (RFC 9110 §14.2).
func ranged(x *exchange.Exchange) bool {
	return x.Method == http.MethodGet && x.Header.Has("Range") && !otherRange(x)
}

// otherRange reports whether the request asks for a range in another unit than bytes, or in none. Only its origin knows
// what that is, and may answer with a part under status 200. So the field is a part of the key, and is forwarded.
func otherRange(x *exchange.Exchange) bool {
	for i := range x.Header {
		if f := &x.Header[i]; f.Name[0]|0x20 == 'r' && node.SameName(f.Name, "Range") && !node.HasPrefixFold(f.Value,
			"bytes=") {
			return true
		}
	}
	return false
}

// appendOtherRange appends the fields of such a range to a key.
func appendOtherRange(b []byte, x *exchange.Exchange) []byte {
	if !otherRange(x) {
		return b
	}
	for _, name := range [...]string{"Range", "Range-Unit", "If-Range"} {
		b = appendLines(append(append(b, '\x01'), name...), '=', name, x.Header)
	}
	return b
}

// covers reports whether a stored response has every byte that the exchange asks for.
func (c *keying) covers(x *exchange.Exchange, rec *httpcache.Record) bool {
	if !rec.Stored.Flags.Has(httpcache.Partial) {
		return true
	}
	if !ranged(x) {
		return false
	}
	if len(rec.Spans) == 0 {
		return rec.Text == x.Header.Get("Range")
	}
	spans, use := httpcache.ParseRange(x.Header.Get("Range"), rec.Length)
	parts := rec.Parts()
	return use == httpcache.RangeSome && !slices.ContainsFunc(spans, func(s httpcache.Span) bool {
		_, has := parts.Find(s)
		return !has
	})
}

// partial answers a Range for which nothing is stored that could be validated. The request is forwarded as it is, and
// ends with its client.
func (c *Policy) partial(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	// For each part that a fresh response lacks the bucket isn't read again.
	if !l.hit || l.use(x) != httpcache.UseFresh {
		if resp := c.fromBucket(ctx, x, l); resp != nil {
			return resp, nil
		}
	}
	if x.Incoming != nil {
		x.Watch()
	}
	d := detach(x)
	d.Interim = x.Interim
	return c.useResult(ctx, x, l, c.askOrigin(ctx, d, l, nil), false)
}

// storePart stores a 206 as a part, if it may be stored and its body has arrived whole.
func (c *writing) storePart(x *exchange.Exchange, l *lookup, a admitted, resp *mesh.Response,
	status httpcache.Status,
) result {
	if a.reason == "" && (resp.Stream != nil || !c.putPart(x, l, a, resp)) {
		a.reason = httpcache.ReasonPartial
	}
	status.Stored, status.Detail = a.reason == "", string(a.reason)
	if status.Stored {
		return storedResult{status: status, own: resp}
	}
	return ownResult{resp, status}
}

// putPart stores a 206 as a part (RFC 9111 §3.3) and reports whether it did. If stored parts have the same strong
// validator, the part is added to them (§3.4). Otherwise it replaces them, since it is newer. A stored whole response
// stays, unless the part shows that the representation has changed.
func (c *writing) putPart(x *exchange.Exchange, l *lookup, a admitted, resp *mesh.Response) bool {
	asked, lines := x.Header.Values("Range"), resp.Header.Values("Content-Range")
	if !ranged(x) || len(asked) != 1 || len(asked[0]) > maxRangeField || len(lines) > 1 {
		return false
	}
	before := c.storedFor(x, l, &a)
	defer before.release()
	if before.hit && c.prefersStored(before, a, resp) {
		return false
	}
	span, length, ok := httpcache.ParseContentRange(resp.Header.Get("Content-Range"))
	switch {
	case ok && length > int64(c.cfg.MaxObject):
		return false
	case ok && span.Len() == int64(len(resp.Body)):
		return c.addPart(x, l, a, before, httpcache.Parts{Length: length}.Add(span, resp.Body))
	case ok, httpcache.OpenContentRange(resp.Header.Get("Content-Range")),
		http1.MediaType(resp.Header.Get("Content-Type")) == "multipart/byteranges":
		return c.putForRange(x, l, a, before, resp, asked[0])
	}
	return false
}

// prefersStored reports whether the stored response is better than a part that has arrived.
func (c *writing) prefersStored(before *lookup, a admitted, resp *mesh.Response) bool {
	rec := &before.rec
	plain, _ := c.originHeader(rec.Header())
	return !rec.Stored.Flags.Has(httpcache.Partial) &&
		(rec.Stored.Received.After(a.stored.Requested) || !httpcache.OtherRepresentation(plain, resp.Header))
}

// addPart stores a part whose position is known, with the stored parts of the same representation, unless the part is
// too small to be worth the copy.
func (c *writing) addPart(x *exchange.Exchange, l *lookup, a admitted, before *lookup, part httpcache.Parts) bool {
	stored := before.rec.Header()
	if before.hit && len(before.rec.Spans) > 0 && before.rec.Length == part.Length &&
		httpcache.SameRepresentation(stored, a.header, time.Now()) {
		if size := len(before.rec.Body); size > smallParts && len(part.Bytes[0]) < size/maxCopyRatio {
			return false
		}
		a.header = httpcache.Freshen(stored, a.header)
		part = before.rec.Parts().Add(part.Spans[0], part.Bytes[0])
	}
	if len(part.Spans) > httpcache.MaxParts {
		return false
	}
	c.putParts(x, l, a, part)
	return true
}

// Parts are in one entry, which is written again with each new part. A client that asks for one byte after the other
// could make a node copy megabytes for each. So a part isn't added if the stored bytes are more than smallParts and
// more than maxCopyRatio times its own.
const (
	smallParts   = 64 << 10
	maxCopyRatio = 64
)

// maxRangeField bounds the Range field that is stored with its answer.
const maxRangeField = 256

// putForRange stores a 206 that can only answer the same Range field again: it contradicts itself, has several parts,
// or doesn't say how long the whole is.
func (c *writing) putForRange(x *exchange.Exchange, l *lookup, a admitted, before *lookup, resp *mesh.Response,
	asked string,
) bool {
	if before.hit && len(before.rec.Spans) > 0 && !httpcache.OtherRepresentation(before.rec.Header(), resp.Header) {
		return false
	}
	c.putRecord(x, l, a, &httpcache.Record{
		Kind: httpcache.KindResponse, Stored: a.stored, Head: httpcache.AppendHead(nil, a.header), Text: asked,
		Body: resp.Body, Length: int64(len(resp.Body)),
	}, kvcache.BothTiers)
	return true
}

// putParts stores parts; as a whole response if they are complete.
func (c *writing) putParts(x *exchange.Exchange, l *lookup, a admitted, parts httpcache.Parts) {
	a.header.Del("Content-Range")
	if parts.Whole() {
		a.stored.Status = http.StatusOK
		a.stored.Flags &^= httpcache.Partial
		c.put(x, l, a, &mesh.Response{Body: parts.Bytes[0]})
		return
	}
	rec := &httpcache.Record{
		Kind: httpcache.KindResponse, Stored: a.stored, Head: httpcache.AppendHead(nil, a.header),
		Length: parts.Length, Spans: parts.Spans,
	}
	for _, b := range parts.Bytes {
		rec.Body = append(rec.Body, b...)
	}
	c.putRecord(x, l, a, rec, kvcache.BothTiers)
}

// complete joins the stored parts and the part that was missing into the whole response (RFC 9111 §3.3), while the
// missing part arrives. If that is of another representation, it asks for the whole.
func (c *fetcher) complete(
	ctx context.Context, x *exchange.Exchange, l *lookup, resp *mesh.Response, gap httpcache.Span, began startTime,
	onGrowing func(*growing),
) result {
	stored := l.rec.Header()
	span, length, ok := httpcache.ParseContentRange(resp.Header.Get("Content-Range"))
	size := int64(len(resp.Body))
	if resp.Stream != nil {
		size = resp.Length
	}
	fits := ok && span == gap && length == l.rec.Length && size == gap.Len()
	if !fits || !httpcache.SameRepresentation(stored, resp.Header, time.Now()) {
		exchange.CloseBody(resp)
		l.hit = false // the stored parts stay until there is a better response
		return c.askOrigin(ctx, x, l, onGrowing)
	}
	header := httpcache.Freshen(stored, resp.Header)
	whole := &mesh.Response{Status: http.StatusOK, Header: header, Member: resp.Member, Length: length}
	before, after := l.rec.Parts().Around(gap)
	if resp.Stream != nil {
		whole.Stream = &joined{Body: resp.Stream, before: bytes.Clone(before), after: bytes.Clone(after)}
	} else {
		whole.Body = slices.Concat(before, resp.Body, after)
	}
	status := httpcache.Status{Fwd: httpcache.FwdPartial, FwdStatus: http.StatusPartialContent}
	return c.storeResponse(ctx, x, l, whole, began, status, onGrowing)
}

// joined is a body between bytes that are already there.
type joined struct {
	mesh.Body

	before, after []byte
	bodyDone      bool
}

// Next returns the bytes in order.
func (j *joined) Next() (mesh.Piece, error) {
	if p := j.before; len(p) > 0 {
		j.before = nil
		return mesh.Piece{Data: p}, nil
	}
	for !j.bodyDone {
		p, err := j.Body.Next()
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, io.EOF) {
			return p, err
		}
		j.bodyDone = true
	}
	if p := j.after; len(p) > 0 {
		j.after = nil
		return mesh.Piece{Data: p}, nil
	}
	return mesh.Piece{}, io.EOF
}
