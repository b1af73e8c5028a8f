package cache

import (
	"strings"

	"millrace/edge/exchange"
	"millrace/node"
	"millrace/node/http1"
)

// unkeyed reports whether a field of a request could make an origin answer another one than that of the cache key:
// fields that override the request line, what trusted proxies tell that isn't part of the key, and odd names, which a
// CGI-like origin takes for other fields, unless the key has them.
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

// forwardedInKey are the fields of trusted proxies that applications build links from. What they say is a part of every
// cache key.
var forwardedInKey = [...]string{"X-Forwarded-Port", "X-Forwarded-Prefix", "X-Forwarded-Ssl"}

// appendForwarded writes what a trusted proxy says beside scheme and host.
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
