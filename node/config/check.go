package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"millrace/node"
)

// check adds the problems that node.Config.Validate finds, at their positions in the file. Values with a mistake aren't
// reported again, and neither are follow-up problems.
func check(r *report, root *value, c *node.Config) {
	if root.kind != kindMapping {
		return
	}
	emptyCluster(r, root, c)
	if len(r.paths) > 0 {
		c = mask(r, c)
	}
	for _, p := range c.Validate() {
		if r.mistaken(p.Path...) {
			continue
		}
		addProblem(r, root, p)
	}
}

// addProblem reports a problem found by node.Config at its position in the file. For another position that is involved,
// the message has its line.
func addProblem(r *report, root *value, p node.Problem) {
	pos, at := locate(root, p.Path)
	other := ""
	if len(p.Other) > 0 {
		first, _ := locate(root, p.Other)
		other = fmt.Sprintf(" (the other is on line %d)", first.line)
	}
	r.add(pos, nil, "%s%s%s", at.prefix(), p.Message, other)
}

// warn returns the warnings about a valid configuration, in the order of the file.
func warn(file string, root *value, c *node.Config) []Mistake {
	r := &report{file: file, warns: true}
	for _, p := range c.Warnings() {
		addProblem(r, root, p)
	}
	return r.sorted()
}

// emptyCluster reports a cluster section that sets nothing: node.Config can't distinguish it from none.
func emptyCluster(r *report, root *value, c *node.Config) {
	path := []string{"mesh", "cluster"}
	mesh := root.child(path[0])
	if mesh == nil || mesh.value.child(path[1]) == nil || c.Mesh.Cluster.Enabled() || r.mistaken(path...) ||
		len(r.mistakenKeys(path...)) > 0 {
		return
	}
	pos, at := locate(root, path)
	r.add(pos, nil, "%scluster needs name and peers: add them, or leave cluster out for a node that stands alone",
		at.prefix())
}

// mask returns a copy of the configuration in which mistaken values are replaced by ones that cause no problem
// elsewhere. For example, a route whose path couldn't be read must not conflict with other routes.
func mask(r *report, c *node.Config) *node.Config {
	out := *c
	out.Upstreams = maps.Clone(c.Upstreams)
	out.Routes = slices.Clone(c.Routes)
	out.Limits = maskLimits(r, c)
	if r.mistaken("mesh", "url") {
		out.Mesh.URL = "nats://"
	}
	if r.mistaken("admin", "token") {
		out.Admin.Token = "hidden" // a non-loopback address needs a token
	}
	if r.mistaken("mesh", "cluster", "token") {
		out.Mesh.Cluster.Token = "hidden" // likewise
	}
	for name, u := range out.Upstreams {
		out.Upstreams[name] = maskUpstream(u, r.mistakenKeys("upstreams", name))
	}
	for i := range out.Routes {
		maskRoute(r, &out, i)
	}
	if r.mistaken("upstreams") {
		if out.Upstreams == nil {
			out.Upstreams = map[string]node.Upstream{}
		}
		for _, route := range out.Routes {
			for _, to := range route.Targets() {
				out.Upstreams[to.Name] = node.Upstream{Remote: true}
			}
		}
	}
	return &out
}

func maskUpstream(u node.Upstream, mistaken []string) node.Upstream {
	if len(mistaken) == 0 {
		return u
	}
	if len(u.Targets) == 0 {
		u.Remote = true
	} else if slices.Contains(mistaken, "remote") {
		u.Remote = false
	}
	u.Targets = slices.Clone(u.Targets)
	for i := range u.Targets {
		if u.Targets[i].URL == "" {
			u.Targets[i].URL = node.BaseURL(strconv.Itoa(i)) // otherwise two of them would be the same target
		}
	}
	return u
}

// maskRoute gives a route that can't be compared a unique host, so that it conflicts with no other.
func maskRoute(r *report, c *node.Config, i int) {
	route, index := &c.Routes[i], strconv.Itoa(i)
	elsewhere := []string{"to", "try", "timeout", "max_body", "limit", "encoded_slash", "forward_headers"}
	unsure := r.mistaken("routes", index)
	for _, key := range r.mistakenKeys("routes", index) {
		unsure = unsure || !slices.Contains(elsewhere, key)
	}
	if unsure {
		route.Host = node.Host("\x00" + index)
	}
	route.Limit = slices.Clone(route.Limit)
	for j, l := range route.Limit {
		route.Limit[j] = maskLimit(r, l, "routes", index, "limit", strconv.Itoa(j))
	}
	if r.mistaken("routes", index, "path") {
		route.To.Subject = node.Subject{} // its parameters can't be checked
		addParams(route, c.Limits)        // neither can those of its limits
		if len(route.Try) > 0 {
			route.To, route.Try = node.Target{Kind: node.KindNATS}, nil
		}
		route.Redirect, route.Rewrite = nil, nil
	}
	if r.mistaken("routes", index, "to") {
		route.To = node.Target{Kind: node.KindNATS}
	}
	if r.mistaken("routes", index, "try") || len(r.mistakenKeys("routes", index, "try")) > 0 {
		route.To, route.Try = node.Target{Kind: node.KindNATS}, nil
	}
}
