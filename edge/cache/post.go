package cache

import (
	"net/http"
	"slices"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// storePost keeps the response to a POST that says that it is what a GET would get (RFC 9110 §9.3.3): explicit
// freshness, and a Content-Location that is the target itself. The request must have been one that a GET could have
// been, too.
func (c *Policy) storePost(x *exchange.Exchange, resp *mesh.Response) {
	url := string(c.appendURL(nil, x))
	location := httpcache.Invalidated(url,
		mesh.Header{{Name: "Content-Location", Value: resp.Header.Get("Content-Location")}})
	if len(location) != 1 || location[0] != url || resp.Status != http.StatusOK || len(c.cfg.Key) > 0 {
		return
	}
	get, by := c.shared.stores(x)
	if by != c || !c.couldGet(x, get, resp) { // another route's GET goes to another origin
		return
	}
	a := c.admit(x, resp, moment{c.store.Epoch(), x.Started})
	if a.reason != "" || a.stored.Flags.Has(httpcache.Defaulted) || a.stored.Remaining(time.Now()) <= 0 {
		return
	}
	l := c.look(get)
	defer l.release()
	kept := *resp // the client's own stays as it is
	kept.Header = slices.Clone(resp.Header)
	c.put(get, l, a, &kept)
}

// couldGet reports whether a request that went to its origin as it was has nothing that is left out of a GET for
// others: fields and parameters that no key holds, conditions, a range, codings in another spelling.
func (c *Policy) couldGet(x, get *exchange.Exchange, resp *mesh.Response) bool {
	d := get.Detach()
	c.normalise(d)
	httpcache.Unconditional(&d.Header)
	d.Header.Del("Range")
	coded := resp.Header.Has("Content-Encoding")
	return d.Query == x.Query && slices.EqualFunc(d.Header, x.Header, func(a, b mesh.Field) bool {
		return a.Name == b.Name && (a.Value == b.Value || !coded && node.SameName(a.Name, "Accept-Encoding"))
	})
}
