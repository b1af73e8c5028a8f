package edge

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"millrace/edge/exchange"
	"millrace/mesh"
)

// clientAddr sets the client's address. X-Forwarded-For is believed as far as trusted proxies wrote it: from the right,
// the first address that isn't a trusted proxy's is the client's.
func clientAddr() exchange.Policy {
	return exchange.Policy{Name: "clientAddr", Wrap: func(next exchange.Handler) exchange.Handler {
		return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
			findClient(x)
			return next(ctx, x)
		}
	}, Short: &exchange.Short{Enter: findClient}}
}

func findClient(x *exchange.Exchange) bool {
	x.Client = x.Peer
	if x.Trusted {
		x.Client = rightmostUntrusted(x.Header.Values("X-Forwarded-For"), x.Peer, x.Settings.Trusts)
	}
	return true
}

// rightmostUntrusted returns the rightmost address that isn't trusted, or the leftmost one if all are. fields are the
// X-Forwarded-For fields; it searches them from the right, from the nearest proxy to the farthest. At an entry that
// isn't an address it stops, because what is left of it can't be trusted. The last trusted proxy is then the client.
func rightmostUntrusted(fields []string, peer netip.Addr, trusted func(netip.Addr) bool) netip.Addr {
	client := peer
	for _, field := range slices.Backward(fields) {
		for _, entry := range slices.Backward(strings.Split(field, ",")) {
			addr, ok := forwardedAddr(strings.TrimSpace(entry))
			if !ok {
				return client
			}
			if client = addr; !trusted(addr) {
				return client
			}
		}
	}
	return client
}

// forwardedAddr reads an entry of X-Forwarded-For: an address, perhaps with a port, IPv6 perhaps in brackets.
func forwardedAddr(s string) (netip.Addr, bool) {
	if addr, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return addr.Unmap().WithZone(""), true
	}
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap().WithZone(""), true
	}
	return netip.Addr{}, false
}
