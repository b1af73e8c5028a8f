package edge

import (
	"strings"

	"millrace/node"
)

// What becomes of a client's header fields stands here: which the edge writes itself, which count from trusted proxies
// only, and which no cache key holds.

// mattering are the initials of all names that acceptFields knows.
var mattering = node.InitialsOf("cefkmnprtuvwx")

// matters reports whether acceptFields looks closer at a field of that name. Most fields of most requests it needn't.
func matters(name string) bool { return mattering.Of(name) || endsInIP(name) }

func endsInIP(name string) bool {
	return len(name) > 2 && name[len(name)-1]|0x20 == 'p' && name[len(name)-2]|0x20 == 'i'
}

// ofEdge names the fields that prepare writes itself, or that have done their work: it runs for every field of every
// request, so it looks at the first letter first.
func ofEdge(name string) bool {
	switch name[0] | 0x20 {
	case 'x':
		return oneOf(name, "X-Request-Id", "X-Real-Ip", "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host")
	case 'h':
		return equalFold(name, "Host")
	case 'c':
		return equalFold(name, "Content-Length")
	case 'e':
		return equalFold(name, "Expect")
	case 'f':
		return equalFold(name, "Forwarded")
	case 't':
		return equalFold(name, "Traceparent") || equalFold(name, "Transfer-Encoding")
	}
	return false
}

// claims names the fields that tell an application who asks and how: they are believed, and passed on, only from
// trusted proxies. Certificates of clients are among them (RFC 9440 §4).
func claims(name string) bool {
	if tellsAddress(name) {
		return true
	}
	switch name[0] | 0x20 {
	case 'x':
		return claimsX(name[1:])
	case 'c':
		return oneOf(name, "CF-Connecting-IPv6", "CF-Pseudo-IPv4", "CF-Visitor", "Client-Cert", "Client-Cert-Chain",
			"CloudFront-Viewer-Address", "CloudFront-Forwarded-Proto")
	case 'f':
		return hasPrefixFold(name, "forwarded") || oneOf(name, "Fastly-SSL", "Front-End-Https")
	case 'p', 'r':
		return oneOf(name, "Remote-Addr", "Remote-User")
	case 'w':
		return equalFold(name, "WL-Proxy-SSL")
	}
	return false
}

// claimsX is claims for what stands behind an x.
func claimsX(rest string) bool {
	for _, prefix := range [...]string{"-forward", "-original-forwarded", "-arr-", "-appengine-", "-vercel-", "-ssl-"} {
		if hasPrefixFold(rest, prefix) {
			return true
		}
	}
	return oneOf(rest, "-Remote-Addr", "-Remote-User", "-Azure-SocketIP", "-Envoy-External-Address", "-Url-Scheme",
		"-Scheme", "-Client-Cert", "-Middleware-Subrequest")
}

// tellsAddress reports whether a name ends like the many in which proxies tell a client's address: CF-Connecting-IP,
// True-Client-IP, X-Azure-ClientIP, Ali-Cdn-Real-Ip and so on.
func tellsAddress(name string) bool {
	if !endsInIP(name) {
		return false
	}
	for _, end := range [...]string{
		"client-ip", "clientip", "connecting-ip", "connection-ip", "real-ip", "remote-ip", "user-ip", "originating-ip",
	} {
		if len(name) >= len(end) && equalFold(name[len(name)-len(end):], end) {
			return true
		}
	}
	return false
}

// overrides names the fields that some frameworks believe more than the request line.
func overrides(name string) bool {
	switch name[0] | 0x20 {
	case 'x':
		return overridesX(name[1:])
	case 'r':
		return equalFold(name, "Request-Uri")
	}
	return false
}

// overridesX is overrides for what stands behind an x.
func overridesX(rest string) bool {
	return oneOf(rest, "-Original-URL", "-Original-URI", "-Original-Path", "-Original-Host", "-Original-Method",
		"-Originating-URL", "-Rewrite-URL", "-Override-URL", "-Proxy-Url", "-Http-Destinationurl",
		"-Host", "-Real-Host", "-Backend-Host", "-HTTP-Host-Override", "-HTTP-Path-Override",
		"-Method", "-Method-Override", "-HTTP-Method", "-HTTP-Method-Override")
}

func oneOf(name string, others ...string) bool {
	for _, other := range others {
		if equalFold(name, other) {
			return true
		}
	}
	return false
}

// spoofs reports whether a field is one that nobody may send: Proxy, which a CGI-like target takes for the setting
// HTTP_PROXY, and what such a target takes for a field that frames or routes the request, or that only this node or a
// trusted proxy may set.
func spoofs(name string) bool {
	if !node.Odd(name) {
		return equalFold(name, "Proxy")
	}
	name = node.CGIName(name)
	return ofEdge(name) || claims(name) || overrides(name) || node.Hop(name) || equalFold(name, "Proxy")
}

// foreign reports whether a field of the request has no business behind the edge.
func (x *Exchange) foreign(name string) bool {
	return spoofs(name) || (!x.trusted && claims(name))
}

// unkeyed reports whether a field of a request could make an origin answer another one than that of the cache key:
// fields that override the request line, what trusted proxies tell that isn't part of the key, and odd names, which a
// CGI-like origin takes for other fields, unless the key has them.
func (c *cached) unkeyed(name string) bool {
	if node.Odd(name) {
		return !c.keys(name)
	}
	return overrides(name) || claims(name) &&
		!oneOf(name, "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host") && !oneOf(name, forwardedInKey[:]...)
}

// keys reports whether the route names the field as a part of its cache keys, or as one that responses may vary on.
func (c *cached) keys(name string) bool {
	for _, part := range c.cfg.Key {
		if !part.Cookie && equalFold(part.Name, name) {
			return true
		}
	}
	return oneOf(name, c.cfg.Vary...)
}

// forwardedInKey are the fields of trusted proxies that applications build links from. What they say is a part of every
// cache key.
var forwardedInKey = [...]string{"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Ssl"}

// appendForwarded writes what a trusted proxy says beside scheme and host.
func (x *Exchange) appendForwarded(b []byte) []byte {
	if !x.trusted {
		return b
	}
	for _, name := range forwardedInKey {
		if x.Header.Has(name) {
			b = append(append(append(append(b, '\x01'), name...), '='), strings.Join(x.Header.Values(name), ",")...)
		}
	}
	return b
}

// mayTrail reports whether a trailer field of the request may go on: it says nothing that a head may not say, nothing
// that only the edge says, and nothing that the route decides by or writes itself. A trailer that Connection lists
// stays here (RFC 9110 §7.6.1).
func (x *Exchange) mayTrail(name string) bool {
	if !node.MayTrail(name) || ofEdge(name) || claims(name) || overrides(name) || spoofs(name) ||
		x.listed[strings.ToLower(name)] {
		return false
	}
	return !x.route.decidesBy(name)
}

// decidesBy reports whether the route looks at a request field of that name, or writes it.
func (r *route) decidesBy(name string) bool {
	if r.Rewrite != nil && r.Rewrite.Request.Names(name) {
		return true
	}
	for field := range r.Match.Headers {
		if equalFold(field, name) {
			return true
		}
	}
	if c := r.cached; c != nil && c.keys(name) {
		return true
	}
	return r.limited != nil && r.limited.counts(name)
}

func equalFold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// hasPrefixFold reports whether s begins with the lower-case ASCII prefix, in any case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}
