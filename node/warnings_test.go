package node_test

import (
	"strings"
	"testing"

	"millrace/node"
)

// An upstream that nothing uses is told, unless other nodes may use what this one serves.
func TestUnusedUpstreamIsWarnedAbout(t *testing.T) {
	cluster := func(c *node.Config) { c.Mesh.Cluster.Name = "prod" }
	for name, tc := range map[string]struct {
		change func(c *node.Config)
		want   string
	}{
		"used":                          {func(*node.Config) {}, ""},
		"used by nothing":               {func(c *node.Config) { c.Routes = nil }, "upstreams.api"},
		"a service of the name is used": {func(c *node.Config) { c.Routes[0].To.Kind = node.KindService }, "upstreams.api"},
		"members may":                   {func(c *node.Config) { c.Routes, c.Mesh.GatherUpstreams = nil, []string{"api"} }, ""},
		"members may call all":          {func(c *node.Config) { c.Routes, c.Mesh.GatherUpstreams = nil, []string{"*"} }, ""},
		"served in a cluster":           {func(c *node.Config) { c.Routes = nil; cluster(c) }, ""},
		"served on an existing mesh":    {func(c *node.Config) { c.Routes, c.Mesh.URL = nil, "nats://127.0.0.1" }, ""},
		"of others in a cluster": {func(c *node.Config) {
			c.Routes = nil
			change(c, func(u *node.Upstream) { u.Remote, u.Targets = true, nil })
			cluster(c)
		}, "upstreams.api"},
		"a gather calls it": {func(c *node.Config) {
			c.Routes[0].Gather = &node.Gather{Calls: map[string]node.Call{"one": {To: c.Routes[0].To}}}
			c.Routes[0].To = node.Target{}
		}, ""},
	} {
		c := valid(t)
		tc.change(c)
		var places []string
		for _, w := range c.Warnings() {
			places = append(places, strings.Join(w.Path, "."))
		}
		if got := strings.Join(places, " "); got != tc.want {
			t.Errorf("%s: warnings about %q, want %q", name, got, tc.want)
		}
	}
}
