package cache

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// admitted is a response that may be stored, or the reason why it may not.
type admitted struct {
	stored  httpcache.Stored
	control httpcache.Control
	header  mesh.Header // the fields that are stored
	reason  httpcache.Reason
	epoch   kvcache.Epoch // when its fetch began
	skewed  bool          // it is stale only because the clocks of origin and node differ
	vary    []string
}

// startTime is when a fetch began, by the log of purges and by the clock.
type startTime struct {
	epoch kvcache.Epoch
	at    time.Time
}

func (c *writing) begin() startTime { return startTime{c.store.Epoch(), time.Now()} }

// detail returns the detail of Cache-Status for a response that came from the origin.
func (a *admitted) detail() string {
	if a.skewed {
		return string(httpcache.ReasonClock)
	}
	return string(a.reason)
}

// admit decides whether a response to the exchange may be stored. began is when its request was sent.
func (c *writing) admit(x *exchange.Exchange, resp *mesh.Response, began startTime) admitted {
	r := &httpcache.Response{Status: resp.Status, Header: resp.Header, Requested: began.at, Received: time.Now()}
	a := admitted{epoch: began.epoch}
	a.stored, a.control, a.reason = c.rules.Admit(&httpcache.Request{Method: x.Method, Header: x.Header}, r)
	a.skewed = a.stored.StaleByClock(r)
	c.shared.clocks.note(c.to, r, a.skewed)
	switch {
	case x.Outcome.Incomplete: // even if the route's settings would allow it
		a.reason = httpcache.ReasonNoStore
		return a
	case a.reason != "":
		return a
	case a.stored.Flags.Has(httpcache.Defaulted) && c.personal(x) != "":
		a.reason = c.personal(x)
		return a
	case slices.ContainsFunc(httpcache.VaryNames(resp.Header), c.perClient):
		a.reason = httpcache.ReasonVaryTooMany
		return a
	case int64(len(resp.Body)) > int64(c.cfg.MaxObject) || resp.Length > int64(c.cfg.MaxObject):
		a.reason = httpcache.ReasonTooLarge
		return a
	}
	if c.cfg.Cookies == node.CookiesStrip {
		resp.Header.Del("Set-Cookie") // the client that caused the fetch doesn't get it either
	}
	a.vary = varyOf(resp.Header)
	a.header = c.rules.StoredHeader(resp.Header, &a.control)
	if !a.header.Has("Date") {
		a.header.Add("Date", httpcache.FormatDate(r.Received))
	}
	return a
}

// put stores a response with its body. It changes resp to what is stored, which may be compressed.
func (c *writing) put(x *exchange.Exchange, l *lookup, a admitted, resp *mesh.Response) {
	c.compress(x, &a, resp)
	head, length := httpcache.AppendHead(nil, a.header), int64(len(resp.Body))
	rec := &httpcache.Record{Kind: httpcache.KindResponse, Stored: a.stored, Head: head, Length: length}
	if len(resp.Body) > chunkSize {
		rec.Nonce = newNonce()
		c.putLarge(x, l, a, rec, splitBody(resp.Body), kvcache.BothTiers, func() {})
		return
	}
	rec.Body = resp.Body
	c.putRecord(x, l, a, rec, kvcache.BothTiers)
}

// putRecord stores the record of a response.
func (c *writing) putRecord(x *exchange.Exchange, l *lookup, a admitted, rec *httpcache.Record, tiers kvcache.Tiers) {
	key, scope := c.keyAndScope(x, l, &a, tiers)
	c.putEntry(key, rec, scope, a.stored.Keep(), tiers)
}

// renew stores a response that the origin has confirmed, with its new fields. If the bucket doesn't have its chunks, it
// is stored in memory only.
func (c *writing) renew(x *exchange.Exchange, l *lookup, a admitted) {
	rec, tiers := l.rec, kvcache.BothAlways
	inBucket := rec.Stored.Flags & httpcache.InBucket
	rec.Stored, rec.Head = a.stored, httpcache.AppendHead(nil, a.header)
	if rec.Stored.Flags |= inBucket; rec.Chunks > 0 && inBucket == 0 {
		tiers = kvcache.MemoryOnly
	}
	c.putRecord(x, l, a, &rec, tiers)
}

