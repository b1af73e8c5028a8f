package edge

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"

	"millrace/edge/cache"
	"millrace/edge/exchange"
	"millrace/edge/gather"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// calls says who wrote the calls of a gather, which keeps what they cache apart, and under which name they are counted.
type calls struct {
	origin string
	id     func(call string) string
}

// routeCalls are the calls of a route of the configuration.
func routeCalls(r *node.Route) calls {
	return calls{"route", func(call string) string { return r.ID() + "." + call }}
}

// memberCalls are the calls of a member. It chooses their names, so they aren't counted one by one.
func memberCalls(r *node.Route) calls { return calls{"api", func(string) string { return r.ID() }} }

// gatherer makes the end of the chain of a route that gathers.
func (s *Server) gatherer(r *node.Route, by calls) *gather.Gatherer {
	return gather.New(gather.Config{
		Part: func(call string) gather.Part { return s.part(r, call, by) }, Cache: caching, Budget: s.buffered,
		Log: s.log,
	}, r)
}

// part makes the route of one call: its target, behind the call's own limits and cache.
func (s *Server) part(parent *node.Route, name string, by calls) gather.Part {
	c := parent.Gather.Calls[name]
	own := node.Route{
		Host: parent.Host, Path: parent.Path, To: c.To, Timeout: c.Timeout, Cache: c.Cache,
		Limit: c.Limit,
	}
	if parent.Rewrite != nil {
		own.Rewrite = &node.Rewrite{Request: parent.Rewrite.Request}
	}
	if own.Timeout == 0 && own.Cache != nil && own.Cache.On && s.cache != nil {
		own.Timeout = parent.Timeout // of a fetch, which may outlive the request
	}
	of := cache.Part{Origin: by.origin, Route: parent.ID(), Call: name, Tied: parent.Gather.Mode.Single()}
	policies := func(r *exchange.Route) []exchange.Policy { return s.partPolicies(r, of) }
	id := by.id(name)
	return gather.Part{
		Route: exchange.NewRoute(own, id, policies, s.targetHandler(own)), Record: s.callStats.of(id).record,
	}
}

// caching says how the route's own cache keeps the answer to an exchange.
func caching(x *exchange.Exchange) gather.Caching {
	c := cache.Of(x.Route)
	if c == nil {
		return gather.Caching{}
	}
	return gather.Caching{On: true, TTL: c.TTL(), Personal: c.Personal(x)}
}

// Gather makes the calls of a route with gather for a member: host and header are what the calls carry. It takes a
// place among the requests in flight, and the limits and caches of calls count as those of requests do; the client is
// this node.
func (s *Server) Gather(ctx context.Context, r *node.Route, host string, header mesh.Header) (*mesh.Response, error) {
	self := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	x := exchange.For(&s.settings.Load().Settings, self, "http", http.MethodGet, cmp.Or(host, "localhost"), header)
	x.Path, x.ID, x.Route = "/", exchange.NewID(), &exchange.Route{Route: *r, ID: r.ID()}
	var err error
	if x.Host, err = http1.CanonicalAuthority(x.Host, x.Scheme); err != nil {
		return nil, node.Errorf(node.CodeInvalid, err, "the host is malformed")
	}
	if i := slices.IndexFunc(header, func(f mesh.Field) bool { return !http1.ValidField(f) }); i >= 0 {
		return nil, node.Errorf(node.CodeInvalid, nil, "header field %.40q is malformed", header[i].Name)
	}
	if err := x.AcceptFields(); err != nil {
		return nil, err //nolint:wrapcheck // a *node.Error already
	}
	if !s.admission.enter() {
		return nil, errFull
	}
	defer s.admission.leave()
	x.Forward.Deadline = x.Started.Add(x.Timeout())
	return s.gatherer(r, memberCalls(r)).Handle(ctx, x) //nolint:wrapcheck // a *node.Error already
}
