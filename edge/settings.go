package edge

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"millrace/edge/cache"
	"millrace/edge/exchange"
	"millrace/edge/ratelimit"
	"millrace/edge/route"
	"millrace/edge/site"
	"millrace/mesh"
	"millrace/node"
)

// settings is everything that a reload may change. A reload makes a new value; a value never changes.
type settings struct {
	exchange.Settings

	table     *route.Table[*exchange.Route]
	previews  []*exchange.Route // that serve previews of sites; their hosts have a star
	routes    []*exchange.Route // of the configuration, and of exposed services
	unmatched *exchange.Route   // answers requests that have no route, or no valid form
	asterisk  *exchange.Route   // answers OPTIONS *, which asks about the node
	purge     *exchange.Route   // answers PURGE; nil unless some client may use it
}

// Names in metrics and events of routes that aren't in the configuration.
const (
	exposedID   = "exposed"
	purgeID     = "purge"
	unmatchedID = "unmatched"
)

// newSettings makes settings of a configuration. Services of edge.expose become routes /NAME/*, unless a route has that
// path. Routes without a name get one.
func (s *Server) newSettings(cfg node.Edge, routes []node.Route) *settings {
	set := &settings{Settings: exchange.Settings{Edge: cfg, Via: s.via}}
	set.Find = set.find
	for _, r := range withExposed(routes, cfg.Expose) {
		made := s.newRoute(r, r.ID(), s.end(r))
		set.Caches = set.Caches || cache.Of(made) != nil || r.Gather.Caches()
		set.Sites = set.Sites || site.Of(made) != nil
		set.Limits = set.Limits || ratelimit.Of(made) != nil
		set.routes = append(set.routes, made)
	}
	if s.sites != nil {
		s.addPreviews(set)
	}
	set.table = route.New(set.routes, func(r *exchange.Route) *node.Route { return &r.Route })
	set.unmatched = s.newRoute(node.Route{}, unmatchedID, answerRefusal)
	set.asterisk = s.newRoute(node.Route{}, unmatchedID, answerAsterisk)
	if s.cache != nil && len(s.cfg.Store.PurgeClients) > 0 {
		set.purge = s.newRoute(node.Route{}, purgeID, s.cache.Purge)
	}
	if slices.Contains(cfg.Expose, "*") {
		set.Exposed = s.newRoute(node.Route{}, exposedID, s.callExposed)
	}
	return set
}

// answerRefusal returns the exchange's refusal.
func answerRefusal(_ context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	return nil, x.Outcome.Refusal
}

// answerAsterisk answers OPTIONS *.
func answerAsterisk(context.Context, *exchange.Exchange) (*mesh.Response, error) {
	return &mesh.Response{
		Status: http.StatusNoContent, Header: mesh.Header{{Name: "Allow", Value: exchange.ServedMethods}},
	}, nil
}

func (s *Server) newRoute(r node.Route, id string, end exchange.Handler) *exchange.Route {
	return exchange.NewRoute(r, id, s.chain, end)
}

// withExposed adds the routes of exposed services and names them. The names of the configuration's own routes don't
// change.
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

// find is exchange.Settings.Find.
func (set *settings) find(x *exchange.Exchange) *exchange.Route {
	if r := set.previewOf(x); r != nil {
		return r
	}
	r := route.Request{Method: x.Method, Host: x.Host, Path: x.Path, Header: x.Header}
	found, params, miss := set.table.Find(&r)
	if miss != nil {
		return set.missed(x, miss)
	}
	x.Params = params
	return set.takeSlash(x, found)
}

// takeSlash returns the exchange's route, or who refuses it because its path has an encoded slash.
func (set *settings) takeSlash(x *exchange.Exchange, found *exchange.Route) *exchange.Route {
	if !x.EncodedSlash() || found.EncodedSlash == node.EncodedSlashKeep {
		return found
	}
	x.Outcome.RefusedBy = found
	x.Outcome.Refusal = node.Errorf(node.CodeInvalid, nil,
		"the path holds an encoded slash, which this route takes only with encoded_slash: keep")
	return set.unmatched
}

// missed returns who answers an exchange that no route matches.
func (set *settings) missed(x *exchange.Exchange, miss *route.Miss[*exchange.Route]) *exchange.Route {
	if set.Exposed != nil && node.ValidName(firstSegment(x.Path)) {
		return set.Exposed
	}
	x.Outcome.RefusedBy = miss.Near
	x.Outcome.Refusal = node.Errorf(node.CodeNotFound, nil, "no route matches the request")
	if len(miss.Allowed) > 0 {
		slices.Sort(miss.Allowed)
		x.Outcome.Allow = strings.Join(slices.Compact(miss.Allowed), ", ")
		x.Outcome.Refusal = node.Errorf(node.CodeMethod, nil, "the path doesn't take this method")
	}
	return set.unmatched
}

func firstSegment(path string) string {
	segment, _, _ := strings.Cut(path[1:], "/")
	return segment
}
