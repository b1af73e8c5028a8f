package node

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// CacheStore configures the cache that all routes of this node share.
type CacheStore struct {
	Memory       Size     `yaml:"memory" doc:"Memory for cached responses and values on this node, index included. The default is at most a quarter of what the process may have of memory."`
	Disk         Size     `yaml:"disk" doc:"Size of the bucket that the nodes share (JetStream); the oldest entries leave when it is full."`
	Offline      Offline  `yaml:"offline" doc:"While this node can't hear of purges: validate each cached response with its origin, or serve it as it is."`
	PurgeClients []Prefix `yaml:"purge_clients" doc:"Clients that may use the PURGE method at the edge: addresses or CIDR ranges. Nobody may by default."`
}

// Offline says how a node uses cached responses while it doesn't receive purges.
type Offline string

// The values of Offline.
const (
	OfflineValidate Offline = "validate" // the origin is asked first
	OfflineServe    Offline = "serve"    // they are served, purged or not
)

// UnmarshalText accepts the two values of Offline.
func (o *Offline) UnmarshalText(text []byte) error {
	return oneOf(o, text, OfflineValidate, OfflineServe)
}

// Cache says how a route's responses are cached. Written true, only what the origin allows is cached (RFC 9111).
// Written as a duration, that is the freshness of responses whose origin names none.
type Cache struct {
	TTL                  Duration      `yaml:"ttl" doc:"Freshness of successful responses whose origin names none." zero:"leave it out for what the origin says, or write cache: false"`
	NegativeTTL          Duration      `yaml:"negative_ttl" doc:"Freshness of 404, 405, 410, 414 and 501 whose origin names none."`
	On                   bool          `yaml:"on" doc:"Whether responses are cached."`
	Force                bool          `yaml:"force" doc:"ttl counts even if the origin says otherwise, but for private responses and requests with credentials."`
	Heuristic            bool          `yaml:"heuristic" doc:"Without ttl: a tenth of the time since Last-Modified, at most a day, where the origin names no freshness."`
	StaleWhileRevalidate Duration      `yaml:"stale_while_revalidate" doc:"How long a stale response is served while it is fetched anew, where the origin names no such time."`
	StaleIfError         Duration      `yaml:"stale_if_error" doc:"How long a stale response stands in for a 500, 502, 503 or 504 of the origin, where the origin names no such time."`
	Methods              []Method      `yaml:"methods" doc:"Methods whose responses are cached: GET (HEAD included) and QUERY."`
	Vary                 []string      `yaml:"vary" doc:"Request fields that responses may vary on although nearly every client has its own value: Cookie, User-Agent, Authorization."`
	Query                Query         `yaml:"query" doc:"Which parameters of the query count."`
	Key                  []RequestPart `yaml:"key" doc:"What counts beside the URL: header:NAME or cookie:NAME."`
	Bypass               []RequestPart `yaml:"bypass" doc:"Requests that have one of these pass the cache by: header:NAME or cookie:NAME."`
	MaxObject            Size          `yaml:"max_object" doc:"Largest body that is cached."`
	Cookies              Cookies       `yaml:"cookies" doc:"Responses with Set-Cookie: cached if the origin itself names their freshness (explicit), never (pass), or without the cookie (strip)."`
	RequestDirectives    bool          `yaml:"request_directives" doc:"Cache-Control of requests counts, so that clients can ask past the cache."`
	Compress             bool          `yaml:"compress" doc:"Text is compressed when it is cached (zstd, br or gzip). Not for pages that repeat what a client sent beside secrets."`
	StripTags            bool          `yaml:"strip_tags" doc:"Cache-Tag, Surrogate-Key, xkey and Cache-Groups don't reach clients."`
}

// Defaults sets the default values.
func (c *Cache) Defaults() {
	c.On, c.Heuristic = true, true
	c.MaxObject = 16 * MiB
	c.Cookies = CookiesExplicit
}

// TakesBool allows true and false as short forms.
func (c *Cache) TakesBool() {}

// UnmarshalText parses the short forms: true, false, or a duration.
func (c *Cache) UnmarshalText(text []byte) error {
	c.Defaults()
	switch s := string(text); strings.ToLower(s) {
	case "true":
		return nil
	case "false":
		c.On = false
		return nil
	case "yes", "on", "y":
		return fmt.Errorf("%q is not how a cache is switched on: write true", s)
	case "no", "off", "n", "none", "never":
		return fmt.Errorf("%q is not how a cache is switched off: write false", s)
	}
	if err := c.TTL.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w; or true for what the origin says, or false", err)
	}
	if c.TTL == 0 {
		return fmt.Errorf("%q is no time: write true for what the origin says, or false", text)
	}
	return nil
}

// Short returns the short form, if there is one; "" stands for that of the first key.
func (c *Cache) Short() (string, bool) {
	var standard Cache
	standard.Defaults()
	ttl, on := c.TTL, c.On
	standard.TTL, standard.On = ttl, on
	switch {
	case !c.equal(&standard) || (ttl > 0 && !on):
		return "", false
	case ttl > 0:
		return "", true
	case on:
		return "true", true
	}
	return "false", true
}

