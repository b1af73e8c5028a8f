package httpcache

import (
	"time"

	"millrace/node"
)

// Request is what the rules see of a request.
type Request struct {
	Method string
	Header node.Header
}

// Response is what the rules see of a response. Times are when its request was sent and when its head came.
type Response struct {
	Status    int
	Header    node.Header
	Requested time.Time
	Received  time.Time
}

// Rules are what a route adds to what the origin says. The zero value adds nothing.
type Rules struct {
	TTL         time.Duration // freshness of a success whose origin names none
	NegativeTTL time.Duration // the same of an error that is cacheable by default: 404, 405, 410, 414, 501
	// TTL counts even though the origin says something else, but for Private and Authorization
	Force     bool
	Heuristic bool // a tenth of the time since Last-Modified, where nothing else says how long

	StaleWhileRevalidate time.Duration // where the origin names none
	StaleIfError         time.Duration // likewise
	NoStale              bool          // not even an origin that can't be reached makes stale content good enough

	RequestDirectives bool     // Cache-Control of requests counts
	Cookies           Cookies  // what Set-Cookie does
	Targets           []string // targeted fields in their order (RFC 9213)
	Vary              []string // request fields that a response may vary on though most make too many variants (Keyed)
}

// Cookies says what becomes of a response with Set-Cookie.
type Cookies string

// The values of Cookies; the empty one is CookiesExplicit.
const (
	CookiesExplicit Cookies = "explicit" // it is stored, cookie and all, if the origin itself says how long it is fresh
	CookiesPass     Cookies = "pass"     // it isn't stored
	CookiesStrip    Cookies = "strip"    // it is stored without, and nobody gets the cookie
)

// DefaultTargets are the targeted fields that count unless a route names others.
var DefaultTargets = []string{node.TargetedField, "CDN-Cache-Control", "Surrogate-Control"}

// Limits of what is kept, so that what is told about a purge need not be kept for ever.
const (
	MaxKeep = 30 * 24 * time.Hour // since a response was received
	// at least so long after its freshness, for revalidation and for an origin that is away.
	grace = time.Hour
	// HeuristicCap bounds heuristic freshness.
	HeuristicCap = 24 * time.Hour
)
