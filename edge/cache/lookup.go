package cache

import (
	"slices"
	"strings"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/node"
)

// lookup is what the store has for an exchange. It must be released after use.
type lookup struct {
	c           *records
	primary     []byte // key of the URL
	key         []byte // of the variant if the response varies, else the same as primary
	vary        string // names of the fields that responses vary on: see selectVariant
	ids         []uint64
	view        kvcache.View
	rec         httpcache.Record
	hit         bool             // rec is a response
	withheld    httpcache.Reason // not "": why the stored response isn't for this client
	crossOrigin bool             // a page of another origin asks for the stored response: see needsCORS
	discarded   bool             // a stored response was discarded and must be fetched again
	uncacheable bool             // responses of the URL aren't stored, so requests don't wait for one another
	why         string
	valid       kvcache.Validity
	leased      bool
	now         time.Time
	keyBuf      [192]byte
}

// look searches the memory of this node. The caller must release the lookup.
func (c *records) look(x *exchange.Exchange) *lookup {
	l := &lookup{}
	c.lookInto(x, l, time.Now())
	return l
}

func (c *records) lookInto(x *exchange.Exchange, l *lookup, now time.Time) {
	l.c, l.now = c, now
	l.hit, l.withheld, l.crossOrigin, l.discarded, l.uncacheable = false, "", false, false, false
	l.vary, l.ids, l.why, l.valid = "", nil, "", kvcache.Valid
	l.primary = c.appendKey(l.keyBuf[:0], x)
	l.key = l.primary
	l.find(x, c.store.Get)
}

// find follows the records from the primary key to a response. get reads one record.
func (l *lookup) find(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) {
	l.leased = l.c.leased()
	l.resolve(x, get)
	if !l.hit && !l.uncacheable && x.Query != "" {
		l.findReduced(x, get)
	}
	if !l.hit {
		l.rec = httpcache.Record{} // of the exchange before, or of what isn't a response
	}
}

// leased reports whether stored responses may be served without asking the origin for each.
func (c *records) leased() bool { return c.store.Leased() || c.shared.cfg.OfflineServes }

// findReduced tries the key that remains if the No-Vary-Search of another response of the path is applied to the query.
func (l *lookup) findReduced(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) {
	reduced := l.c.reducedKey(x, l.primary, get)
	if reduced == nil {
		return
	}
	primary := l.primary
	l.primary, l.key = reduced, reduced
	if l.resolve(x, get); !l.hit {
		l.release()
		l.primary, l.key, l.vary, l.ids = primary, primary, "", nil
	}
}

// reducedKey returns the key that remains of primary if the No-Vary-Search of another response of the path is applied
// to the query; nil if no response of the path has one.
func (c *records) reducedKey(x *exchange.Exchange, primary []byte, get func([]byte, *kvcache.View) bool) []byte {
	path, ok := searchPath(primary)
	var v kvcache.View
	if !ok || !get(inSpace(kvcache.SpaceSearchRule, path[1:]), &v) {
		return nil
	}
	defer v.Release()
	var rec httpcache.Record
	if rec.Decode(v.Value) != nil {
		return nil
	}
	rule, known := parseRule(rec.Text)
	if !known {
		return nil
	}
	return c.searchKey(path, rule.Reduce(c.query(x.Query)))
}

func (l *lookup) resolve(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) {
	if !l.read(l.primary, get) {
		return
	}
	if l.rec.Kind == httpcache.KindVary && !l.selectVariant(x, get) {
		return
	}
	switch l.rec.Kind {
	case httpcache.KindResponse:
		l.valid = l.c.store.Judge(&l.view.Scope, keyURL(l.key))
		l.hit = l.valid != kvcache.Invalid
		if l.hit && l.rec.Stored.Flags.Has(httpcache.Defaulted) {
			l.withheld = l.c.personal(x)
		}
		l.crossOrigin = l.hit && needsCORS(x, l.rec.Stored.Flags)
		l.hit = l.hit && l.withheld == ""
	case httpcache.KindPass:
		l.uncacheable, l.why = true, l.rec.Text
	case httpcache.KindGone:
		l.discarded = true
	case httpcache.KindVary, httpcache.KindSearch:
	}
	if !l.hit {
		l.view.Release()
	}
}

