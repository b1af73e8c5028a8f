package edge

import (
	"context"

	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// head answers a HEAD that neither memory nor bucket can: the origin is asked, and its answer confirms or overturns the
// stored GET (RFC 9111 §4.3.5).
func (c *cached) head(ctx context.Context, x *Exchange, l *found) (*mesh.Response, error) {
	if resp := c.fromBucket(ctx, x, l); resp != nil {
		return resp, nil
	}
	c.normalise(x)
	began := c.begin()
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
			c.putGone(l.key)
		case confirms && !l.rec.Stored.Flags.Has(httpcache.Partial):
			a := c.admit(x, &mesh.Response{Status: resp.Status, Header: httpcache.Freshen(stored, resp.Header)}, began)
			if a.reason == "" {
				c.renew(x, l, a)
			}
		}
	}
	c.varies(resp)
	c.tell(x, resp, httpcache.Status{Fwd: l.fwd()})
	return resp, nil
}
