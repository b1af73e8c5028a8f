package cache

import (
	"context"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// head answers a HEAD that neither memory nor bucket can: the origin is asked, and its answer confirms or overturns the
// stored GET (RFC 9111 §4.3.5), if that could have answered.
func (c *Policy) head(ctx context.Context, x *exchange.Exchange, l *lookup) (*mesh.Response, error) {
	if resp := c.fromBucket(ctx, x, l); resp != nil {
		return resp, nil
	}
	c.normalise(x)
	began := c.begin()
	resp, done, err := c.single(ctx, x, l)
	if done {
		return resp, err
	}
	switch {
	case l.alien:
		c.cross(x, l)
	case l.hit && l.rec.Stored.Status == resp.Status && !c.forItself(x, ""):
		c.headEffect(x, l, resp, began)
	}
	c.varies(resp)
	c.tell(x, resp, httpcache.Status{Fwd: l.fwd()})
	return resp, nil
}

// headEffect freshens a stored response by what a HEAD says of it, or drops it.
func (c *fetcher) headEffect(x *exchange.Exchange, l *lookup, resp *mesh.Response, began moment) {
	stored := l.rec.Header()
	confirms, invalidates := httpcache.HeadEffect(stored, l.rec.Length, resp.Header)
	_, compressed := c.plain(stored)
	switch {
	case compressed: // its length and entity tag aren't the origin's
	case invalidates:
		c.putGone(l.key)
	case confirms && !l.rec.Stored.Flags.Has(httpcache.Partial):
		a := c.admit(x, &mesh.Response{Status: resp.Status, Header: httpcache.Freshen(stored, resp.Header)}, began)
		if a.reason == "" {
			c.renew(x, l, a)
		}
	}
}

// crossAgain is how long a page of another origin isn't asked for once more after cross.
const crossAgain = 10 * time.Second

// cross asks in the background for what a page of another origin may read (see crosses), where the request that found
// it missing is one whose own response isn't stored: a HEAD, or one with a body. Else each of them would reach the
// origin.
func (c *fetcher) cross(x *exchange.Exchange, l *lookup) {
	var v kvcache.View
	mark := append([]byte{byte(kvcache.SpaceCrossOrigin)}, l.primary...)
	if c.store.Get(mark, &v) {
		v.Release()
		return
	}
	c.putEntry(mark, &httpcache.Record{Kind: httpcache.KindPass}, kvcache.Scope{}, crossAgain, kvcache.MemoryOnly)
	c.refresh(x, l)
}
