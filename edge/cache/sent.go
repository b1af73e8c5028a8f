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

// A response varies on what its origin was sent. Where the edge writes or drops a field, that isn't what the client
// sent. A name in Vary is of one of these kinds:
//   - a field that the edge writes and the key already includes (inKey): it tells no responses apart
//   - a field that says who asks, or identifies this one request: no other request has the same value
//   - a field that never reaches the origin: all requests are without it
//   - any other field, with the value that the client sent

// inKey reports whether what the origin gets in a field is a part of every key.
func inKey(name string) bool {
	return http1.OneOf(name, "Host", "X-Forwarded-Proto", "X-Forwarded-Host") || http1.OneOf(name, forwardedInKey[:]...)
}

// varyOf returns the names in Vary that tell responses apart.
func varyOf(h mesh.Header) []string {
	return slices.DeleteFunc(httpcache.VaryNames(h), inKey)
}

// perClient reports whether a response that varies on the field is for one client or one request, unless the route
// names the field.
func (c *keying) perClient(name string) bool {
	if http1.OneOf(name, "X-Request-Id", "Traceparent", "Tracestate") {
		return true
	}
	return (exchange.Claims(name) || exchange.OfEdge(name)) && !inKey(name) && !http1.OneOf(name, c.cfg.Vary...)
}

// rewritten reports whether the origin gets something else in a field than the client sent.
func (c *keying) rewritten(name string) bool {
	return exchange.OfEdge(name) || exchange.Claims(name) || c.unkeyed(name) || node.HasPrefixFold(name, "if-") ||
		name == "via"
}

// appendVariant appends what the origin gets of an exchange in the fields that a response varies on.
func (c *keying) appendVariant(b []byte, names []string, x *exchange.Exchange) []byte {
	h := x.Header
	if slices.ContainsFunc(names, c.rewritten) {
		h = slices.Clone(h)
		h.Delete(func(f mesh.Field) bool {
			return c.rewritten(strings.ToLower(f.Name)) && !node.SameName(f.Name, "Via")
		})
		h.Add("X-Forwarded-For", x.ForwardedFor())
		h.Add("Via", x.ViaEntry())
	}
	return httpcache.AppendVariant(b, names, h)
}
