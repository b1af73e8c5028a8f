package edge

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// admitted is a response that may be stored, or why it may not.
type admitted struct {
	stored  httpcache.Stored
	control httpcache.Control
	header  mesh.Header // the fields that are kept
	reason  httpcache.Reason
	vary    []string
}

// admit judges a response to the exchange, whose request was sent at begun.
func (c *cached) admit(x *Exchange, resp *mesh.Response, begun time.Time) admitted {
	r := &httpcache.Response{Status: resp.Status, Header: resp.Header, Requested: begun, Received: time.Now()}
	var a admitted
	a.stored, a.control, a.reason = c.rules.Admit(&httpcache.Request{Method: x.Method, Header: x.Header}, r)
	switch {
	case x.incomplete: // whatever the route makes of its fields
		a.reason = httpcache.ReasonNoStore
		return a
	case a.reason != "":
		return a
	case a.stored.Flags.Has(httpcache.Defaulted) && c.personal(x) != "":
		a.reason = c.personal(x)
		return a
	case int64(len(resp.Body)) > int64(c.cfg.MaxObject) || resp.Length > int64(c.cfg.MaxObject):
		a.reason = httpcache.ReasonTooLarge
		return a
	}
	if c.cfg.Cookies == node.CookiesStrip {
		resp.Header.Del("Set-Cookie") // the first client is like all others
	}
	a.vary = httpcache.VaryNames(resp.Header)
	a.header = c.rules.StoredHeader(resp.Header, &a.control)
	if !a.header.Has("Date") {
		a.header.Add("Date", httpcache.FormatDate(r.Received))
	}
	return a
}

// put stores a response with its body, and makes the response what is stored.
func (c *cached) put(x *Exchange, l *found, a admitted, epoch kvcache.Epoch, resp *mesh.Response) {
	c.compress(x, &a, resp)
	rec := &httpcache.Record{
		Kind: httpcache.KindResponse, Stored: a.stored, Head: httpcache.AppendHead(nil, a.header), Body: resp.Body, Length: int64(len(resp.Body)),
	}
	if len(resp.Body) > chunkSize {
		c.putChunks(rec, resp.Body)
	}
	c.putRecord(x, l, a, epoch, rec, kvcache.BothTiers)
}

// putChunks moves a body into chunks.
func (c *cached) putChunks(rec *httpcache.Record, body []byte) {
	rec.Nonce, rec.Body = rand.Uint64(), nil //nolint:gosec // G404: a name, not a secret
	for len(body) > 0 {
		n := min(len(body), chunkSize)
		c.putChunk(rec, body[:n], kvcache.BothTiers)
		body = body[n:]
	}
}

// putChunk stores the next chunk. It stays as long as any entry may, since a 304 can make its response fresh again and again.
func (c *cached) putChunk(rec *httpcache.Record, chunk []byte, tiers kvcache.Tiers) {
	c.store.Put(&kvcache.Entry{Key: chunkKey(rec.Nonce, rec.Chunks), Value: chunk, Expires: time.Now().Add(kvcache.MaxKeep)}, tiers)
	rec.Chunks++
}

// putRecord stores a response's record under the key of its variant, and under the primary key which fields it varies on.
func (c *cached) putRecord(x *Exchange, l *found, a admitted, epoch kvcache.Epoch, rec *httpcache.Record, tiers kvcache.Tiers) {
	primary, rule := c.searchedBy(x, l, &a)
	if rule != nil {
		path, _, _ := bytes.Cut(c.appendKey(nil, x), []byte{'?'})
		path[0] = 'S'
		c.putEntry(path, rule, kvcache.Scope{}, a.stored.Keep(), tiers)
	}
	c.putEntry(c.place(x, primary, &a, tiers), rec, c.scope(primary, a.header, epoch), a.stored.Keep(), tiers)
}

// searchedBy gives the primary key of a response: that of its URL, or what No-Vary-Search leaves of it, with the record that tells so.
func (c *cached) searchedBy(x *Exchange, l *found, a *admitted) (primary []byte, rule *httpcache.Record) {
	search, ok := httpcache.ParseNoVarySearch(a.header)
	if !ok || x.Query == "" || len(c.cfg.Key) > 0 || len(c.keyed) > 0 || x.Method != http.MethodGet {
		return l.primary, nil
	}
	path, _, found := strings.Cut(string(c.appendKey(nil, x)), "?")
	if !found {
		return l.primary, nil
	}
	return c.searchKey(path, search.Reduce(c.query(x.Query))), &httpcache.Record{Kind: httpcache.KindSearch, Text: search.String()}
}

// forget puts a mark in place of a stored response, in the bucket too.
func (c *cached) forget(l *found, why httpcache.Reason) {
	c.putEntry(l.key, &httpcache.Record{Kind: httpcache.KindPass, Text: string(why)}, kvcache.Scope{}, lostFor, kvcache.BothAlways)
}

// putPass notes that responses of a URL aren't stored, so that its requests don't wait for one another.
func (c *cached) putPass(l *found, why httpcache.Reason) {
	if l.hit || l.vary != "" {
		return
	}
	c.putEntry(l.primary, &httpcache.Record{Kind: httpcache.KindPass, Text: string(why)}, kvcache.Scope{}, passFor, kvcache.MemoryOnly)
}

func (c *cached) putEntry(key []byte, rec *httpcache.Record, scope kvcache.Scope, keep time.Duration, tiers kvcache.Tiers) {
	c.store.Put(&kvcache.Entry{Key: key, Value: rec.Append(nil), Expires: time.Now().Add(keep), Scope: scope}, tiers)
}

// scope says which purges reach a response.
func (c *cached) scope(primary []byte, h mesh.Header, epoch kvcache.Epoch) kvcache.Scope {
	url := string(keyURL(primary))
	s := kvcache.Scope{Epoch: epoch, URL: kvcache.Hash(kvcache.ReachURL, url), Host: kvcache.Hash(kvcache.ReachHost, keyHost(url))}
	for _, tag := range httpcache.Tags(h, origin(url)) {
		s.Tags = append(s.Tags, kvcache.Hash(kvcache.ReachTag, tag))
	}
	return s
}

// origin is scheme and authority of a URL.
func origin(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return scheme + "://" + rest
}

// storePost keeps the response to a POST that says that it is what a GET would get (RFC 9110 §9.3.3): explicit freshness, and a Content-Location that is
// the target itself.
func (c *cached) storePost(x *Exchange, resp *mesh.Response) {
	url := string(c.appendURL(nil, x))
	location := httpcache.Invalidated(url, mesh.Header{{Name: "Content-Location", Value: resp.Header.Get("Content-Location")}})
	if len(location) != 1 || location[0] != url || resp.Status != http.StatusOK {
		return
	}
	get := x.detach()
	get.Method = http.MethodGet
	get.Body = nil
	a := c.admit(x, resp, x.Started)
	if a.reason != "" || a.stored.Flags.Has(httpcache.Defaulted) || a.stored.Remaining(time.Now()) <= 0 || len(c.cfg.Key) > 0 {
		return
	}
	l := c.look(get)
	defer l.release()
	kept := *resp // the client's own stays as it is
	kept.Header = slices.Clone(resp.Header)
	c.put(get, l, a, c.store.Epoch(), &kept)
}