// keyAndScope returns the key under which a response to the exchange is stored, and the purges that reach it. It also
// stores the records that lead lookups there: the fields that the response varies on, and the parameters of the query
// that don't count.
func (c *writing) keyAndScope(
	x *exchange.Exchange, l *lookup, a *admitted, tiers kvcache.Tiers,
) ([]byte, kvcache.Scope) {
	primary, rule := c.primaryKey(x, l, a)
	if rule != nil {
		path, _, _ := bytes.Cut(c.appendKey(nil, x), []byte{'?'})
		path[0] = byte(kvcache.SpaceSearchRule)
		c.putEntry(path, rule, kvcache.Scope{}, a.stored.Keep(), tiers)
	}
	return c.variantKey(x, primary, a, tiers), c.scope(primary, a.header, a.epoch)
}

// primaryKey returns the primary key of a response: that of its URL, or what its No-Vary-Search leaves of it. rule is
// the record of the latter, else nil.
func (c *writing) primaryKey(x *exchange.Exchange, l *lookup, a *admitted) (primary []byte, rule *httpcache.Record) {
	search, ok := httpcache.ParseNoVarySearch(a.header)
	if !ok || x.Query == "" {
		return l.primary, nil
	}
	path, found := searchPath(c.appendKey(nil, x))
	if !found {
		return l.primary, nil
	}
	rule = &httpcache.Record{Kind: httpcache.KindSearch, Text: search.String()}
	return c.searchKey(path, search.Reduce(c.query(x.Query))), rule
}

// markUncacheable replaces a stored response with a mark that says that responses of its key aren't stored, in the
// bucket too.
func (c *records) markUncacheable(l *lookup, why httpcache.Reason) {
	c.putEntry(l.key, &httpcache.Record{Kind: httpcache.KindPass, Text: string(why)}, kvcache.Scope{}, discardedFor,
		kvcache.BothAlways)
}

// discard replaces a stored response with a mark that says it must be fetched again. One fetch serves all who ask.
func (c *records) discard(key []byte) {
	c.putEntry(key, &httpcache.Record{Kind: httpcache.KindGone}, kvcache.Scope{}, discardedFor, kvcache.BothAlways)
}

// putUncacheable records that responses of a URL aren't stored, so that its requests don't wait for one another.
func (c *records) putUncacheable(l *lookup, why httpcache.Reason) {
	if l.hit || l.vary != "" {
		return
	}
	mark := &httpcache.Record{Kind: httpcache.KindPass, Text: string(why)}
	c.putEntry(l.primary, mark, kvcache.Scope{}, uncacheableFor, kvcache.MemoryOnly)
}

func (c *records) putEntry(key []byte, rec *httpcache.Record, scope kvcache.Scope, keep time.Duration,
	tiers kvcache.Tiers,
) {
	c.store.Put(&kvcache.Entry{Key: key, Value: rec.Append(nil), Expires: time.Now().Add(keep), Scope: scope}, tiers)
}

// scope returns which purges reach a response.
func (c *records) scope(primary []byte, h mesh.Header, epoch kvcache.Epoch) kvcache.Scope {
	url := string(keyURL(primary))
	s := kvcache.Scope{
		Epoch: epoch, URL: kvcache.Hash(kvcache.ReachURL, url),
		Host: kvcache.Hash(kvcache.ReachHost, keyHost(url)),
	}
	for _, tag := range httpcache.Tags(h, originOf(url)) {
		s.Tags = append(s.Tags, kvcache.Hash(kvcache.ReachTag, tag))
	}
	return s
}

// originOf returns scheme and authority of a URL.
func originOf(url string) string {
	scheme, rest, _ := strings.Cut(url, "://")
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		rest = rest[:i]
	}
	return scheme + "://" + rest
}
