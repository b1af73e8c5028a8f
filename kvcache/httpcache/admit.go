package httpcache

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"millrace/node"
)

// Stored is what Judge needs to know about a stored response, besides its fields and body.
type Stored struct {
	Status               int
	Requested            time.Time     // when the request was sent that it answered, or that last validated it
	Received             time.Time     // when its header arrived
	InitialAge           time.Duration // age at Received
	Lifetime             time.Duration
	StaleWhileRevalidate time.Duration
	StaleIfError         time.Duration
	Flags                Flags
}

// Flags are properties of a Stored.
type Flags uint16

// The flags of a Stored.
const (
	NoCache      Flags = 1 << iota // must be validated before each use
	NoStale                        // never served stale, whatever happens (must-revalidate, proxy-revalidate, s-maxage)
	Immutable                      // while it is fresh, a reload doesn't validate it
	HasValidator                   // it has an ETag or a Last-Modified
	Partial                        // only some bytes of the body are kept
	NoTransform                    // the body must not be transformed
	Defaulted                      // its freshness comes from the route, not from the origin
	Unsaid                         // its freshness comes from the route or from the heuristic
	Crossed                        // it answered a request with Origin, or says itself which origins may read it
	InBucket                       // its chunks were written to the bucket
)

// Has reports whether all of the flags are set.
func (f Flags) Has(g Flags) bool { return f&g == g }

// Reason says why a response isn't stored, or why a stored one isn't reused. "" means that nothing prevents it.
type Reason string

// The reasons, as Cache-Status and explain show them.
const (
	ReasonMethod  Reason = "method"   // the method's responses aren't stored
	ReasonStatus  Reason = "status"   // the status isn't final, or not understood
	ReasonNoStore Reason = "no-store" // the origin forbids it
	ReasonPrivate Reason = "private"  // it is for one user
	// The request has credentials, and nothing says that the response is for everybody.
	ReasonAuthorization Reason = "authorization"
	ReasonVaryAny       Reason = "vary-any" // it depends on something that can't be known
	// It depends on a field with a different value for almost every client.
	ReasonVaryTooMany Reason = "vary-unkeyed"
	ReasonSetCookie   Reason = "set-cookie" // it sets a cookie
	// It has neither a freshness nor a validator.
	ReasonFreshness Reason = "no-freshness"
	ReasonPartial   Reason = "partial"          // a part whose position in the body is unknown
	ReasonRequest   Reason = "request-no-store" // the client forbids it
	// The client sent cookies, and the origin doesn't say whether they matter.
	ReasonRequestCookie Reason = "request-cookie"
	// The body is larger than the route caches, or than there is room for.
	ReasonTooLarge Reason = "too-large"
	ReasonVariants Reason = "variants"    // the URL has the maximal number of variants
	ReasonClock    Reason = "clock-ahead" // it is stale only because this node's clock is ahead of its Date
	ReasonEndless  Reason = "endless"     // an endless stream that the origin doesn't call fresh
)

// Admit decides whether a response may be stored (RFC 9111 §3), and returns what is stored about it. It also returns
// the response's Control.
func (r *Rules) Admit(req *Request, resp *Response) (Stored, Control, Reason) {
	c := ResponseControl(resp.Header, r.Targets)
	lifetime, by := r.lifetime(resp, &c)
	s := Stored{
		Status: resp.Status, Requested: resp.Requested, Received: resp.Received, InitialAge: initialAge(resp),
		Lifetime: lifetime,
	}
	if reason := r.forbids(req, resp, &c, by); reason != "" {
		return s, c, reason
	}
	s.Flags = r.flags(resp, &c, by)
	if req.Header.Has("Origin") || resp.Header.Has("Access-Control-Allow-Origin") {
		s.Flags |= Crossed
	}
	if !s.Flags.Has(NoStale) {
		s.StaleWhileRevalidate = window(c.StaleWhileRevalidate, r.StaleWhileRevalidate)
		s.StaleIfError = window(c.StaleIfError, r.StaleIfError)
	}
	fresh := lifetime > s.InitialAge && !s.Flags.Has(NoCache)
	usable := fresh || r.cacheable(resp.Status, &c, by) && (s.StaleWhileRevalidate > 0 || s.Flags.Has(HasValidator))
	switch {
	case !usable && s.StaleByClock(resp):
		return s, c, ReasonClock
	case !usable, req.Method == http.MethodPost && by != byOrigin: // RFC 9110 §9.3.3: explicit freshness
		return s, c, ReasonFreshness
	}
	return s, c, ""
}

// cacheable reports whether the origin or the route has called the response cacheable (RFC 9111 §3), so that it may be
// stored for validation even if it isn't fresh. A route's window for stale content isn't enough for that.
func (r *Rules) cacheable(status int, c *Control, by source) bool {
	return by == byOrigin || by == byRoute || c.Public || c.Present && HeuristicallyCacheable(status)
}

