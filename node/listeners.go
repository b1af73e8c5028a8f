package node

import (
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// listener is an address on which the node listens, and the path of its key.
type listener struct {
	path    []string
	address Address
}

// listeners returns the addresses on which the node listens.
func (c *Config) listeners() []listener {
	out := []listener{{[]string{"edge", "listen"}, c.Edge.Listen}, {[]string{"admin", "listen"}, c.Admin.Listen}}
	if c.Mesh.URL == "" {
		out = append(out, listener{[]string{"mesh", "listen"}, c.Mesh.Listen})
		if c.Mesh.Cluster.Enabled() {
			out = append(out, listener{[]string{"mesh", "cluster", "listen"}, c.Mesh.Cluster.Listen})
		}
		if l := c.Mesh.Leafs; l != nil {
			out = append(out, listener{[]string{"mesh", "leafs", "listen"}, l.Listen})
		}
	}
	return out
}

// ports reports listeners with conflicting ports: the node couldn't start.
func (v *validator) ports() {
	all := v.config.listeners()
	for i, l := range all {
		for _, other := range all[:i] {
			if l.address.conflictsWith(other.address) {
				v.report(l.path, "%s is taken by %s (%s): choose another port",
					l.address, strings.Join(other.path, "."), other.address)
				v.problems[len(v.problems)-1].Other = other.path
				break
			}
		}
	}
}

// conflictsWith reports whether the node can't listen on both addresses: they have the same port, other than 0, and an
// address of this machine in common.
func (a Address) conflictsWith(b Address) bool {
	hostA, portA := a.split()
	hostB, portB := b.split()
	if portA != portB || portA == 0 {
		return false
	}
	for _, x := range listenHosts(hostA) {
		for _, y := range listenHosts(hostB) {
			if x == y || sameFamily(x, y) || sameFamily(y, x) {
				return true
			}
		}
	}
	return false
}

// listenHosts returns the addresses that a host to listen on stands for, in one spelling each. Only localhost is
// resolved, no other names. All IPv6 addresses (:: or none) include those of IPv4.
func listenHosts(host string) []string {
	host = strings.ToLower(host)
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "localhost":
		return []string{"127.0.0.1", "::1"}
	case host == "" || (err == nil && ip == netip.IPv6Unspecified()):
		return []string{"0.0.0.0", "::"}
	case err == nil:
		return []string{ip.Unmap().String()}
	}
	return []string{host}
}

// sameFamily reports whether all is the unspecified address of host's family. A name may belong to both families.
func sameFamily(all, host string) bool {
	if all != "0.0.0.0" && all != "::" {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return err != nil || ip.Is4() == (all == "0.0.0.0")
}

// ReachedBy reports whether requests to the target reach a listener on this address. It resolves nothing: an address of
// another interface, or a name other than localhost, counts as another machine unless both are spelled alike.
func (a Address) ReachedBy(target BaseURL) bool {
	u, err := url.Parse(string(target))
	if err != nil { // not a target
		return false
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	ip, err := netip.ParseAddr(host)
	own, _ := a.split()
	switch {
	case err == nil && ip.IsUnspecified() && ip.Is4(): // connects to this machine
		host = "127.0.0.1"
	case err == nil && ip.IsUnspecified():
		host = "::1"
	case host != "localhost" && !ip.IsLoopback() && !strings.EqualFold(own, host):
		return false
	}
	return Address(net.JoinHostPort(host, port)).conflictsWith(a)
}

// notOwnEdge checks that a target isn't the node's own edge: requests would come back again and again, until one is
// refused as a loop.
func (v *validator) notOwnEdge(path []string, target BaseURL) {
	listen := v.config.Edge.Listen
	v.check(!listen.ReachedBy(target), path,
		"target %s is this node's own edge (edge.listen %s): requests would come back to it; write where your "+
			"application listens", target, listen)
}

// split returns host and port. The port is 0 if any free one is meant, or if it is invalid.
func (a Address) split() (host string, port uint16) {
	host, text, _ := net.SplitHostPort(string(a))
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return host, 0
	}
	return host, uint16(n)
}
