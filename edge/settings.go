package edge

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"millrace/mesh"
	"millrace/node"
)

// settings is everything that a reload may change: made new each time, never changed.
type settings struct {
	node.Edge
	table     *table
	routes    []*route // named routes, the narrowest knowledge of what is served
	exposed   *route   // serves every name that no route matches; nil unless edge.expose holds "*"
	unmatched *route   // answers what has no route, or no valid form
	whole     *route   // answers OPTIONS *, which asks about the node
	purge     *route   // answers PURGE; nil unless some client may use it
	caches    bool     // some route does
	limits    bool     // some route has some
}

// Names of the routes that no configuration wrote, as metrics and events show them.
const (
	exposedID   = "exposed"
	purgeID     = "purge"
	unmatchedID = "unmatched"
)

// newSettings makes routes ready to serve. Services of edge.expose become routes /NAME/*, unless a route has that path.
// Routes without a name get one.
func (s *Server) newSettings(cfg node.Edge, routes []node.Route) *settings {
	set := &settings{Edge: cfg}
	for _, r := range withExposed(routes, cfg.Expose) {
		set.routes = append(set.routes, s.newRoute(r, r.ID(), s.end(r)))
	}
	set.table = newTable(set.routes)
	set.unmatched = s.newRoute(node.Route{}, unmatchedID, func(_ context.Context, x *Exchange) (*mesh.Response, error) {
		return nil, x.refusal
	})
	set.whole = s.newRoute(node.Route{}, unmatchedID, func(context.Context, *Exchange) (*mesh.Response, error) {
		return &mesh.Response{Status: http.StatusNoContent, Header: mesh.Header{{Name: "Allow", Value: servedMethods}}},
			nil
	})
	set.caches = slices.ContainsFunc(set.routes, func(r *route) bool { return r.cached != nil || r.Gather.Caches() })
	set.limits = slices.ContainsFunc(set.routes, func(r *route) bool { return r.limited != nil })
	if s.cfg.Cache != nil && len(s.cfg.Store.PurgeClients) > 0 {
		set.purge = s.newRoute(node.Route{}, purgeID, s.purge)
	}
	if slices.Contains(cfg.Expose, "*") {
		set.exposed = s.newRoute(node.Route{}, exposedID, s.callExposed)
	}
	return set
}

func (s *Server) newRoute(r node.Route, id string, end Handler) *route {
	out := &route{Route: r, id: id, paramNames: r.Path.Params(), stats: s.stats.of(id)}
	out.handler = chain(s.policies(out), end)
	for class := range out.events {
		out.events[class] = "event.http." + id + "." + string(rune('0'+class)) + "xx"
	}
	return out
}

// withExposed adds the routes of exposed services, and names those that have no name. The configuration's own were
// named before: an exposed service changes no name.
func withExposed(routes []node.Route, expose []string) []node.Route {
	out := slices.Clip(routes)
	taken := map[string]bool{"*": true}
	for i := range out {
		if r := &out[i]; r.Host == "" && len(r.Methods) == 0 && len(r.Match.Headers) == 0 && r.Path.Rest &&
			len(r.Path.Segments) == 1 {
			taken[r.Path.Segments[0].Literal] = true
		}
	}
	for _, name := range expose {
		if !taken[name] {
			out = append(out, node.Route{
				Path: node.Pattern{Segments: []node.Segment{{Literal: name}}, Rest: true},
				To:   node.Target{Kind: node.KindService, Name: name},
			})
		}
		taken[name] = true
	}
	return node.NameRoutes(out, nil)
}

// route finds who answers the exchange.
func (set *settings) route(x *Exchange) *route {
	found, allowed := set.table.find(x)
	switch {
	case found && x.slash && x.route.EncodedSlash != node.EncodedSlashKeep:
		x.refusedBy = x.route
		x.refusal = node.Errorf(node.CodeInvalid, nil,
			"the path holds an encoded slash, which this route takes only with encoded_slash: keep")
	case found:
		return x.route
	case set.exposed != nil && node.ValidName(firstSegment(x.Path)):
		x.refusedBy = nil
		return set.exposed
	case len(allowed) > 0:
		slices.Sort(allowed)
		x.allow = strings.Join(slices.Compact(allowed), ", ")
		x.refusal = node.Errorf(node.CodeMethod, nil, "the path doesn't take this method")
	default:
		x.refusal = node.Errorf(node.CodeNotFound, nil, "no route matches the request")
	}
	return set.unmatched
}

func firstSegment(path string) string {
	segment, _, _ := strings.Cut(path[1:], "/")
	return segment
}

// trusts reports whether a peer's X-Forwarded-* are believed.
func (set *settings) trusts(addr netip.Addr) bool {
	for i := range set.TrustedProxies {
		if set.TrustedProxies[i].Contains(addr) {
			return true
		}
	}
	return false
}
