package edge

import (
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// prepare makes the request that goes to the member: the client's end-to-end fields, and those that the edge sets
// itself. Hop-by-hop fields, Millrace-* and Nats-* stay here; X-Forwarded-* and X-Request-Id of a peer that isn't trusted too.
func (x *Exchange) prepare() *mesh.Request {
	r := &x.forward
	r.Method, r.Host, r.Body, r.Route = x.Method, x.Host, x.Body, x.route.id
	if r.Target = x.asked; r.Target == "" {
		r.Target = x.Path + x.Query
	}
	r.Interim = x.Interim
	forwardedFor, proto, host := x.Peer.String(), x.Scheme, x.Host
	if x.trusted {
		if v := x.Header.Values("X-Forwarded-For"); len(v) > 0 {
			forwardedFor = strings.Join(v, ", ") + ", " + forwardedFor
		}
		if v := x.Header.Get("X-Forwarded-Proto"); v == "http" || v == "https" {
			proto = v
		}
		if v := x.Header.Get("X-Forwarded-Host"); v != "" && validHost(v) {
			host = v
		}
	}
	trace, continued := traceparent(x.Header.Get("Traceparent"))
	x.Header.DropHopByHop()
	r.Header = make(mesh.Header, 0, len(x.Header)+7)
	for _, f := range x.Header {
		if !replaced(f.Name, continued) {
			r.Header = append(r.Header, f)
		}
	}
	r.Header = append(r.Header,
		mesh.Field{Name: "X-Request-Id", Value: x.ID}, mesh.Field{Name: "X-Forwarded-For", Value: forwardedFor},
		mesh.Field{Name: "X-Forwarded-Proto", Value: proto}, mesh.Field{Name: "X-Forwarded-Host", Value: host},
		mesh.Field{Name: "Traceparent", Value: trace}, mesh.Field{Name: "Via", Value: x.received()})
	if w := x.route.Rewrite; w != nil {
		if w.Host != "" {
			r.Host = string(w.Host)
		}
		edit(&r.Header, &w.Request)
	}
	return r
}

// received is this node's entry in Via (RFC 9110 §7.6.3).
func (x *Exchange) received() string {
	if x.HTTP10 {
		return "1.0 " + x.via
	}
	return "1.1 " + x.via
}

// replaced names the fields that prepare writes itself, or that have done their work: it runs for every field of every
// request, so it looks at the first letter first.
func replaced(name string, traceContinued bool) bool {
	switch name[0] | 0x20 {
	case 'x':
		return equalFold(name, "X-Request-Id") || equalFold(name, "X-Real-Ip") || (len(name) > 12 && equalFold(name[:12], "X-Forwarded-"))
	case 'h':
		return equalFold(name, "Host")
	case 'c':
		return equalFold(name, "Content-Length")
	case 'e':
		return equalFold(name, "Expect")
	case 'f':
		return equalFold(name, "Forwarded")
	case 't':
		return equalFold(name, "Traceparent") || equalFold(name, "Transfer-Encoding") || (!traceContinued && equalFold(name, "Tracestate"))
	}
	return false
}

// spoofs tells whether a field is written with an underscore so that a CGI-like target (CGI, WSGI, PHP) takes it for one
// that frames or routes the request, or that only this node may set.
func spoofs(name string) bool {
	if strings.IndexByte(name, '_') < 0 {
		return false
	}
	name = strings.ReplaceAll(name, "_", "-")
	return replaced(name, true) || node.Hop(name)
}

func equalFold(a, b string) bool { return len(a) == len(b) && strings.EqualFold(a, b) }

// hasPrefixFold tells whether s begins with the lower-case ASCII prefix, in any case.
func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && equalFold(s[:len(prefix)], prefix)
}