// forbids returns the rule that a response breaks, in the order of RFC 9111 §3.
func (r *Rules) forbids(req *Request, resp *Response, c *Control, by source) Reason {
	understood := Understood(resp.Status)
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead && req.Method != "QUERY" &&
		req.Method != http.MethodPost:
		return ReasonMethod
	case neverStored(resp.Status) || (!understood && c.MustUnderstand):
		return ReasonStatus
	case c.NoStore && (!c.overridesNoStore || !understood) && !r.Force:
		return ReasonNoStore
	case c.Private:
		return ReasonPrivate
	case r.RequestDirectives && requestNoStore(req):
		return ReasonRequest
	case req.Header.Has("Authorization") && !c.sharable:
		return ReasonAuthorization
	case by != byOrigin && endless(resp.Header):
		return ReasonEndless
	}
	if reason := r.varyForbids(resp.Header); reason != "" {
		return reason
	}
	return r.cookieForbids(resp.Header, by)
}

// endless reports whether a response of this type goes on until somebody ends it. A freshness that the origin hasn't
// named doesn't apply to it.
func endless(h node.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return node.SameName(trim(kind), "text/event-stream") || node.SameName(trim(kind), "multipart/x-mixed-replace")
}

// neverStored reports whether a status can't be stored whatever the fields say: it isn't final, it is about one
// request's conditions or range (304, 412, 416), or RFC 6585 forbids it.
func neverStored(status int) bool {
	switch status {
	case 304, 412, 416, 428, 429, 431, 511:
		return true
	}
	return status < 200 || status > 599
}

func requestNoStore(req *Request) bool {
	c := ParseControl(req.Header, true)
	return c.NoStore
}

// varyForbids returns the reason if the response depends on fields that make it useless to others. Cookie,
// Authorization and User-Agent have almost as many values as there are clients, so they are allowed only where the
// route names them.
func (r *Rules) varyForbids(h node.Header) Reason {
	for _, name := range VaryNames(h) {
		switch {
		case name == "*":
			return ReasonVaryAny
		case !r.Keyed(name):
			return ReasonVaryTooMany
		}
	}
	return ""
}

// Keyed reports whether responses that vary on the field are stored.
func (r *Rules) Keyed(name string) bool {
	for _, many := range [...]string{"Cookie", "Authorization", "User-Agent", "Referer", "X-Request-Id"} {
		if node.SameName(name, many) {
			return slices.ContainsFunc(r.Vary, func(v string) bool { return node.SameName(v, name) })
		}
	}
	return true
}

func (r *Rules) cookieForbids(h node.Header, by source) Reason {
	if r.Cookies == CookiesStrip || !h.Has("Set-Cookie") {
		return ""
	}
	if r.Cookies == CookiesPass || by != byOrigin {
		return ReasonSetCookie
	}
	return ""
}

func (r *Rules) flags(resp *Response, c *Control, by source) Flags {
	var f Flags
	set := func(yes bool, flag Flags) {
		if yes {
			f |= flag
		}
	}
	set(c.NoCache && !r.Force, NoCache)
	set(c.MustRevalidate || c.ProxyRevalidate || c.SMaxAge != Absent || c.NoCache || r.NoStale, NoStale)
	set(c.Immutable, Immutable)
	set(resp.Header.Has("ETag") || resp.Header.Has("Last-Modified"), HasValidator)
	set(resp.Status == 206, Partial)
	set(c.NoTransform, NoTransform)
	set(by == byRoute, Defaulted)
	set(by == byRoute || by == byHeuristic, Unsaid)
	return f
}

func window(named, otherwise time.Duration) time.Duration {
	if named != Absent {
		return named
	}
	return otherwise
}

// Understood reports whether the cache implements the rules of a status (RFC 9111 §3, RFC 9110 §15).
func Understood(status int) bool {
	switch status {
	case 200, 201, 202, 203, 204, 205, 206, 300, 301, 302, 303, 304, 307, 308,
		400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 426, 428,
		429, 431, 451,
		500, 501, 502, 503, 504, 505:
		return true
	}
	return false
}

// Keep returns how long after it was received a response is worth keeping: as long as it may be used in some way, at
// most MaxKeep.
func (s *Stored) Keep() time.Duration {
	stale := max(s.StaleWhileRevalidate, s.StaleIfError, grace)
	return min(max(s.Lifetime-s.InitialAge, 0)+stale, MaxKeep)
}

// unstored are the fields that are never stored because they belong to one response. Hop-by-hop fields are gone
// already.
var unstored = []string{
	"Age", "Cache-Status", "Proxy-Status", "RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining",
	"RateLimit-Reset", "X-Request-Id", "Content-Length",
	"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Policy", "X-RateLimit-Used",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Trailer",
}

// StoredHeader returns the fields of a response that are stored (RFC 9111 §3.1): without hop-by-hop fields, fields of
// one response, those that no-cache= and private= name, this cache's own targeted field, and cookies if the route
// strips them. It returns a new list.
func (r *Rules) StoredHeader(h node.Header, c *Control) node.Header {
	out := make(node.Header, 0, len(h))
	for _, f := range h {
		if !r.drops(f.Name, c) {
			out = append(out, f)
		}
	}
	out.DropHopByHop()
	return out
}

func (r *Rules) drops(name string, c *Control) bool {
	same := func(other string) bool { return node.SameName(name, other) }
	return slices.ContainsFunc(unstored, same) || slices.ContainsFunc(c.NoCacheFields, same) ||
		slices.ContainsFunc(c.PrivateFields, same) ||
		(r.Cookies == CookiesStrip && same("Set-Cookie")) || same("Surrogate-Control") || same(node.TargetedField)
}
