package node

import (
	"fmt"
	"strconv"
	"strings"
)

// Protocol is a protocol that a connection can be switched to (RFC 9110 §7.8), such as spdy/3.1, in lower case.
type Protocol string

// Protocols are the protocols that a route allows.
type Protocols []Protocol

// TakesOne allows a single protocol to be written without a list.
func (Protocols) TakesOne() {}

// Has reports whether the list contains the protocol, regardless of case.
func (p Protocols) Has(name string) bool {
	for _, known := range p {
		if SameName(string(known), name) {
			return true
		}
	}
	return false
}

// UnmarshalText checks the name. Protocols that carry further requests are refused: those requests would reach the
// target without any check.
func (p *Protocol) UnmarshalText(text []byte) error {
	name := strings.ToLower(string(text))
	base, version, versioned := strings.Cut(name, "/")
	if !validFieldName(base) || (versioned && !validFieldName(version)) || len(name) > MaxName {
		return fmt.Errorf("%q is not a protocol: write a name, or name/version, such as spdy/3.1", text)
	}
	switch base {
	case "websocket":
		return fmt.Errorf("%q needs no entry: WebSockets always pass", text)
	case "h2c", "h2", "h3", "http", "tls":
		return fmt.Errorf("%q can't be passed on: it would carry requests past everything that is checked here", text)
	case "messages": // it has another meaning on the mesh
		return fmt.Errorf("%q is not known", text)
	}
	*p = Protocol(name)
	return nil
}

// upgrade checks the protocols of a route.
func (v *validator) upgrade(route int, r *Route) {
	at := []string{"routes", strconv.Itoa(route), "upgrade"}
	v.check(len(r.Upgrade) == 0 || r.Origin().Kind == KindUpstream, at,
		"only upstreams take other protocols than HTTP and WebSocket: leave upgrade out")
	for i, p := range r.Upgrade {
		v.check(!r.Upgrade[:i].Has(string(p)), append(at, strconv.Itoa(i)), "%s is listed twice", p)
	}
}
