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

// storePost stores the response to a POST that says that it is also what a GET would get (RFC 9110 §9.3.3): it has
// explicit freshness, and a Content-Location that is the target itself. The request must be one that a GET could have
// been, too.
func (c *Policy) storePost(x *exchange.Exchange, resp *mesh.Response) {
	url := string(c.appendURL(nil, x))
	location := httpcache.Invalidated(url,
		mesh.Header{{Name: "Content-Location", Value: resp.Header.Get("Content-Location")}})
	if len(location) != 1 || location[0] != url || resp.Status != http.StatusOK || len(c.cfg.Key) > 0 {
		return
	}
	get, by := c.shared.getPolicy(x)
	if by != c || !c.couldGet(x, get, resp) { // a GET of another route goes to another origin
		return
	}
	a := c.admit(x, resp, startTime{c.store.Epoch(), x.Started})
	if a.reason != "" || a.stored.Flags.Has(httpcache.Defaulted) || a.stored.Remaining(time.Now()) <= 0 {
		return
	}
	l := c.look(get)
	defer l.release()
	stored := *resp // put changes it, and the client gets the original
	stored.Header = slices.Clone(resp.Header)
	c.put(get, l, a, &stored)
}

// couldGet reports whether the request, as its origin got it, has nothing that a shared GET would leave out: fields and
// parameters that aren't in the key, conditions, a range, or another spelling of Accept-Encoding.
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
