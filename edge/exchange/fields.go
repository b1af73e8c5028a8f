package exchange

import (
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// This file says what happens to each header field of a client: which fields the edge writes itself, which are believed
// from trusted proxies only, and which may not be forwarded.

// checkedInitials are the first letters of all names for which AcceptFields does something.
var checkedInitials = node.InitialsOf("cefkmnprtuvwx")

// mayNeedCheck reports whether AcceptFields must compare the name. For most fields it need not: this is a fast filter.
func mayNeedCheck(name string) bool { return checkedInitials.Of(name) || endsInIP(name) }

func endsInIP(name string) bool {
	return len(name) > 2 && name[len(name)-1]|0x20 == 'p' && name[len(name)-2]|0x20 == 'i'
}

// OfEdge reports whether Prepare drops the client's field, because the edge writes it itself or has used it up. It runs
// for every field of every request, so it checks the first letter first.
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

// Claims reports whether a field tells an application who the client is and how it is connected. Such fields are
// believed and forwarded from trusted proxies only. Client certificates are among them (RFC 9440 §4).
func Claims(name string) bool {
	if namesClientAddress(name) {
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
		return node.HasPrefixFold(name, "forwarded") || http1.OneOf(name, "Fastly-SSL", "Front-End-Https")
	case 'p', 'r':
		return http1.OneOf(name, "Remote-Addr", "Remote-User")
	case 'w':
		return node.SameName(name, "WL-Proxy-SSL")
	}
	return false
}

// claimsX is Claims for a name without its first letter x.
func claimsX(rest string) bool {
	for _, prefix := range [...]string{"-forward", "-original-forwarded", "-arr-", "-appengine-", "-vercel-", "-ssl-"} {
		if node.HasPrefixFold(rest, prefix) {
			return true
		}
	}
	return http1.OneOf(rest, "-Remote-Addr", "-Remote-User", "-Azure-SocketIP", "-Envoy-External-Address",
		"-Url-Scheme",
		"-Scheme", "-Client-Cert", "-Middleware-Subrequest")
}

// namesClientAddress reports whether a name ends like the fields in which proxies send a client's address:
// CF-Connecting-IP, True-Client-IP, X-Azure-ClientIP, Ali-Cdn-Real-Ip and so on.
func namesClientAddress(name string) bool {
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

// Overrides reports whether some frameworks use the field in place of the request line or Host.
func Overrides(name string) bool {
	switch name[0] | 0x20 {
	case 'x':
		return overridesX(name[1:])
	case 'r':
		return node.SameName(name, "Request-Uri")
	}
	return false
}

// overridesX is Overrides for a name without its first letter x.
func overridesX(rest string) bool {
	return http1.OneOf(rest, "-Original-URL", "-Original-URI", "-Original-Path", "-Original-Host", "-Original-Method",
		"-Originating-URL", "-Rewrite-URL", "-Override-URL", "-Proxy-Url", "-Http-Destinationurl",
		"-Host", "-Real-Host", "-Backend-Host", "-HTTP-Host-Override", "-HTTP-Path-Override",
		"-Method", "-Method-Override", "-HTTP-Method", "-HTTP-Method-Override")
}

// spoofs reports whether nobody may send the field. Proxy is one: a CGI-like target takes it for the environment
// variable HTTP_PROXY. The others are spellings, such as X_Forwarded_For, that such a target can't tell from a field
// that frames or routes the request, or that only this node or a trusted proxy may set.
func spoofs(name string) bool {
	if !node.Odd(name) {
		return node.SameName(name, "Proxy")
	}
	name = node.CGIName(name)
	return OfEdge(name) || Claims(name) || Overrides(name) || node.Hop(name) || node.SameName(name, "Proxy")
}

// mustDrop reports whether AcceptFields removes the field from the request.
func (x *Exchange) mustDrop(name string) bool {
	return spoofs(name) || (!x.Trusted && Claims(name))
}

// mayTrail reports whether a trailer field of the request may be forwarded. It may not if no trailer may have it
// (node.MayTrail), if the edge writes it or would have removed it from the head, if the route reads or writes it, or if
// Connection lists it (RFC 9110 §7.6.1).
func (x *Exchange) mayTrail(name string) bool {
	if !node.MayTrail(name) || OfEdge(name) || Claims(name) || Overrides(name) || spoofs(name) ||
		x.listed[strings.ToLower(name)] {
		return false
	}
	return !x.Route.reads(name)
}

// OfContent reports whether a field describes the exact bytes of a body, so that it is wrong for a changed body.
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
