package exchange

import (
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
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

// OfEdge names the fields that prepare writes itself, or that have done their work: it runs for every field of every
// request, so it looks at the first letter first.
func OfEdge(name string) bool {
	switch name[0] | 0x20 {
	case 'x':
		return http1.OneOf(name, "X-Request-Id", "X-Real-Ip", "X-Forwarded-For", "X-Forwarded-Proto",
			"X-Forwarded-Host")
	case 'h':
		return node.SameName(name, "Host")
	case 'c':
		return node.SameName(name, "Content-Length")
	case 'e':
		return node.SameName(name, "Expect")
	case 'f':
		return node.SameName(name, "Forwarded")
	case 't':
		return node.SameName(name, "Traceparent") || node.SameName(name, "Transfer-Encoding")
	}
	return false
}

// Claims names the fields that tell an application who asks and how: they are believed, and passed on, only from
// trusted proxies. Certificates of clients are among them (RFC 9440 §4).
func Claims(name string) bool {
	if tellsAddress(name) {
		return true
	}
	switch name[0] | 0x20 {
	case 'x':
		return claimsX(name[1:])
	case 'c':
		return http1.OneOf(name, "CF-Connecting-IPv6", "CF-Pseudo-IPv4", "CF-Visitor", "Client-Cert",
			"Client-Cert-Chain",
			"CloudFront-Viewer-Address", "CloudFront-Forwarded-Proto")
	case 'f':
		return http1.HasPrefixFold(name, "forwarded") || http1.OneOf(name, "Fastly-SSL", "Front-End-Https")
	case 'p', 'r':
		return http1.OneOf(name, "Remote-Addr", "Remote-User")
	case 'w':
		return node.SameName(name, "WL-Proxy-SSL")
	}
	return false
}

// claimsX is claims for what stands behind an x.
func claimsX(rest string) bool {
	for _, prefix := range [...]string{"-forward", "-original-forwarded", "-arr-", "-appengine-", "-vercel-", "-ssl-"} {
		if http1.HasPrefixFold(rest, prefix) {
			return true
		}
	}
	return http1.OneOf(rest, "-Remote-Addr", "-Remote-User", "-Azure-SocketIP", "-Envoy-External-Address",
		"-Url-Scheme",
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
		if len(name) >= len(end) && node.SameName(name[len(name)-len(end):], end) {
			return true
		}
	}
	return false
}

// Overrides names the fields that some frameworks believe more than the request line.
func Overrides(name string) bool {
	switch name[0] | 0x20 {
	case 'x':
		return overridesX(name[1:])
	case 'r':
		return node.SameName(name, "Request-Uri")
	}
	return false
}

// overridesX is overrides for what stands behind an x.
func overridesX(rest string) bool {
	return http1.OneOf(rest, "-Original-URL", "-Original-URI", "-Original-Path", "-Original-Host", "-Original-Method",
		"-Originating-URL", "-Rewrite-URL", "-Override-URL", "-Proxy-Url", "-Http-Destinationurl",
		"-Host", "-Real-Host", "-Backend-Host", "-HTTP-Host-Override", "-HTTP-Path-Override",
		"-Method", "-Method-Override", "-HTTP-Method", "-HTTP-Method-Override")
}

// spoofs reports whether a field is one that nobody may send: Proxy, which a CGI-like target takes for the setting
// HTTP_PROXY, and what such a target takes for a field that frames or routes the request, or that only this node or a
// trusted proxy may set.
func spoofs(name string) bool {
	if !node.Odd(name) {
		return node.SameName(name, "Proxy")
	}
	name = node.CGIName(name)
	return OfEdge(name) || Claims(name) || Overrides(name) || node.Hop(name) || node.SameName(name, "Proxy")
}

// foreign reports whether a field of the request has no business behind the edge.
func (x *Exchange) foreign(name string) bool {
	return spoofs(name) || (!x.Trusted && Claims(name))
}

// mayTrail reports whether a trailer field of the request may go on: it says nothing that a head may not say, nothing
// that only the edge says, and nothing that the route decides by or writes itself. A trailer that Connection lists
// stays here (RFC 9110 §7.6.1).
func (x *Exchange) mayTrail(name string) bool {
	if !node.MayTrail(name) || OfEdge(name) || Claims(name) || Overrides(name) || spoofs(name) ||
		x.listed[strings.ToLower(name)] {
		return false
	}
	return !x.Route.reads(name)
}

// OfContent names the fields that describe the very bytes of a body.
func OfContent(f mesh.Field) bool {
	for _, name := range [...]string{
		"Content-Encoding", "Content-Length", "Content-MD5", "Content-Digest",
		"Repr-Digest", "Digest", "ETag", "Last-Modified", "Accept-Ranges",
	} {
		if node.SameName(f.Name, name) {
			return true
		}
	}
	return false
}
