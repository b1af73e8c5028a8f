package node

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Targets returns all targets of the route: its own, those of try, or those of its gather's calls. The order of a
// gather's isn't defined.
func (r *Route) Targets() []Target {
	switch {
	case r.Gather != nil:
		var out []Target
		for _, c := range r.Gather.Calls {
			out = append(out, c.To)
		}
		return out
	case len(r.Try) > 0:
		return r.Try
	case r.To.Kind == "":
		return nil
	}
	return []Target{r.To}
}

// Origin returns the target of the requests that no site of the route answers: to, or the last of try. It is the zero
// Target if there is none but sites. It doesn't allocate.
func (r *Route) Origin() Target {
	to := r.To
	if n := len(r.Try); n > 0 {
		to = r.Try[n-1]
	}
	if to.Kind == KindSite {
		return Target{}
	}
	return to
}

// Sites returns the names of the sites that answer the route's requests, in the order in which they are asked.
func (r *Route) Sites() []string {
	if r.To.Kind == KindSite {
		return []string{r.To.Name}
	}
	var names []string
	for _, t := range r.Try {
		if t.Kind == KindSite {
			names = append(names, t.Name)
		}
	}
	return names
}

// UsesSites reports whether any route serves a site.
func (c *Config) UsesSites() bool {
	return slices.ContainsFunc(c.Routes, func(r Route) bool { return len(r.Sites()) > 0 })
}

// siteRoute checks a route to sites: its try, and what no site can take.
func (v *validator) siteRoute(route int, r *Route) {
	at := func(keys ...string) []string { return append([]string{"routes", strconv.Itoa(route)}, keys...) }
	if r.Try != nil {
		v.try(at, r)
	}
	if len(r.Sites()) == 0 || r.Origin().Kind != "" {
		return
	}
	for i, m := range r.Methods {
		v.check(m == http.MethodGet || m == http.MethodHead, at("methods", strconv.Itoa(i)),
			"a site answers GET and HEAD: leave %s out, or give it a route of its own", m)
	}
	v.check(r.MaxBody == 0, at("max_body"), "requests to a site have no body: leave max_body out")
	v.check(r.Cache == nil || !r.Cache.On, at("cache"),
		"a site is fresher and cheaper than the cache: leave cache out")
	if w := r.Rewrite; w != nil {
		v.check(!strings.Contains(w.Path.String(), "?"), at("rewrite", "path"),
			"a site has no queries: write the path alone")
	}
}

// try checks the order of the targets: sites, and at last at most one of another kind.
func (v *validator) try(at keyPath, r *Route) {
	v.check(len(r.Try) > 1, at("try"), "try is for several targets, such as [site:www, upstream:app]: write to for one")
	for i, t := range r.Try {
		path := at("try", strconv.Itoa(i))
		last := i == len(r.Try)-1
		v.check(last || t.Kind == KindSite || t.Kind == "", path,
			"%s answers every request, so nothing behind it is tried: write sites first, and one other target at the "+
				"end", t)
		again := slices.ContainsFunc(r.Try[:i], func(before Target) bool { return before.String() == t.String() })
		v.check(!again || t.Kind == "", path, "%s is tried twice: leave one out", t)
		if t.Kind == KindUpstream {
			v.declared(path, t.Name)
		}
		v.refs(path, r, t.Subject.Refs())
	}
}

// unusedSites reports sites that are configured but that no route of this node serves. Nodes of a mesh may share what
// they say of sites, but an entry has no effect without a route, apart from its token and its previews.
func (v *validator) unusedSites() {
	used := map[string]bool{}
	for i := range v.config.Routes {
		for _, name := range v.config.Routes[i].Sites() {
			used[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.config.Sites.Named)) {
		v.check(used[name], []string{"sites", name},
			"no route serves site %q: write to: site:%[1]s in a route, or remove it", name)
	}
}

// unusedPages reports sites with the page of a single-page application that no route sends: wherever try ends with a
// target that answers everything, that one gets the navigations.
func (v *validator) unusedPages() {
	passed, sent := map[string]bool{}, map[string]bool{}
	for i := range v.config.Routes {
		r := &v.config.Routes[i]
		by := sent
		if r.Origin().Kind != "" {
			by = passed
		}
		for _, name := range r.Sites() {
			by[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.config.Sites.Named)) {
		v.check(v.config.Sites.Named[name].SPA == "" || !passed[name] || sent[name], []string{"sites", name, "spa"},
			"what site %q hasn't goes to the last target of try, so its page is never sent: leave spa out, or give "+
				"that target a route of its own and write to: site:%[1]s", name)
	}
}

// sitesOfOneHost reports routes that serve different sites on the same host. Browsers keep cookies and service workers
// by host, so one site can read and replace what belongs to the other.
func (v *validator) sitesOfOneHost() {
	type place struct {
		route int
		site  string
	}
	first := map[Host]place{}
	for i := range v.config.Routes {
		r := &v.config.Routes[i]
		for _, name := range r.Sites()[:min(len(r.Sites()), 1)] {
			known, again := first[r.Host]
			switch {
			case !again:
				first[r.Host] = place{i, name}
			case known.site != name:
				v.report([]string{"routes", strconv.Itoa(i)}, "sites %q and %q are on one host, so they share "+
					"cookies and service workers: give each a host of its own", known.site, name)
				v.problems[len(v.problems)-1].Other = []string{"routes", strconv.Itoa(known.route)}
			}
		}
	}
}
