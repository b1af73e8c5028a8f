package exchange

import (
	"net/netip"

	"millrace/node"
)

// Settings is what a reload may change. A reload makes a new value; a value never changes. An exchange uses one value
// from its beginning to its end.
type Settings struct {
	node.Edge

	Via    string // this node's name in Via
	Caches bool   // some route caches
	Limits bool   // some route has limits
	Sites  bool   // some route serves sites
	// Find returns the route that answers the exchange, never nil. It sets Params, and Refusal, RefusedBy and Allow of
	// Outcome.
	Find    func(x *Exchange) *Route
	Exposed *Route // serves every service name that no route matches; nil unless edge.expose holds "*"
}

// Trusts reports whether the address is that of a trusted proxy, whose X-Forwarded-* fields are believed.
func (s *Settings) Trusts(addr netip.Addr) bool {
	for i := range s.TrustedProxies {
		if s.TrustedProxies[i].Contains(addr) {
			return true
		}
	}
	return false
}
