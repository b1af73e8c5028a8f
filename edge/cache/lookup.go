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

// lookup is what the store has for an exchange. It must be released.
type lookup struct {
	c       *records
	primary []byte // key of the URL
	key     []byte // of the variant, if its response varies, else the primary
	vary    string // names of the fields that responses vary on: see choose
	ids     []uint64
	view    kvcache.View
	rec     httpcache.Record
	hit     bool             // rec is a response
	barred  httpcache.Reason // there is a response, but not for this client
	alien   bool             // there is one, but a page of another origin asks: see crosses
	gone    bool             // there was one that is to be fetched anew
	pass    bool             // responses of the URL aren't stored: don't wait for others
	why     string
	valid   kvcache.Validity
	leased  bool
	now     time.Time
	keyBuf  [192]byte
}

// look searches the memory of this node.
func (c *records) look(x *exchange.Exchange) *lookup {
	l := &lookup{}
	c.lookInto(x, l, time.Now())
	return l
}

func (c *records) lookInto(x *exchange.Exchange, l *lookup, now time.Time) {
	l.c, l.now = c, now
	l.hit, l.barred, l.alien, l.gone, l.pass, l.vary, l.ids = false, "", false, false, false, "", nil
	l.primary = c.appendKey(l.keyBuf[:0], x)
	l.key = l.primary
	l.find(x, c.store.Get)
}

// find follows the records from the primary key to a response.
func (l *lookup) find(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) {
	l.leased = l.c.leased()
	l.follow(x, get)
	if !l.hit && !l.pass && x.Query != "" {
		l.searched(x, get)
	}
}

// leased reports whether stored responses may be given out without asking the origin for each.
func (c *records) leased() bool { return c.store.Leased() || c.shared.cfg.OfflineServes }

// searched tries the key that is left of the query by No-Vary-Search of another response of the path.
func (l *lookup) searched(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) {
	reduced := l.c.reduced(x, l.primary, get)
	if reduced == nil {
		return
	}
	primary := l.primary
	l.primary, l.key = reduced, reduced
	if l.follow(x, get); !l.hit {
		l.release()
		l.primary, l.key, l.vary, l.ids = primary, primary, "", nil
	}
}

// reduced is the key that No-Vary-Search of another response of the path leaves of a key; nil if there is none.
func (c *records) reduced(x *exchange.Exchange, primary []byte, get func([]byte, *kvcache.View) bool) []byte {
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

func (l *lookup) follow(x *exchange.Exchange, get func([]byte, *kvcache.View) bool) {
	if !l.read(l.primary, get) {
		return
	}
	if l.rec.Kind == httpcache.KindVary && !l.choose(x, get) {
		return
	}
	switch l.rec.Kind {
	case httpcache.KindResponse:
		l.valid = l.c.store.Judge(&l.view.Scope, keyURL(l.key))
		l.hit = l.valid != kvcache.Invalid
		if l.hit && l.rec.Stored.Flags.Has(httpcache.Defaulted) {
			l.barred = l.c.personal(x)
		}
		l.alien = l.hit && crosses(x, l.rec.Stored.Flags)
		l.hit = l.hit && l.barred == ""
	case httpcache.KindPass:
		l.pass, l.why = true, l.rec.Text
	case httpcache.KindGone:
		l.gone = true
	case httpcache.KindVary, httpcache.KindSearch:
	}
	if !l.hit {
		l.view.Release()
	}
}

// personal says what of a request may change a response of which only the route says how long it is fresh: the origin
// hasn't said that it is for everybody. "" means nothing, or that the route has said that it doesn't matter.
func (c *keying) personal(x *exchange.Exchange) httpcache.Reason {
	switch {
	case c.cfg.Cookies != node.CookiesStrip && x.Header.Has("Cookie") && !c.counts("Cookie"):
		return httpcache.ReasonRequestCookie
	case x.Header.Has("Authorization") && !c.counts("Authorization"):
		return httpcache.ReasonAuthorization
	case hasContent(x):
		return reasonContent
	}
	return ""
}

// crosses reports whether a page of another origin asks for a response that was made for a request without Origin, and
// doesn't say who may read it. Many origins say that, and that it depends on Origin, only to those who send one: so
// they are asked once more, and what they answer then is for both.
func crosses(x *exchange.Exchange, stored httpcache.Flags) bool {
	return !stored.Has(httpcache.Crossed) && x.Header.Has("Origin")
}

// counts reports whether the route knows a field that nearly each client has its own value of: it is in the key, or
// responses may vary on it.
func (c *keying) counts(field string) bool {
	return c.rules.Keyed(field) || slices.ContainsFunc(c.cfg.Key, func(part node.RequestPart) bool {
		return node.SameName(part.Name, field) && !part.Cookie || part.Cookie && field == "Cookie"
	})
}

// reasonContent says that a request came with a body that isn't a part of its key.
const reasonContent httpcache.Reason = "request-content"

// hasContent reports whether the request has a body that isn't a part of its key. It has no meaning (RFC 9110 §9.3.1),
// so what is stored answers it; an origin may heed it all the same, so what it says to it is stored for nobody.
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

// use says what may be done with what was found.
func (l *lookup) use(x *exchange.Exchange) httpcache.Use {
	var asked *httpcache.Control
	if l.c.cfg.RequestDirectives {
		control := httpcache.ParseControl(x.Header, true)
		asked = &control
	}
	use := l.rec.Stored.Judge(asked, l.now, l.valid == kvcache.Stale)
	if l.alien {
		return httpcache.UseValidate
	}
	if !l.leased && (use == httpcache.UseFresh || use == httpcache.UseRefresh) {
		return httpcache.UseValidate
	}
	return use
}

func (l *lookup) release() { l.view.Release() }

// searchPath is a key without its query. Not ok means that it has none, or that more than the URL counts: another
// route, a part of the request, what a proxy tells. What was stored without that mustn't answer there, nor the other
// way round.
func searchPath(key []byte) (path string, ok bool) {
	if len(keyURL(key))+1 < len(key) {
		return "", false
	}
	path, _, ok = strings.Cut(string(key), "?")
	return path, ok
}

// searchKey is the key of a response of which only a part of the query counts.
func (c *keying) searchKey(path, reduced string) []byte {
	return inSpace(kvcache.SpaceReduced, path[1:]+reduced)
}

func parseRule(text string) (httpcache.Search, bool) {
	return httpcache.ParseNoVarySearch(httpcache.SearchHeader(text))
}
