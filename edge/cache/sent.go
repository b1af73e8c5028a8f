package cache

import (
	"slices"
	"strings"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// A response varies on what its origin was sent, and that isn't what the client sent where the edge writes or drops a
// field. Names in Vary are of these kinds:
//   - what the edge writes, and the key has already (inKey): they tell nothing apart
//   - what says who asks, or names this one request: nobody else has the same
//   - what never reaches the origin: all requests are without
//   - all others, with the value that the client gives them

// inKey reports whether what the origin gets in a field is a part of every key.
func inKey(name string) bool {
	return http1.OneOf(name, "Host", "X-Forwarded-Proto", "X-Forwarded-Host") || http1.OneOf(name, forwardedInKey[:]...)
}

// varyOf gives the names in Vary that tell responses apart.
func varyOf(h mesh.Header) []string {
	return slices.DeleteFunc(httpcache.VaryNames(h), inKey)
}

// ofOne reports whether a response that varies on the field is for one client or one request, unless the route names
// it.
func (c *keying) ofOne(name string) bool {
	if http1.OneOf(name, "X-Request-Id", "Traceparent", "Tracestate") {
		return true
	}
	return (exchange.Claims(name) || exchange.OfEdge(name)) && !inKey(name) && !http1.OneOf(name, c.cfg.Vary...)
}

// writes reports whether the origin gets something else in a field than what the client sent.
func (c *keying) writes(name string) bool {
	return exchange.OfEdge(name) || exchange.Claims(name) || c.unkeyed(name) || http1.HasPrefixFold(name, "if-") ||
		name == "via"
}

// appendVariant writes what the origin gets of an exchange in fields that a response varies on.
func (c *keying) appendVariant(b []byte, names []string, x *exchange.Exchange) []byte {
	h := x.Header
	if slices.ContainsFunc(names, c.writes) {
		h = slices.Clone(h)
		h.Delete(func(f mesh.Field) bool { return c.writes(strings.ToLower(f.Name)) && !node.SameName(f.Name, "Via") })
		h.Add("X-Forwarded-For", x.ForwardedFor())
		h.Add("Via", x.ViaEntry())
	}
	return httpcache.AppendVariant(b, names, h)
}
