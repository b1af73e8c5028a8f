package exchange

import (
	"net/netip"

	"millrace/node"
)

// Settings is what a reload may change: made new each time, never changed. An exchange sees those of one moment.
type Settings struct {
	node.Edge

	Via    string // this node's name in Via
	Caches bool   // some route does
	Limits bool   // some route has some
	// Find gives the route that answers the exchange, never nil, and sets Params and what Outcome says of a refusal.
	Find    func(x *Exchange) *Route
	Exposed *Route // serves every name that no route matches; nil unless edge.expose holds "*"
}

// Trusts reports whether a peer's X-Forwarded-* are believed.
func (s *Settings) Trusts(addr netip.Addr) bool {
	for i := range s.TrustedProxies {
		if s.TrustedProxies[i].Contains(addr) {
			return true
		}
	}
	return false
}
