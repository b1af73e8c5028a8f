package edge

import (
	"context"
	"net/http"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// head answers a HEAD that the memory can't: the origin is asked, and its answer confirms or overturns the stored GET (RFC 9111 §4.3.5).
func (c *cached) head(ctx context.Context, x *Exchange, l *found) (*mesh.Response, error) {
	if resp := c.fromBucket(ctx, x, l); resp != nil {
		return resp, nil
	}
	c.normalise(x)
	epoch, begun := c.store.Epoch(), time.Now()
	resp, done, err := c.single(ctx, x, l)
	if done {
		return resp, err
	}
	if l.hit && l.rec.Stored.Status == resp.Status {
		stored := l.rec.Header()
		confirms, invalidates := httpcache.HeadEffect(stored, l.rec.Length, resp.Header)
		_, compressed := c.plain(stored)
		switch {
		case compressed: // its length and entity tag aren't the origin's
		case invalidates:
			c.forget(l, "head")
		case confirms && !l.rec.Stored.Flags.Has(httpcache.Partial):
			a := c.admit(x, &mesh.Response{Status: resp.Status, Header: httpcache.Freshen(stored, resp.Header)}, begun)
			if a.reason == "" {
				rec := l.rec
				rec.Stored, rec.Head = a.stored, httpcache.AppendHead(nil, a.header)
				c.putRecord(x, l, a, epoch, &rec, kvcache.BothAlways)
			}
		}
	}
	c.varies(resp)
	c.tell(x, resp, httpcache.Status{Fwd: l.fwd()})
	return resp, nil
}

// partial answers a Range that the memory can't: the range goes on to the origin as it is, and a 206 with a strong validator is stored as
// a part, or put together with the parts that are there (RFC 9111 §3.3, §3.4).
func (c *cached) partial(ctx context.Context, x *Exchange, l *found) (*mesh.Response, error) {
	if resp := c.fromBucket(ctx, x, l); resp != nil {
		return resp, nil
	}
	c.normalise(x)
	x.Header.Del("If-None-Match")
	x.Header.Del("If-Modified-Since")
	epoch, begun := c.store.Epoch(), time.Now()
	c.stats.fetches.Add(1)
	resp, done, err := c.single(ctx, x, l)
	if done {
		return resp, err
	}
	status := httpcache.Status{Fwd: l.fwd()}
	if resp.Stream == nil {
		if a := c.admit(x, resp, begun); a.reason == "" {
			if resp.Status == http.StatusPartialContent {
				status.Stored = c.putPart(x, l, a, epoch, resp)
			} else {
				c.put(x, l, a, epoch, resp)
				status.Stored = true
			}
		}
	}
	c.tell(x, resp, status)
	return resp, nil
}

// putPart stores the part of a 206.
func (c *cached) putPart(x *Exchange, l *found, a admitted, epoch kvcache.Epoch, resp *mesh.Response) bool {
	span, length, ok := httpcache.ParseContentRange(resp.Header.Get("Content-Range"))
	if !ok || span.Len() != int64(len(resp.Body)) || length > int64(c.cfg.MaxObject) {
		return false
	}
	parts := httpcache.Parts{Length: length}
	if l.hit && l.rec.Stored.Flags.Has(httpcache.Partial) && l.rec.Length == length &&
		httpcache.SameStrongly(l.rec.Header().Get("ETag"), resp.Header.Get("ETag")) {
		parts = l.rec.Parts()
	}
	c.putParts(x, l, a, epoch, parts.Add(span, resp.Body))
	return true
}

// putParts stores parts, as a whole response if they are one.
func (c *cached) putParts(x *Exchange, l *found, a admitted, epoch kvcache.Epoch, parts httpcache.Parts) {
	a.header.Del("Content-Range")
	if parts.Whole() {
		a.stored.Status = http.StatusOK
		a.stored.Flags &^= httpcache.Partial
		c.put(x, l, a, epoch, &mesh.Response{Body: parts.Bytes[0]})
		return
	}
	rec := &httpcache.Record{Kind: httpcache.KindResponse, Stored: a.stored, Head: httpcache.AppendHead(nil, a.header), Length: parts.Length, Spans: parts.Spans}
	rec.Stored.Flags |= httpcache.Partial
	for _, b := range parts.Bytes {
		rec.Body = append(rec.Body, b...)
	}
	c.putRecord(x, l, a, epoch, rec, kvcache.BothTiers)
}

// completes asks for the one part that a stored response lacks, if there is only one (RFC 9111 §3.3). It changes the request.
func (c *cached) completes(x *Exchange, l *found) (gap httpcache.Span, ok bool) {
	if !l.hit || !l.rec.Stored.Flags.Has(httpcache.Partial) {
		return gap, false
	}
	if gap, ok = l.rec.Parts().Gap(); ok {
		x.Header.Set("Range", gap.String())
		x.Header.Set("If-Range", l.rec.Header().Get("ETag"))
	}
	return gap, ok
}

// complete puts the missing part in place.
func (c *cached) complete(x *Exchange, l *found, resp *mesh.Response, gap httpcache.Span, epoch kvcache.Epoch, begun time.Time) fetched {
	span, length, ok := httpcache.ParseContentRange(resp.Header.Get("Content-Range"))
	if !ok || span != gap || length != l.rec.Length || resp.Stream != nil || !httpcache.SameStrongly(l.rec.Header().Get("ETag"), resp.Header.Get("ETag")) {
		closeBody(resp)
		c.store.Drop(l.key)
		l.hit = false
		return c.origin(context.Background(), x, l, func(*growing) {})
	}
	a := c.admit(x, resp, begun)
	if a.reason != "" {
		c.store.Drop(l.key)
		l.hit = false
		return c.origin(context.Background(), x, l, func(*growing) {})
	}
	parts := l.rec.Parts().Add(span, resp.Body)
	c.putParts(x, l, a, epoch, parts)
	return fetched{stored: true, status: httpcache.Status{Fwd: httpcache.FwdPartial, FwdStatus: http.StatusPartialContent, Stored: true}}
}
