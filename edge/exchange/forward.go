package exchange

import (
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// Prepare fills Forward, the request for the member, and returns it. It has the client's end-to-end fields and those
// that the edge sets itself, edited by the route's rules.
func (x *Exchange) Prepare() *mesh.Request {
	r := &x.Forward
	r.Method, r.Host, r.Body, r.Route = x.Method, x.Host, x.Body, x.Route.ID
	r.Target, r.Interim = x.ForwardTarget(), x.Interim
	trace, continued := Traceparent(x.Header.Get("Traceparent"))
	r.Header = make(mesh.Header, 0, len(x.Header)+7)
	for _, f := range x.Header {
		if OfEdge(f.Name) || (!continued && node.SameName(f.Name, "Tracestate")) {
			continue
		}
		r.Header = append(r.Header, f)
	}
	r.Header = append(r.Header,
		mesh.Field{Name: "X-Request-Id", Value: x.ID}, mesh.Field{Name: "X-Forwarded-For", Value: x.ForwardedFor()},
		mesh.Field{Name: "X-Forwarded-Proto", Value: x.Scheme}, mesh.Field{Name: "Traceparent", Value: trace},
		mesh.Field{Name: "Via", Value: x.ViaEntry()})
	if x.Host != "" {
		r.Header = append(r.Header, mesh.Field{Name: "X-Forwarded-Host", Value: x.Host})
	}
	if w := x.Route.Rewrite; w != nil {
		if w.Host != "" {
			r.Host = string(w.Host)
		}
		Edit(&r.Header, &w.Request)
	}
	return r
}

// ForwardedFor returns the X-Forwarded-For for the target: the peer, after what a trusted peer has sent.
func (x *Exchange) ForwardedFor() string {
	peer := x.Peer.String()
	if x.Trusted {
		if v := x.Header.Values("X-Forwarded-For"); len(v) > 0 {
			return strings.Join(v, ", ") + ", " + peer
		}
	}
	return peer
}

// ViaEntry returns this node's entry in Via (RFC 9110 §7.6.3).
func (x *Exchange) ViaEntry() string {
	if x.HTTP10 {
		return "1.0 " + x.Settings.Via
	}
	return "1.1 " + x.Settings.Via
}