func (c *Cache) equal(d *Cache) bool {
	return c.TTL == d.TTL && c.NegativeTTL == d.NegativeTTL && c.On == d.On && c.Force == d.Force &&
		c.Heuristic == d.Heuristic &&
		c.StaleWhileRevalidate == d.StaleWhileRevalidate && c.StaleIfError == d.StaleIfError && len(c.Methods) == 0 &&
		len(c.Vary) == 0 &&
		c.Query.none() && len(c.Key) == 0 && len(c.Bypass) == 0 && c.MaxObject == d.MaxObject &&
		c.Cookies == d.Cookies &&
		c.RequestDirectives == d.RequestDirectives && c.Compress == d.Compress && c.StripTags == d.StripTags
}

// Query says which parameters of a query are part of the cache key. By default all are, in their order.
type Query struct {
	Keep []string `yaml:"keep" doc:"The parameters that count; all others don't."`
	Drop []string `yaml:"drop" doc:"The parameters that don't count; all others do."`
	Sort bool     `yaml:"sort" doc:"The order of different parameters doesn't count."`
}

func (q *Query) none() bool { return len(q.Keep) == 0 && len(q.Drop) == 0 && !q.Sort }

// Cookies says how a response with Set-Cookie is cached.
type Cookies string

// The values of Cookies.
const (
	CookiesExplicit Cookies = "explicit"
	CookiesPass     Cookies = "pass"
	CookiesStrip    Cookies = "strip"
)

// UnmarshalText accepts the three values of Cookies.
func (c *Cookies) UnmarshalText(text []byte) error {
	return oneOf(c, text, CookiesExplicit, CookiesPass, CookiesStrip)
}

// RequestPart is a part of a request: header:NAME or cookie:NAME.
type RequestPart struct {
	Cookie bool
	Name   string
}

// UnmarshalText reads header:NAME or cookie:NAME.
func (p *RequestPart) UnmarshalText(text []byte) error {
	kind, name, _ := strings.Cut(string(text), ":")
	if (kind != "header" && kind != "cookie") || name == "" || strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	}) {
		return fmt.Errorf("%q names no part of a request: write header:NAME or cookie:NAME", text)
	}
	p.Cookie, p.Name = kind == "cookie", name
	return nil
}

// MarshalText writes the part as UnmarshalText reads it.
func (p RequestPart) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// String writes the part as UnmarshalText reads it.
func (p RequestPart) String() string {
	if p.Cookie {
		return "cookie:" + p.Name
	}
	return "header:" + p.Name
}

// Of returns the part's value in a request, and whether it has one.
func (p RequestPart) Of(h Header) (value string, ok bool) {
	if !p.Cookie {
		lines := h.Values(p.Name)
		return strings.Join(lines, ", "), len(lines) > 0
	}
	for _, line := range h.Values("Cookie") {
		for pair := range strings.SplitSeq(line, ";") {
			if name, v, found := strings.Cut(strings.TrimSpace(pair), "="); found && name == p.Name {
				return v, true
			}
		}
	}
	return "", false
}

// maxFreshness limits the times of a cache: entries are kept for at most 30 days.
const maxFreshness = Duration(30 * 24 * time.Hour)

// cache checks a route's cache.
func (v *validator) cache(at keyPath, c *Cache) {
	v.check(!c.Force || c.TTL > 0, at("cache", "force"), "force needs a ttl: say how long")
	v.check(len(c.Query.Keep) == 0 || len(c.Query.Drop) == 0, at("cache", "query"),
		"keep and drop exclude each other: name what counts, or what doesn't")
	v.check(c.MaxObject >= KiB && c.MaxObject <= 64*MiB, at("cache", "max_object"),
		"%s is out of range: use 1KiB to 64MiB", c.MaxObject)
	for i, m := range c.Methods {
		v.check(m == "GET" || m == "HEAD" || m == "QUERY", at("cache", "methods", strconv.Itoa(i)),
			"responses to %s can't be cached: use GET, HEAD and QUERY", m)
	}
	for _, t := range []struct {
		key string
		d   Duration
	}{
		{"ttl", c.TTL},
		{"negative_ttl", c.NegativeTTL},
		{"stale_while_revalidate", c.StaleWhileRevalidate},
		{"stale_if_error", c.StaleIfError},
	} {
		v.check(t.d <= maxFreshness, at("cache", t.key), "%s is out of range: use at most 720h", t.d.Std())
	}
}

func (v *validator) cacheStore() {
	s := v.config.Cache
	v.check(s.Memory >= 4*MiB, []string{"cache", "memory"}, "%s is out of range: use 4MiB or more", s.Memory)
	v.check(s.Disk >= 16*MiB, []string{"cache", "disk"}, "%s is out of range: use 16MiB or more", s.Disk)
}
