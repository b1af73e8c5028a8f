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

// callOwner says who defines the calls of a gather. What they cache is kept apart by origin. id returns the name under
// which a call is counted.
type callOwner struct {
	origin string
	id     func(call string) string
}

// routeCalls is for the calls of a route of the configuration.
func routeCalls(r *node.Route) callOwner {
	return callOwner{"route", func(call string) string { return r.ID() + "." + call }}
}

// memberCalls is for calls that a member asked for. The member chooses their names, which are unbounded, so the calls
// are counted together.
func memberCalls(r *node.Route) callOwner {
	return callOwner{"api", func(string) string { return r.ID() }}
}

// gatherer returns the end of the chain of a route with gather.
func (s *Server) gatherer(r *node.Route, by callOwner) *gather.Gatherer {
	return gather.New(gather.Config{
		Part: func(call string) gather.Part { return s.part(r, call, by) }, Cache: caching, Budget: s.buffered,
		Log: s.log,
	}, r)
}

// part returns the route of one call: its target behind the call's own limits and cache.
func (s *Server) part(parent *node.Route, name string, by callOwner) gather.Part {
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

// caching returns how the route's own cache would store the answer to an exchange.
func caching(x *exchange.Exchange) gather.Caching {
	c := cache.Of(x.Route)
	if c == nil {
		return gather.Caching{}
	}
	return gather.Caching{On: true, TTL: c.TTL(), Personal: c.Personal(x)}
}

// Gather makes the calls of a route with gather for a member. The calls carry host and header. Gather counts as one of
// the requests in flight. The limits and caches of the calls apply as for requests of clients; the client's address is
// 127.0.0.1.
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
		return nil, err
	}
	if !s.admission.enter() {
		return nil, errFull
	}
	defer s.admission.leave()
	x.Forward.Deadline = x.Started.Add(x.Timeout())
	return s.gatherer(r, memberCalls(r)).Handle(ctx, x)
}
