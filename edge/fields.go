package edge

import (
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// What becomes of a client's header fields stands here: which the edge writes itself, which count from trusted proxies only, and which no cache key holds.

// ofEdge names the fields that prepare writes itself, or that have done their work: it runs for every field of every
// request, so it looks at the first letter first.
func ofEdge(name string) bool {
	switch name[0] | 0x20 {
	case 'x':
		return equalFold(name, "X-Request-Id") || equalFold(name, "X-Real-Ip") || equalFold(name, "X-Forwarded-For") || equalFold(name, "X-Forwarded-Proto") ||
			equalFold(name, "X-Forwarded-Host")
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

// claims names the fields that tell an application who asks and how: they are believed, and passed on, only from trusted proxies.
func claims(name string) bool {
	switch name[0] | 0x20 {
	case 'x':
		return hasPrefixFold(name, "x-forwarded-") || oneOf(name, "X-Client-IP", "X-Cluster-Client-IP", "X-Original-Forwarded-For", "X-Originating-IP", "X-Remote-IP", "X-Remote-Addr",
			"X-ProxyUser-IP", "X-True-Client-IP", "X-Azure-ClientIP", "X-Azure-SocketIP", "X-AppEngine-User-IP", "X-Envoy-External-Address", "X-Url-Scheme", "X-Scheme")
	case 'c':
		return oneOf(name, "CF-Connecting-IP", "CF-Connecting-IPv6", "CF-Pseudo-IPv4", "CF-Visitor", "Client-IP", "CloudFront-Viewer-Address", "CloudFront-Forwarded-Proto", "Cluster-Client-IP")
	case 'f':
		return oneOf(name, "Fastly-Client-IP", "Fastly-SSL", "Fly-Client-IP", "Front-End-Https")
	case 'p', 'r':
		return oneOf(name, "Proxy-Client-IP", "Remote-Addr", "Remote-User")
	case 't', 'w':
		return oneOf(name, "True-Client-IP", "WL-Proxy-Client-IP", "WL-Proxy-SSL")
	}
	return false
}

// overrides names the fields that some frameworks believe more than the request line.
func overrides(name string) bool {
	return name[0]|0x20 == 'x' && oneOf(name, "X-Original-URL", "X-Rewrite-URL", "X-Original-Host", "X-Host", "X-HTTP-Method", "X-HTTP-Method-Override", "X-Method-Override", "X-Method",
		"X-HTTP-Host-Override", "X-HTTP-Path-Override", "X-Original-URI", "X-Override-URL", "X-Original-Path")
}

func oneOf(name string, others ...string) bool {
	for _, other := range others {
		if equalFold(name, other) {
			return true
		}
	}
	return false
}

// spoofs reports whether a field is written with an underscore so that a CGI-like target (CGI, WSGI, PHP) takes it for one
// that frames or routes the request, or that only this node or a trusted proxy may set.
func spoofs(name string) bool {
	if strings.IndexByte(name, '_') < 0 {
		return false
	}
	name = strings.ReplaceAll(name, "_", "-")
	return ofEdge(name) || claims(name) || overrides(name) || node.Hop(name)
}

// unkeyed reports whether a field of a request could make an origin answer another one than that of the cache key: fields that override the request line,
// what proxies tell that isn't part of the key, and names with an underscore, which a CGI-like origin takes for the field without it, unless the key has them.
func (c *cached) unkeyed(name string) bool {
	if strings.IndexByte(name, '_') >= 0 {
		return !c.keys(name)
	}
	return overrides(name) || claims(name) && !oneOf(name, "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host") && !oneOf(name, forwardedInKey[:]...)
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

// forwardedInKey are the fields of trusted proxies that applications build links from. What they say is a part of every cache key.
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

// mayTrail reports whether a trailer field of a request may go on: it says nothing that its head may not say, and nothing that only the edge says.
func mayTrail(f mesh.Field) bool {
	return node.MayTrail(f.Name) && !ofEdge(f.Name) && !claims(f.Name) && !overrides(f.Name) && !spoofs(f.Name)
}

func equalFold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// hasPrefixFold reports whether s begins with the lower-case ASCII prefix, in any case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}
