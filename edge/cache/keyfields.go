package cache

import (
	"strings"

	"millrace/edge/exchange"
	"millrace/node"
	"millrace/node/http1"
)

// unkeyed reports whether a field of a request could make an origin answer another request than that of the cache key.
// Such are fields that override the request line, fields of trusted proxies that aren't in the key, and fields with odd
// names, which a CGI-like origin takes for other fields, unless the route names them.
func (c *keying) unkeyed(name string) bool {
	if node.Odd(name) {
		return !c.keys(name)
	}
	return exchange.Overrides(name) || exchange.Claims(name) &&
		!http1.OneOf(name, "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host") && !http1.OneOf(name,
		forwardedInKey[:]...)
}

// keys reports whether the route names the field as a part of its cache keys, or as one that responses may vary on.
func (c *keying) keys(name string) bool {
	for _, part := range c.cfg.Key {
		if !part.Cookie && node.SameName(part.Name, name) {
			return true
		}
	}
	return http1.OneOf(name, c.cfg.Vary...)
}

// forwardedInKey are fields of trusted proxies from which applications build links. Their values are a part of every
// cache key.
var forwardedInKey = [...]string{"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Ssl"}

// appendForwarded appends what a trusted proxy says beside scheme and host.
func appendForwarded(b []byte, x *exchange.Exchange) []byte {
	if !x.Trusted {
		return b
	}
	for _, name := range forwardedInKey {
		if x.Header.Has(name) {
			b = append(append(append(append(b, '\x01'), name...), '='), strings.Join(x.Header.Values(name), ",")...)
		}
	}
	return b
}
