package edge

import (
	"strings"

	"millrace/mesh"
)

// prepare makes the request that goes to the member: the client's end-to-end fields, and those that the edge sets
// itself.
func (x *Exchange) prepare() *mesh.Request {
	r := &x.forward
	r.Method, r.Host, r.Body, r.Route = x.Method, x.Host, x.Body, x.route.id
	if r.Target = x.asked; r.Target == "" {
		r.Target = x.Path + x.Query
	}
	r.Interim = x.Interim
	trace, continued := traceparent(x.Header.Get("Traceparent"))
	r.Header = make(mesh.Header, 0, len(x.Header)+7)
	for _, f := range x.Header {
		if ofEdge(f.Name) || (!continued && equalFold(f.Name, "Tracestate")) {
			continue
		}
		r.Header = append(r.Header, f)
	}
	r.Header = append(r.Header,
		mesh.Field{Name: "X-Request-Id", Value: x.ID}, mesh.Field{Name: "X-Forwarded-For", Value: x.sentFor()},
		mesh.Field{Name: "X-Forwarded-Proto", Value: x.Scheme}, mesh.Field{Name: "Traceparent", Value: trace},
		mesh.Field{Name: "Via", Value: x.received()})
	if x.Host != "" {
		r.Header = append(r.Header, mesh.Field{Name: "X-Forwarded-Host", Value: x.Host})
	}
	if w := x.route.Rewrite; w != nil {
		if w.Host != "" {
			r.Host = string(w.Host)
		}
		edit(&r.Header, &w.Request)
	}
	return r
}

// sentFor is what the target gets as X-Forwarded-For.
func (x *Exchange) sentFor() string {
	peer := x.Peer.String()
	if x.trusted {
		if v := x.Header.Values("X-Forwarded-For"); len(v) > 0 {
			return strings.Join(v, ", ") + ", " + peer
		}
	}
	return peer
}

// received is this node's entry in Via (RFC 9110 §7.6.3).
func (x *Exchange) received() string {
	if x.HTTP10 {
		return "1.0 " + x.via
	}
	return "1.1 " + x.via
}
