package node

import (
	"maps"
	"slices"
)

// Warnings finds what is valid but can hardly be meant, in the order of the file's sections. Each says what to do about it.
// A configuration that has only warnings is used as it is. It must have passed Validate.
func (c *Config) Warnings() []Problem {
	v := &validator{config: c}
	v.unusedUpstreams()
	uses := v.upstreamUses()
	v.unreachedTimeouts(uses)
	v.cutTimeouts(uses)
	return v.problems
}

// unusedUpstreams reports upstreams to which no request of this node can go. Other nodes of the mesh may have routes to
// an upstream that is served here, so on a node that isn't alone only those count that others serve.
func (v *validator) unusedUpstreams() {
	used := v.usedUpstreams()
	shared := v.config.Mesh.URL != "" || v.config.Mesh.Cluster.Enabled()
	for _, name := range slices.Sorted(maps.Keys(v.config.Upstreams)) {
		served := !v.config.Upstreams[name].Remote
		v.check(used[name] || used["*"] || (shared && served), []string{"upstreams", name},
			"nothing uses upstream %q: write to: upstream:%[1]s in a route, or remove it", name)
	}
}

// usedUpstreams names what routes, calls of gathers and members may call; * stands for all.
func (v *validator) usedUpstreams() map[string]bool {
	used := map[string]bool{}
	for _, name := range v.config.Mesh.GatherUpstreams {
		used[name] = true
	}
	for i := range v.config.Routes {
		for _, t := range v.config.Routes[i].targets() {
			used[t.Name] = used[t.Name] || t.Kind == KindUpstream
		}
	}
	return used
}

// targets lists whom the route asks: its own target, or those of its gather's calls.
func (r *Route) targets() []Target {
	if r.Gather == nil {
		return []Target{r.To}
	}
	var out []Target
	for _, c := range r.Gather.Calls {
		out = append(out, c.To)
	}
	return out
}
