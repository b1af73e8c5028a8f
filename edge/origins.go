package edge

import (
	"net"
	"slices"
	"strings"

	"millrace/edge/cache"
	"millrace/node"
	"millrace/node/http1"
)

// originsOf lists the origins for which a path without a host may stand: the hosts of routes, those of recent requests,
// and the names of the listener itself.
func (s *Server) originsOf(set *settings) (out []string) {
	add := func(origin string) {
		if !slices.Contains(out, origin) {
			out = append(out, origin)
		}
	}
	for _, r := range set.routes {
		if len(out) >= cache.MaxOrigins {
			break
		}
		if host := string(r.Host); host != "" && !strings.HasPrefix(host, "*") {
			add("http://" + host)
		}
	}
	if s.cache != nil {
		for _, origin := range s.cache.Origins() {
			add(origin)
		}
	}
	for _, name := range s.ownNames() {
		add(name)
	}
	return out
}

// ownNames returns the origins that a client on this machine uses.
func (s *Server) ownNames() []string {
	addr := s.Addr()
	if addr == nil {
		return []string{"http://localhost"}
	}
	host, port, err := net.SplitHostPort(node.Address(addr.String()).Dial())
	if err != nil { // not a TCP listener
		return []string{"http://localhost"}
	}
	name := func(host string) string {
		authority, err := http1.CanonicalAuthority(net.JoinHostPort(host, port), "http")
		if err != nil { // can't happen for an address
			authority = "localhost"
		}
		return "http://" + authority
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return []string{name(host), name("localhost")}
	}
	return []string{name(host)}
}
