package edge

import (
	"slices"

	"millrace/edge/exchange"
	"millrace/edge/site"
	"millrace/node"
)

// addPreviews adds a route for the previews of each site that has some. It is made of the first route that serves the
// site. If that takes all requests, what the pages ask of its origin is answered in previews, too.
func (s *Server) addPreviews(set *settings) {
	var done []string
	for _, r := range set.routes {
		for _, name := range r.Sites() {
			host := s.sites.Preview(name)
			if host == "" || slices.Contains(done, name) {
				continue
			}
			done = append(done, name)
			made := previewRoute(&r.Route, name, host)
			set.previews = append(set.previews, s.newRoute(made, made.ID(), s.end(made)))
		}
	}
}

// previewRoute returns the route for the previews of a site that r serves. host has a star. It has no origin if r keeps
// some requests from its origin: previews open nothing that is closed elsewhere.
func previewRoute(r *node.Route, name, host string) node.Route {
	out, origin := *r, r.Origin()
	if !takesAll(r) {
		origin = node.Target{}
	}
	out.Name, out.Host, out.Path = "preview-"+name, node.Host(host), node.Pattern{Rest: true}
	out.Methods, out.Match = nil, node.Match{}
	out.To, out.Try = node.Target{Kind: node.KindSite, Name: name}, nil
	if origin.Kind != "" {
		out.To, out.Try = node.Target{}, []node.Target{out.To, origin}
	}
	if w := r.Rewrite; w != nil {
		kept := *w
		kept.Path = node.Template{}
		out.Rewrite = &kept
	}
	return out
}

// takesAll reports whether a route passes requests with any path, method and fields, as they are.
func takesAll(r *node.Route) bool {
	return len(r.Path.Segments) == 0 && r.Path.Rest && len(r.Methods) == 0 && len(r.Match.Headers) == 0 &&
		(r.Rewrite == nil || r.Rewrite.Path.String() == "")
}

// previewOf returns the route for the preview that the exchange's host names, or nil.
func (set *settings) previewOf(x *exchange.Exchange) *exchange.Route {
	for _, r := range set.previews {
		if _, ok := site.PreviewLabel(string(r.Host), x.Host); ok {
			return set.takeSlash(x, r)
		}
	}
	return nil
}
