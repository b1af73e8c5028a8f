package edge

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"millrace/mesh"
)

// clientAddr finds out who asks. X-Forwarded-For is believed as far as trusted proxies wrote it: from the right, the
// first address that isn't a trusted proxy is the client.
func clientAddr(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		x.Client = clientOf(x)
		return next(ctx, x)
	}
}

func clientOf(x *Exchange) netip.Addr {
	if x.trusted {
		return rightmostUntrusted(x.Header.Values("X-Forwarded-For"), x.Peer, x.settings.trusts)
	}
	return x.Peer
}

// rightmostUntrusted walks the chain of proxies from the nearest to the farthest. An entry that isn't an address ends
// the walk: what stands left of it can't be trusted, and the last trusted proxy counts as the client.
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
