package cache

import (
	"context"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// head answers a HEAD that neither memory nor bucket can answer. It asks the origin, whose answer updates or
// invalidates the stored response to GET (RFC 9111 §4.3.5), if that could have answered the request.
func (c *Policy) head(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	if resp := c.fromBucket(ctx, x, l); resp != nil {
		return resp, nil
	}
	c.normalise(x)
	began := c.begin()
	resp, done, err := c.forwardOrStale(ctx, x, l)
	if done {
		return resp, err
	}
	switch {
	case l.crossOrigin:
		c.fetchCrossOrigin(x, l)
	case l.hit && l.rec.Stored.Status == resp.Status && !c.onlyForClient(x, ""):
		c.headEffect(x, l, resp, began)
	}
	c.addVary(resp)
	c.writeStatus(x, resp, httpcache.Status{Fwd: l.fwd()})
	return resp, nil
}

// headEffect updates a stored response by the response to a HEAD, or discards it.
func (c *fetcher) headEffect(x *exchange.Exchange, l *lookup, resp *mesh.Response, began startTime) {
	stored := l.rec.Header()
	confirms, invalidates := httpcache.HeadEffect(stored, l.rec.Length, resp.Header)
	_, compressed := c.originHeader(stored)
	switch {
	case compressed: // its length and entity tag differ from the origin's
	case invalidates:
		c.discard(l.key)
	case confirms && !l.rec.Stored.Flags.Has(httpcache.Partial):
		a := c.admit(x, &mesh.Response{Status: resp.Status, Header: httpcache.Freshen(stored, resp.Header)}, began)
		if a.reason == "" {
			c.renew(x, l, a)
		}
	}
}

// crossOriginRetry is how long fetchCrossOrigin doesn't fetch the same key again.
const crossOriginRetry = 10 * time.Second

// fetchCrossOrigin fetches in the background what a page of another origin may read (see needsCORS). It is for requests
// whose own response isn't stored: a HEAD, or one with a body. Without it each of them would reach the origin.
func (c *fetcher) fetchCrossOrigin(x *exchange.Exchange, l *lookup) {
	var v kvcache.View
	mark := append([]byte{byte(kvcache.SpaceCrossOrigin)}, l.primary...)
	if c.store.Get(mark, &v) {
		v.Release()
		return
	}
	c.putEntry(mark, &httpcache.Record{Kind: httpcache.KindPass}, kvcache.Scope{}, crossOriginRetry, kvcache.MemoryOnly)
	c.refresh(x, l)
}
