package httpcache

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"millrace/node"
)

// Stored is what is kept about a response beside its fields and body: all that Judge needs.
type Stored struct {
	Status               int
	Requested            time.Time     // when the request was sent that it answered or that validated it
	Received             time.Time     // when its head came
	InitialAge           time.Duration // at that moment
	Lifetime             time.Duration
	StaleWhileRevalidate time.Duration
	StaleIfError         time.Duration
	Flags                Flags
}

// Flags are the yes and no of a Stored.
type Flags uint16

// The flags.
const (
	NoCache      Flags = 1 << iota // to be validated before each use
	NoStale                        // never served stale, whatever happens (must-revalidate, proxy-revalidate, s-maxage)
	Immutable                      // a reload doesn't ask again while it is fresh
	HasValidator                   // it has an ETag or a Last-Modified
	Partial                        // only some bytes of the body are kept
	NoTransform                    // the body may not be coded anew
	Defaulted                      // its freshness is what the route says, not the origin
	Unsaid                         // likewise, or what the heuristic says
	Crossed                        // the request that it answered had an Origin, or it says itself which may read it
	InBucket                       // its chunks were written to the bucket
)

// Has reports whether all of the flags are set.
func (f Flags) Has(g Flags) bool { return f&g == g }

// Reason says why a response isn't stored, or why a stored one isn't reused. "" means that nothing stands against it.
type Reason string

// The reasons, as Cache-Status and explain show them.
const (
	ReasonMethod  Reason = "method"   // the method's responses aren't stored
	ReasonStatus  Reason = "status"   // the status isn't final, or not understood
	ReasonNoStore Reason = "no-store" // the origin forbids it
	ReasonPrivate Reason = "private"  // it is for one user
	// the request carries credentials and nothing says that the answer is for all.
	ReasonAuthorization Reason = "authorization"
	ReasonVaryAny       Reason = "vary-any" // it depends on what can't be known
	// it depends on a field of which nearly each client has its own value.
	ReasonVaryTooMany Reason = "vary-unkeyed"
	ReasonSetCookie   Reason = "set-cookie" // it sets a cookie
	// nothing says how long it is fresh, and nothing to ask for news with.
	ReasonFreshness Reason = "no-freshness"
	ReasonPartial   Reason = "partial"          // a part of which nobody knows where it belongs
	ReasonRequest   Reason = "request-no-store" // the client forbids it
	// the client sent cookies, and the origin doesn't say whether they matter.
	ReasonRequestCookie Reason = "request-cookie"
	// the body is larger than the route caches, or than there is room for.
	ReasonTooLarge Reason = "too-large"
	ReasonVariants Reason = "variants"    // the URL has as many variants as it may
	ReasonClock    Reason = "clock-ahead" // it is stale only because this node's clock is ahead of its Date
	ReasonEndless  Reason = "endless"     // a stream of events that the origin doesn't call fresh
)

// Admit decides whether a response may be stored (RFC 9111 §3), and gives what is kept about it. The Control is that of
// the response, for callers that need more of it.
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

// cacheable reports whether origin or route have called the response cacheable at all (RFC 9111 §3), so that it may be
// kept for validation though it isn't fresh. The window of a route in which stale content is good enough doesn't say
// so.
func (r *Rules) cacheable(status int, c *Control, by source) bool {
	return by == byOrigin || by == byRoute || c.Public || c.Present && HeuristicallyCacheable(status)
}

// forbids names the rule that a response breaks, in the order of RFC 9111 §3.
func (r *Rules) forbids(req *Request, resp *Response, c *Control, by source) Reason {
	understood := Understood(resp.Status)
	switch {
	case req.Method != http.MethodGet && req.Method != http.MethodHead && req.Method != "QUERY" &&
		req.Method != http.MethodPost:
		return ReasonMethod
	case neverStored(resp.Status) || (!understood && c.MustUnderstand):
		return ReasonStatus
	case c.NoStore && (!c.overrules || !understood) && !r.Force:
		return ReasonNoStore
	case c.Private:
		return ReasonPrivate
	case r.RequestDirectives && requestNoStore(req):
		return ReasonRequest
	case req.Header.Has("Authorization") && !c.shared:
		return ReasonAuthorization
	case by != byOrigin && endless(resp.Header):
		return ReasonEndless
	}
	if reason := r.varyForbids(resp.Header); reason != "" {
		return reason
	}
	return r.cookieForbids(resp.Header, by)
}

// endless reports whether a response goes on until somebody ends it, by what it is: a freshness that the origin hasn't
// named says nothing of it.
func endless(h node.Header) bool {
	kind, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return node.SameName(trim(kind), "text/event-stream") || node.SameName(trim(kind), "multipart/x-mixed-replace")
}

// neverStored names the statuses that no header makes storable: those that aren't final, those that speak of one
// request's conditions or range (304, 412, 416), and those that RFC 6585 forbids to store.
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

// varyForbids reports whether the response depends on what makes it useless to others. Cookie, Authorization and
// User-Agent have nearly as many values as there are clients, so they count only where the route names them.
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

// Understood reports whether the rules of a status are known here (RFC 9111 §3, RFC 9110 §15).
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

// Keep tells how long after it was received a response is worth its place: while it may be used in some way, at most
// MaxKeep.
func (s *Stored) Keep() time.Duration {
	stale := max(s.StaleWhileRevalidate, s.StaleIfError, grace)
	return min(max(s.Lifetime-s.InitialAge, 0)+stale, MaxKeep)
}

// unstored are the fields that are never kept: those of one connection are gone already, these belong to one answer.
var unstored = []string{
	"Age", "Cache-Status", "Proxy-Status", "RateLimit", "RateLimit-Policy", "RateLimit-Limit", "RateLimit-Remaining",
	"RateLimit-Reset", "X-Request-Id", "Content-Length",
	"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "X-RateLimit-Policy", "X-RateLimit-Used",
	"Proxy-Authenticate", "Proxy-Authentication-Info", "Trailer",
}

// StoredHeader gives the fields that are kept of a response (RFC 9111 §3.1): without those of one connection or one
// answer, those that no-cache= and private= name, the targeted field that is this cache's own, and the cookies that the
// route strips. It makes a new list.
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
