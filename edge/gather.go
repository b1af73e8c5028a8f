package edge

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// gatherer makes the calls of a route with gather. gather_part.go makes one call, gather_answer.go the answer.
type gatherer struct {
	how     *node.Gather
	rewrite *node.Rewrite
	names   []string // in the order of the response
	parts   []*route // by name's index: each call is made as the request of a route of its own
}

// gather makes the end of the chain of a route that gathers.
func (s *Server) gather(r *node.Route) *gatherer {
	return s.newGatherer(r, func(call string) string { return r.ID() + "." + call }, "route")
}

// newGatherer makes the parts. id says under which name the calls are counted; what they cache is kept apart by origin,
// which says who wrote them.
func (s *Server) newGatherer(r *node.Route, id func(call string) string, origin string) *gatherer {
	g := &gatherer{how: r.Gather, rewrite: r.Rewrite, names: slices.Sorted(maps.Keys(r.Gather.Calls))}
	for _, name := range g.names {
		g.parts = append(g.parts, s.partRoute(r, name, id(name), origin))
	}
	return g
}

// partRoute is the route of one call: its target, behind the call's own limits and cache.
func (s *Server) partRoute(parent *node.Route, name, id, origin string) *route {
	c := parent.Gather.Calls[name]
	own := node.Route{
		Host: parent.Host, Path: parent.Path, To: c.To, Timeout: c.Timeout, Cache: c.Cache,
		Limit: c.Limit,
	}
	if parent.Rewrite != nil {
		own.Rewrite = &node.Rewrite{Request: parent.Rewrite.Request}
	}
	r := &route{Route: own, id: id, paramNames: own.Path.Params(), stats: s.callStats.of(id)}
	r.handler = targetHandler(s.mesh, own)
	if own.Cache != nil && own.Cache.On && s.cfg.Cache != nil {
		if r.Timeout == 0 {
			r.Timeout = parent.Timeout
		}
		r.cached = s.newCached(r, deadline(r.handler)) // a fetch may outlive the request that began it
		r.cached.asPart(origin, parent.ID(), name, c.To.String())
		r.cached.tied = parent.Gather.Mode.Single()
		r.handler = r.cached.handle
	}
	if len(own.Limit) > 0 && s.cfg.Limits != nil {
		r.limited = s.newLimited(r, r.handler)
		r.handler = r.limited.handle
	}
	return r
}

func (g *gatherer) handle(ctx context.Context, x *Exchange) (*mesh.Response, error) {
	ctx, cancel := context.WithDeadline(ctx, x.forward.Deadline)
	defer cancel()
	held := &holding{budget: x.server.buffered}
	defer held.release()
	outs := make([]partOut, len(g.names))
	decided := false
	enough := func(results []mesh.PartResult, last int) bool {
		decided = g.enough(results, outs, last)
		return decided
	}
	results := mesh.Gather(ctx, mesh.Gathering{Concurrency: g.how.Concurrency, Enough: enough}, g.calls(x, held, outs))
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil, errGone
	}
	if !decided && ctx.Err() != nil {
		g.standIn(results, outs)
	}
	resp, err := g.answer(results, outs, decided, held)
	if err != nil {
		return nil, err
	}
	g.tellCaches(x, resp, results)
	if g.rewrite != nil {
		edit(&resp.Header, &g.rewrite.Response)
	}
	g.tell(x, resp, results, outs)
	return resp, nil
}

// calls makes the parts of one request.
func (g *gatherer) calls(x *Exchange, held *holding, outs []partOut) []mesh.Part {
	header := partHeader(x)
	parts := make([]mesh.Part, len(g.names))
	for i, name := range g.names {
		c := g.how.Calls[name]
		p := &part{call: &c, route: g.parts[i], x: x, header: header, held: held, out: &outs[i]}
		parts[i] = mesh.Part{Name: name, After: c.After, Do: p.do}
	}
	return parts
}

// Gather makes the calls of a route with gather for a member: host and header are what the calls carry. It takes a
// place among the requests in flight, and the limits and caches of calls count as those of requests do; the client is
// this node.
func (s *Server) Gather(ctx context.Context, r *node.Route, host string, header mesh.Header) (*mesh.Response, error) {
	x := &Exchange{
		Method: "GET", Header: header, Scheme: "http", Started: time.Now(), Host: host, Path: "/", ID: newID(),
		settings: s.settings.Load(), via: s.via, server: s,
		route: &route{Route: *r, id: r.ID()}, Peer: netip.AddrFrom4([4]byte{127, 0, 0, 1}),
	}
	x.Client = x.Peer
	if x.Host == "" {
		x.Host = "localhost"
	}
	var err error
	if x.Host, err = canonicalAuthority(x.Host, x.Scheme); err != nil {
		return nil, node.Errorf(node.CodeInvalid, err, "the host is malformed")
	}
	if i := slices.IndexFunc(header, func(f mesh.Field) bool { return !mesh.ValidField(f) }); i >= 0 {
		return nil, node.Errorf(node.CodeInvalid, nil, "header field %.40q is malformed", header[i].Name)
	}
	if err := x.acceptFields(); err != nil {
		return nil, err
	}
	if !s.admission.enter() {
		return nil, errFull
	}
	defer s.admission.leave()
	x.forward.Deadline = x.Started.Add(x.timeout())
	// members choose the names of calls, so those aren't counted one by one
	return s.newGatherer(r, func(string) string { return r.ID() }, "api").handle(ctx, x)
}

// standIn takes what stands in for parts that weren't over in time.
func (g *gatherer) standIn(results []mesh.PartResult, outs []partOut) {
	for i := range results {
		r, instead := &results[i], g.how.Calls[results[i].Name].Fallback
		if r.Err == nil && r.Response == nil && instead != "" {
			outs[i].fellBack = true
			r.Response = jsonResponse([]byte(instead))
		}
	}
}

// partHeader is the client's fields that calls carry, too.
func partHeader(x *Exchange) mesh.Header {
	h := slices.Clone(x.Header)
	h.Delete(func(f mesh.Field) bool { return ofWhole(f.Name) })
	h.Add("Accept-Encoding", "identity") // a coded part can't be put into the whole
	return h
}

// ofWhole names the fields of the client's request that are about the response as a whole, or about a body, which calls
// don't have.
func ofWhole(name string) bool {
	return hasPrefixFold(name, "If-") || hasPrefixFold(name, "Content-") || equalFold(name, "Range") ||
		equalFold(name, "Accept-Encoding") || equalFold(name, "Expect")
}
