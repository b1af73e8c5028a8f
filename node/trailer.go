package node

// MayTrail reports whether a field may be in a trailer section. RFC 9110 §6.5.1 excludes fields about framing, routing,
// authentication, conditions, caching and the form of the content, since recipients decide by the header before the
// trailer arrives. Names that a CGI-like program would take for such a field (Content_Length) are excluded too.
func MayTrail(name string) bool {
	name = CGIName(name)
	if name == "" || Hop(name) {
		return false
	}
	for _, prefix := range [...]string{"if-", "accept", "access-control-", "sec-", "proxy-", "x-forwarded-"} {
		if HasPrefixFold(name, prefix) {
			return false
		}
	}
	for _, other := range headerOnly {
		if SameName(name, other) {
			return false
		}
	}
	return true
}

// headerOnly are registered fields that aren't allowed in a trailer section.
var headerOnly = [...]string{
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
