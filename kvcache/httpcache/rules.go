package httpcache

import (
	"time"

	"millrace/node"
)

// Request is the part of a request that the rules need.
type Request struct {
	Method string
	Header node.Header
}

// Response is the part of a response that the rules need. Requested is when its request was sent, Received when its
// header arrived.
type Response struct {
	Status    int
	Header    node.Header
	Requested time.Time
	Received  time.Time
}

// Rules are what a route adds to the origin's fields. The zero value adds nothing.
type Rules struct {
	TTL         time.Duration // freshness of successes whose origin names none
	NegativeTTL time.Duration // the same for errors that are cacheable by default: 404, 405, 410, 414, 501
	// TTL overrides what the origin says, except private and the rules for Authorization.
	Force     bool
	Heuristic bool // without any named freshness, use a tenth of the time since Last-Modified

	StaleWhileRevalidate time.Duration // if the origin names none
	StaleIfError         time.Duration // if the origin names none
	NoStale              bool          // never serve stale content, even if the origin can't be reached

	RequestDirectives bool     // Cache-Control of requests counts
	Cookies           Cookies  // what Set-Cookie does
	Targets           []string // targeted fields in order (RFC 9213)
	Vary              []string // request fields that a response may vary on though most make too many variants (Keyed)
}

// Cookies says how a response with Set-Cookie is stored.
type Cookies string

// The values of Cookies; "" means CookiesExplicit.
const (
	CookiesExplicit Cookies = "explicit" // with its cookies, if the origin names its freshness
	CookiesPass     Cookies = "pass"     // not at all
	CookiesStrip    Cookies = "strip"    // without its cookies, which nobody gets
)

// DefaultTargets are the targeted fields that count if a route names none.
var DefaultTargets = []string{node.TargetedField, "CDN-Cache-Control", "Surrogate-Control"}

// Limits on how long responses are kept, so that purges needn't be remembered for ever.
const (
	MaxKeep = 30 * 24 * time.Hour // after a response was received
	// grace is how long a response is kept at least after its freshness, for revalidation and for an unreachable
	// origin.
	grace = time.Hour
	// HeuristicCap is the maximal heuristic freshness.
	HeuristicCap = 24 * time.Hour
)
