package edge

import (
	"slices"
	"strings"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
)

// found is what the store has for an exchange. It must be released.
type found struct {
	c       *cached
	primary []byte // key of the URL
	key     []byte // of the variant, if its response varies, else the primary
	vary    string // names of the fields that the response varies on
	ids     []uint64
	view    kvcache.View
	rec     httpcache.Record
	hit     bool // rec is a response
	barred  bool // there is a response, but not for this client
	pass    bool // responses of the URL aren't stored: don't wait for others
	why     string
	valid   kvcache.Validity
	leased  bool
	now     time.Time
	keyBuf  [192]byte
}

// look searches the memory of this node.
func (c *cached) look(x *Exchange) *found {
	l := &found{}
	c.lookInto(x, l, time.Now())
	return l
}

func (c *cached) lookInto(x *Exchange, l *found, now time.Time) {
	l.c, l.now = c, now
	l.hit, l.barred, l.pass, l.vary, l.ids = false, false, false, "", nil
	l.primary = c.appendKey(l.keyBuf[:0], x)
	l.key = l.primary
	l.find(x, c.store.Get)
}

// find follows the records from the primary key to a response.
func (l *found) find(x *Exchange, get func([]byte, *kvcache.View) bool) {
	l.leased = l.c.leased()
	l.follow(x, get)
	if !l.hit && !l.pass && x.Query != "" {
		l.searched(x, get)
	}
}

// leased tells whether stored responses may be given out without asking the origin for each.
func (c *cached) leased() bool { return c.store.Leased() || c.s.offlineServes() }

// searched tries the key that is left of the query by No-Vary-Search of another response of the path.
func (l *found) searched(x *Exchange, get func([]byte, *kvcache.View) bool) {
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
func (c *cached) reduced(x *Exchange, primary []byte, get func([]byte, *kvcache.View) bool) []byte {
	path, _, ok := strings.Cut(string(primary), "?")
	var v kvcache.View
	if !ok || !get([]byte("S"+path[1:]), &v) {
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

func (l *found) follow(x *Exchange, get func([]byte, *kvcache.View) bool) {
	if !l.read(l.primary, get) {
		return
	}
	if l.rec.Kind == httpcache.KindVary {
		l.vary, l.ids = l.rec.Text, l.rec.IDs
		l.view.Release()
		l.key = httpcache.AppendVariant(slices.Clip(l.primary), strings.Split(l.vary, ","), x.Header)
		if !slices.Contains(l.ids, variantID(l.key)) || !l.read(l.key, get) {
			return
		}
	}
	switch l.rec.Kind {
	case httpcache.KindResponse:
		l.valid = l.c.store.Judge(&l.view.Scope, keyURL(l.key))
		l.hit = l.valid != kvcache.Invalid
		l.barred = l.hit && !l.usable(x)
		l.hit = l.hit && !l.barred
	case httpcache.KindPass:
		l.pass, l.why = true, l.rec.Text
	case httpcache.KindVary, httpcache.KindSearch:
	}
	if !l.hit {
		l.view.Release()
	}
}

// usable tells whether the stored response may go to this client at all: one whose freshness only the route names isn't for clients with
// cookies, unless the route has said that they don't matter.
func (l *found) usable(x *Exchange) bool {
	return !l.rec.Stored.Flags.Has(httpcache.Defaulted) || !l.c.cookieMatters(x)
}

// cookieMatters tells whether the client's cookies may change responses that the origin doesn't speak about.
func (c *cached) cookieMatters(x *Exchange) bool {
	if c.cfg.TTL == 0 || c.cfg.Cookies == "strip" || !x.Header.Has("Cookie") || c.rules.Keyed("Cookie") {
		return false
	}
	for _, part := range c.cfg.Key {
		if part.Cookie || equalFold(part.Name, "Cookie") {
			return false
		}
	}
	return true
}

func (l *found) read(key []byte, get func([]byte, *kvcache.View) bool) bool {
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
func (l *found) use(x *Exchange) httpcache.Use {
	var asked *httpcache.Control
	if l.c.cfg.RequestDirectives {
		control := httpcache.ParseControl(x.Header, true)
		asked = &control
	}
	use := l.rec.Stored.Judge(asked, l.now, l.valid == kvcache.Stale)
	if !l.leased && (use == httpcache.UseFresh || use == httpcache.UseRefresh) {
		return httpcache.UseValidate
	}
	return use
}

func (l *found) release() { l.view.Release() }

// searchKey is the key of a response of which only a part of the query counts.
func (c *cached) searchKey(path, reduced string) []byte {
	return []byte("N" + path[1:] + reduced)
}

func parseRule(text string) (httpcache.Search, bool) {
	return httpcache.ParseNoVarySearch(httpcache.SearchHeader(text))
}
