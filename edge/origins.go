package edge

import (
	"net"
	"slices"
	"strings"
	"sync"

	"millrace/node"
)

// maxOrigins bounds the origins that are remembered.
const maxOrigins = 64

// origins remembers scheme and host of requests that the cache was asked for and hadn't, the newest last: a path alone,
// as an operator types it, then means them. The zero value is ready, and safe for concurrent use.
type origins struct {
	mu   sync.Mutex // guards what follows
	list []string
}

// note remembers an exchange's origin.
func (o *origins) note(x *Exchange) {
	var room [64]byte
	origin := append(append(append(room[:0], x.Scheme...), "://"...), x.Host...)
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, known := range slices.Backward(o.list) {
		if known == string(origin) {
			return
		}
	}
	if len(o.list) >= maxOrigins {
		o.list = slices.Delete(o.list, 0, 1)
	}
	o.list = append(o.list, string(origin))
}

// newest lists what is remembered, the newest first.
func (o *origins) newest() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := slices.Clone(o.list)
	slices.Reverse(out)
	return out
}

// originsOf lists the origins that a path alone may mean: the hosts that routes have, those that clients asked for
// lately, and the names of the listener itself.
func (s *Server) originsOf(set *settings) (out []string) {
	add := func(origin string) {
		if !slices.Contains(out, origin) {
			out = append(out, origin)
		}
	}
	for _, r := range set.routes {
		if len(out) >= maxOrigins {
			break
		}
		if host := string(r.Host); host != "" && !strings.HasPrefix(host, "*") {
			add("http://" + host)
		}
	}
	for _, origin := range s.origins.newest() {
		add(origin)
	}
	for _, name := range s.ownNames() {
		add(name)
	}
	return out
}

// ownNames are the origins by which clients on this machine ask.
func (s *Server) ownNames() []string {
	addr := s.Addr()
	if addr == nil {
		return []string{"http://localhost"}
	}
	host, port, err := net.SplitHostPort(node.Address(addr.String()).Dial())
	if err != nil { // a listener that isn't of TCP
		return []string{"http://localhost"}
	}
	name := func(host string) string {
		authority, err := canonicalAuthority(net.JoinHostPort(host, port), "http")
		if err != nil { // an address always is one
			authority = "localhost"
		}
		return "http://" + authority
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		return []string{name(host), name("localhost")}
	}
	return []string{name(host)}
}
