package edge

import (
	"slices"
	"strings"

	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// A response varies on what its origin was sent, and that isn't what the client sent where the edge writes or drops a
// field. Names in Vary are of these kinds:
//   - what the edge writes, and the key has already (inKey): they tell nothing apart
//   - what says who asks, or names this one request: nobody else has the same
//   - what never reaches the origin: all requests are without
//   - all others, with the value that the client gives them

// inKey reports whether what the origin gets in a field is a part of every key.
func inKey(name string) bool {
	return oneOf(name, "Host", "X-Forwarded-Proto", "X-Forwarded-Host") || oneOf(name, forwardedInKey[:]...)
}

// varyOf gives the names in Vary that tell responses apart.
func varyOf(h mesh.Header) []string {
	return slices.DeleteFunc(httpcache.VaryNames(h), inKey)
}

// ofOne reports whether a response that varies on the field is for one client or one request, unless the route names
// it.
func (c *cached) ofOne(name string) bool {
	if oneOf(name, "X-Request-Id", "Traceparent", "Tracestate") {
		return true
	}
	return (claims(name) || ofEdge(name)) && !inKey(name) && !oneOf(name, c.cfg.Vary...)
}

// writes reports whether the origin gets something else in a field than what the client sent.
func (c *cached) writes(name string) bool {
	return ofEdge(name) || claims(name) || c.unkeyed(name) || hasPrefixFold(name, "if-") || name == "via"
}

// appendVariant writes what the origin gets of an exchange in fields that a response varies on.
func (c *cached) appendVariant(b []byte, names []string, x *Exchange) []byte {
	h := x.Header
	if slices.ContainsFunc(names, c.writes) {
		h = slices.Clone(h)
		h.Delete(func(f mesh.Field) bool { return c.writes(strings.ToLower(f.Name)) && !equalFold(f.Name, "Via") })
		h.Add("X-Forwarded-For", x.sentFor())
		h.Add("Via", x.received())
	}
	return httpcache.AppendVariant(b, names, h)
}
