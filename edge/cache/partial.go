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

// ranged reports whether the request asks for ranges in bytes: only a GET has them (RFC 9110 §14.2).
func ranged(x *exchange.Exchange) bool {
	return x.Method == http.MethodGet && x.Header.Has("Range") && !otherRange(x)
}

// otherRange reports whether the request asks for a range in another unit than bytes, or in none. Only its origin knows
// what that is, and may answer it with a part under status 200: so it is a part of the key, and goes on to the origin.
func otherRange(x *exchange.Exchange) bool {
	for i := range x.Header {
		if f := &x.Header[i]; f.Name[0]|0x20 == 'r' && node.SameName(f.Name, "Range") && !http1.HasPrefixFold(f.Value,
			"bytes=") {
			return true
		}
	}
	return false
}

// appendOtherRange writes it into a key.
func appendOtherRange(b []byte, x *exchange.Exchange) []byte {
	if !otherRange(x) {
		return b
	}
	for _, name := range [...]string{"Range", "Range-Unit", "If-Range"} {
		b = appendLines(append(append(b, '\x01'), name...), '=', name, x.Header)
	}
	return b
}

// covers reports whether the exchange asks for no byte that a stored response lacks.
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

// partial answers a Range of which nothing is stored that could be validated: it goes on to the origin as it is, and
// ends with its client.
func (c *Policy) partial(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	if !l.hit || l.use(x) != httpcache.UseFresh { // the bucket isn't read again for each part that fresh ones lack
		if resp := c.fromBucket(ctx, x, l); resp != nil {
			return resp, nil
		}
	}
	if x.Incoming != nil {
		x.Watch()
	}
	d := detach(x)
	d.Interim = x.Interim
	return c.took(ctx, x, l, c.askOrigin(ctx, d, l, nil), false)
}

// keepPart stores a 206 as a part, if it may be and is here whole.
func (c *writing) keepPart(x *exchange.Exchange, l *lookup, a admitted, resp *mesh.Response,
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

// putPart stores the part of a 206 that answers the exchange (RFC 9111 §3.3): together with the parts that are there,
// if they share a strong validator (§3.4), else in their place, since it is newer. A whole response stays, unless the
// part shows that there is another representation now.
func (c *writing) putPart(x *exchange.Exchange, l *lookup, a admitted, resp *mesh.Response) bool {
	asked, lines := x.Header.Values("Range"), resp.Header.Values("Content-Range")
	if !ranged(x) || len(asked) != 1 || len(asked[0]) > maxRange || len(lines) > 1 {
		return false
	}
	before := c.stands(x, l, &a)
	defer before.release()
	if before.hit && c.outlives(before, a, resp) {
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
		return c.putAsked(x, l, a, before, resp, asked[0])
	}
	return false
}

// outlives reports whether what is stored is better than a part that came.
func (c *writing) outlives(before *lookup, a admitted, resp *mesh.Response) bool {
	rec := &before.rec
	plain, _ := c.plain(rec.Header())
	return !rec.Stored.Flags.Has(httpcache.Partial) &&
		(rec.Stored.Received.After(a.stored.Requested) || !httpcache.OtherRepresentation(plain, resp.Header))
}

// addPart stores a part of which is known where it belongs, with those that it belongs to, if it is worth that.
func (c *writing) addPart(x *exchange.Exchange, l *lookup, a admitted, before *lookup, part httpcache.Parts) bool {
	stored := before.rec.Header()
	if before.hit && len(before.rec.Spans) > 0 && before.rec.Length == part.Length &&
		httpcache.SameRepresentation(stored, a.header, time.Now()) {
		if kept := len(before.rec.Body); kept > fewBytes && len(part.Bytes[0]) < kept/mostCopies {
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

// Parts lie in one entry, which is written anew with each: so a client that asks for one byte after the other could
// make a node copy megabytes for each. A part whose bytes make others be copied more than mostCopies times is left out,
// unless there are few of those.
const (
	fewBytes   = 64 << 10
	mostCopies = 64
)

// maxRange bounds the Range that is kept with what answers it.
const maxRange = 256

// putAsked stores a 206 of which only is known what it was the answer to: it contradicts itself, has several parts, or
// doesn't say how long the whole is.
func (c *writing) putAsked(x *exchange.Exchange, l *lookup, a admitted, before *lookup, resp *mesh.Response,
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

// putParts stores parts, as a whole response if they are one.
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

// complete makes the whole of the parts that are stored and of the part that was missing (RFC 9111 §3.3), as it comes.
// If that isn't of the same representation, the whole is asked for.
func (c *fetcher) complete(
	ctx context.Context, x *exchange.Exchange, l *lookup, resp *mesh.Response, gap httpcache.Span, began moment,
	grows func(*growing),
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
		l.hit = false // what is stored stays until there is more
		return c.askOrigin(ctx, x, l, grows)
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
	return c.keep(ctx, x, l, whole, began, status, grows)
}

// joined is a body between bytes that are there already.
type joined struct {
	mesh.Body

	before, after []byte
	over          bool
}

// Next gives the bytes in their order.
func (j *joined) Next() (mesh.Piece, error) {
	if p := j.before; len(p) > 0 {
		j.before = nil
		return mesh.Piece{Data: p}, nil
	}
	for !j.over {
		p, err := j.Body.Next()
		if err == nil {
			return p, nil
		}
		if !errors.Is(err, io.EOF) {
			return p, err //nolint:wrapcheck // a wrapped body's errors are its own
		}
		j.over = true
	}
	if p := j.after; len(p) > 0 {
		j.after = nil
		return mesh.Piece{Data: p}, nil
	}
	return mesh.Piece{}, io.EOF
}
