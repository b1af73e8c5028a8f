package node

// MayTrail reports whether a field of that name may stand in a trailer section. RFC 9110 §6.5.1 leaves there what says
// nothing of framing, routing, authentication, conditions, caching or the form of the content, since whoever passes a
// message on has decided by the head already. Names that a CGI-like program would read as such a field (Content_Length)
// are no better.
func MayTrail(name string) bool {
	name = CGIName(name)
	if name == "" || Hop(name) {
		return false
	}
	for _, prefix := range [...]string{"if-", "accept", "access-control-", "sec-", "proxy-", "x-forwarded-"} {
		if hasPrefixFold(name, prefix) {
			return false
		}
	}
	for _, other := range headOnly {
		if SameName(name, other) {
			return false
		}
	}
	return true
}

// headOnly are the registered fields that count only in a head.
var headOnly = [...]string{
	"Age", "Allow", "Alt-Svc", "Authorization", "Cache-Control", "CDN-Cache-Control", "Clear-Site-Data",
	"Content-Disposition", "Content-Encoding", "Content-Language",
	"Content-Length", "Content-Location", "Content-Range", "Content-Security-Policy", "Content-Type", "Cookie", "Date",
	"Depth", "Destination", "DNT", "Early-Data", "Expect", "Expires",
	"Forwarded", "From", "Host", "HTTP2-Settings", "Idempotency-Key", "Last-Modified", "Location", "Max-Forwards",
	"Origin", "Overwrite", "Pragma", "Prefer", "Priority", "Range", "Referer",
	"Refresh", "Retry-After", "Server", "Set-Cookie", "Strict-Transport-Security", "Surrogate-Control", "Surrogate-Key",
	"Traceparent", "Tracestate", "Upgrade-Insecure-Requests",
	"User-Agent", "Vary", "Via", "Warning", "WWW-Authenticate", "X-Content-Type-Options", "X-Frame-Options",
	"X-Request-Id",
}
