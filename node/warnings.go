package node

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Warnings finds what is valid but probably a mistake, in the order of the file's sections. Each message says what to
// do about it. A configuration with warnings works as it is. It must have passed Validate.
func (c *Config) Warnings() []Problem {
	v := &validator{config: c}
	v.unusedUpstreams()
	uses := v.upstreamUses()
	v.unreachedTimeouts(uses)
	v.routeTimeouts(uses)
	v.callTimeouts()
	v.ownAdmin()
	v.zeroLimits()
	v.redirectsToThemselves()
	v.literalRefs()
	v.unusedSites()
	v.unusedPages()
	v.sitesOfOneHost()
	return v.problems
}

// unusedUpstreams reports upstreams that no request of this node uses. In a mesh of several nodes, other nodes may use
// an upstream that is served here, so only remote ones are reported.
func (v *validator) unusedUpstreams() {
	used := v.usedUpstreams()
	shared := !v.config.Mesh.Alone()
	for _, name := range slices.Sorted(maps.Keys(v.config.Upstreams)) {
		served := !v.config.Upstreams[name].Remote
		v.check(used[name] || used["*"] || (shared && served), []string{"upstreams", name},
			"nothing uses upstream %q: write to: upstream:%[1]s in a route, or remove it", name)
	}
}

// usedUpstreams returns the upstreams that routes, calls and members may use; * stands for all.
func (v *validator) usedUpstreams() map[string]bool {
	used := map[string]bool{}
	for _, name := range v.config.Mesh.GatherUpstreams {
		used[name] = true
	}
	for i := range v.config.Routes {
		for _, t := range v.config.Routes[i].Targets() {
			used[t.Name] = used[t.Name] || t.Kind == KindUpstream
		}
	}
	return used
}

// literalRefs reports values that seem to contain references where none are replaced.
func (v *validator) literalRefs() {
	for i := range v.config.Routes {
		r := &v.config.Routes[i]
		at := func(keys ...string) []string { return append([]string{"routes", strconv.Itoa(i)}, keys...) }
		if w := r.Rewrite; w != nil {
			v.plainValues(at("rewrite", "query", "set"), w.Query.Set)
			v.plainValues(at("rewrite", "query", "add"), w.Query.Add)
			v.plainValues(at("rewrite", "request", "set"), w.Request.Set)
			v.plainValues(at("rewrite", "request", "add"), w.Request.Add)
			v.plainValues(at("rewrite", "response", "set"), w.Response.Set)
			v.plainValues(at("rewrite", "response", "add"), w.Response.Add)
		}
		if a := r.Respond; a != nil {
			v.plainValues(at("respond", "headers"), a.Headers)
			v.plainBody(at("respond", "body"), r)
		}
	}
}

// plainValues reports references in values of fields or parameters, which are sent unchanged.
func (v *validator) plainValues(at []string, values map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		for _, ref := range refsIn(values[name]) {
			v.report(append(slices.Clone(at), name), "%s isn't replaced here: the value is sent as it stands", ref)
		}
	}
}

// plainBody reports references to the request in a fixed body. Other braces are allowed in it.
func (v *validator) plainBody(at []string, r *Route) {
	for _, ref := range refsIn(r.Respond.Body) {
		ofPath := slices.Contains(r.Path.Params(), ref.Param) || ref.Param == Rest
		v.check(!ofPath && ref.explain(r) == "", at, "%s isn't replaced here: the body is sent as it stands", ref)
	}
}

// refsIn returns what would be references in a template.
func refsIn(text string) []Ref {
	var refs []Ref
	for {
		_, rest, found := strings.Cut(text, "{")
		name, after, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return refs
		}
		if ref, ok := parseRef(name); ok {
			refs, text = append(refs, ref), after
		} else {
			text = rest
		}
	}
}