// personal returns what in a request may change a response whose freshness only the route names: the origin hasn't said
// that it is for everybody. "" means nothing does, or the route has said that it doesn't matter.
func (c *keying) personal(x *exchange.Exchange) httpcache.Reason {
	switch {
	case c.cfg.Cookies != node.CookiesStrip && x.Header.Has("Cookie") && !c.keyed("Cookie"):
		return httpcache.ReasonRequestCookie
	case x.Header.Has("Authorization") && !c.keyed("Authorization"):
		return httpcache.ReasonAuthorization
	case hasContent(x):
		return reasonContent
	}
	return ""
}

// needsCORS reports whether a page of another origin asks for a stored response that was made for a request without
// Origin and that doesn't say who may read it. Many origins say so, and that it depends on Origin, only to requests
// that have the field. So the origin is asked once more, and its response then answers both kinds of request.
func needsCORS(x *exchange.Exchange, stored httpcache.Flags) bool {
	return !stored.Has(httpcache.Crossed) && x.Header.Has("Origin")
}

// keyed reports whether the route names a field that nearly every client has its own value of: it is in the key, or
// responses may vary on it.
func (c *keying) keyed(field string) bool {
	return c.rules.Keyed(field) || slices.ContainsFunc(c.cfg.Key, func(part node.RequestPart) bool {
		return node.SameName(part.Name, field) && !part.Cookie || part.Cookie && field == "Cookie"
	})
}

// reasonContent means that a request had a body that isn't a part of its key.
const reasonContent httpcache.Reason = "request-content"

// hasContent reports whether the request has a body that isn't a part of its key. The body has no meaning (RFC 9110
// §9.3.1), so a stored response answers the request. An origin may use the body all the same, so its response is never
// stored.
func hasContent(x *exchange.Exchange) bool {
	return x.Method != "QUERY" && (x.Length != 0 || len(x.Body) > 0)
}

func (l *lookup) read(key []byte, get func([]byte, *kvcache.View) bool) bool {
	if !get(key, &l.view) {
		return false
	}
	if l.rec.Decode(l.view.Value) != nil {
		l.view.Release()
		return false
	}
	return true
}

// use returns what may be done with the stored response that was found.
func (l *lookup) use(x *exchange.Exchange) httpcache.Use {
	var asked *httpcache.Control
	if l.c.cfg.RequestDirectives {
		control := httpcache.ParseControl(x.Header, true)
		asked = &control
	}
	use := l.rec.Stored.Judge(asked, l.now, l.valid == kvcache.Stale)
	if l.crossOrigin {
		return httpcache.UseValidate
	}
	if !l.leased && (use == httpcache.UseFresh || use == httpcache.UseRefresh) {
		return httpcache.UseValidate
	}
	return use
}

func (l *lookup) release() { l.view.Release() }

// searchPath returns a key without its query. ok is false if it has no query, or if more than the URL counts: another
// route, a part of the request, or a field of a trusted proxy. A response that was stored without those must not answer
// such a request, nor the other way round.
func searchPath(key []byte) (path string, ok bool) {
	if len(keyURL(key))+1 < len(key) {
		return "", false
	}
	path, _, ok = strings.Cut(string(key), "?")
	return path, ok
}

// searchKey returns the key of a response for which only a part of the query counts.
func (c *keying) searchKey(path, reduced string) []byte {
	return inSpace(kvcache.SpaceReduced, path[1:]+reduced)
}

func parseRule(text string) (httpcache.Search, bool) {
	return httpcache.ParseNoVarySearch(httpcache.SearchHeader(text))
}
