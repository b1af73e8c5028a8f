package node_test

import (
	"strings"
	"testing"
	"time"

	"millrace/node"
)

// An unused upstream is reported, unless other nodes may use it.
func TestUnusedUpstreamIsWarnedAbout(t *testing.T) {
	cluster := func(c *node.Config) { c.Mesh.Cluster.Name = "prod" }
	for name, tc := range map[string]struct {
		change func(c *node.Config)
		want   string
	}{
		"used":            {func(*node.Config) {}, ""},
		"used by nothing": {func(c *node.Config) { c.Routes = nil }, "upstreams.api"},
		"a service of the name is used": {func(c *node.Config) {
			c.Routes[0].To.Kind = node.KindService
		}, "upstreams.api"},
		"members may": {func(c *node.Config) {
			c.Routes, c.Mesh.GatherUpstreams = nil, []string{"api"}
		}, ""},
		"members may call all": {func(c *node.Config) {
			c.Routes, c.Mesh.GatherUpstreams = nil, []string{"*"}
		}, ""},
		"served in a cluster":        {func(c *node.Config) { c.Routes = nil; cluster(c) }, ""},
		"served on an existing mesh": {func(c *node.Config) { c.Routes, c.Mesh.URL = nil, "nats://127.0.0.1" }, ""},
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

// If the timeouts of a route and its upstream differ, the longer one is reported if it can't be reached.
func TestUselessTimeoutsAreWarnedAbout(t *testing.T) {
	second := node.Duration(time.Second)
	up := func(c *node.Config, d node.Duration) { change(c, func(u *node.Upstream) { u.Timeout = d }) }
	for name, tc := range map[string]struct {
		change func(c *node.Config)
		want   string
	}{
		"the upstream sets none": {func(c *node.Config) { c.Routes[0].Timeout = 60 * second }, ""},
		"the route sets none":    {func(c *node.Config) { up(c, 10*second) }, ""},
		"the route's is cut": {func(c *node.Config) {
			up(c, 10*second)
			c.Routes[0].Timeout = 60 * second
		}, "routes.0.timeout"},
		"the route's is shorter": {func(c *node.Config) {
			up(c, 10*second)
			c.Routes[0].Timeout = 5 * second
		}, "upstreams.api.timeout"},
		"edge.timeout is shorter": {func(c *node.Config) { up(c, 40*second) }, "upstreams.api.timeout"},
		"another route needs it": {func(c *node.Config) {
			up(c, 10*second)
			another(c)
			c.Routes[0].Timeout = 5 * second
		}, ""},
		"other nodes may need it": {func(c *node.Config) { up(c, 40*second); c.Mesh.URL = "nats://127.0.0.1" }, ""},
		"members may need it": {func(c *node.Config) {
			up(c, 40*second)
			c.Mesh.GatherUpstreams = []string{"api"}
		}, ""},
		"equal": {func(c *node.Config) {
			up(c, 10*second)
			c.Routes[0].Timeout = 10 * second
		}, ""},
		"no time for another try": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Retry.TryTimeout = 30 * second })
		}, "upstreams.api.retry.try_timeout"},
		"no time for a hedge": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Retry.Hedge = 30 * second })
		}, "upstreams.api.retry.hedge"},
		"no time to wait to connect": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.ConnectTimeout = 30 * second })
		}, "upstreams.api.connect_timeout"},
		"the usual time to connect": {func(c *node.Config) { c.Routes[0].Timeout = second }, ""},
		"a call's is cut": {func(c *node.Config) {
			up(c, second)
			gathers(c, 2*second)
		}, "routes.0.gather.calls.one.timeout"},
		"a call's is shorter": {func(c *node.Config) {
			up(c, 2*second)
			gathers(c, second)
		}, "upstreams.api.timeout"},
		"the upstream is other nodes'": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Remote, u.Targets, u.Timeout = true, nil, 40*second })
		}, ""},
		"a service of the same name": {func(c *node.Config) {
			up(c, second)
			another(c)
			c.Routes[1].To.Kind, c.Routes[1].Timeout = node.KindService, 60*second
		}, ""},
	} {
		c := valid(t)
		tc.change(c)
		if problems := c.Validate(); len(problems) > 0 {
			t.Fatalf("%s: %v", name, problems)
		}
		var places []string
		for _, w := range c.Warnings() {
			places = append(places, strings.Join(w.Path, "."))
		}
		if got := strings.Join(places, " "); got != tc.want {
			t.Errorf("%s: warnings about %q, want %q", name, got, tc.want)
		}
	}
}

// another adds a route like the first one.
func another(c *node.Config) {
	r := c.Routes[0]
	r.Path, r.Name = node.Pattern{Segments: []node.Segment{{Literal: "another"}}}, "another"
	c.Routes = append(c.Routes, r)
}

// gathers gives the first route a gather with one call.
func gathers(c *node.Config, timeout node.Duration) {
	r := &c.Routes[0]
	call := node.Call{To: r.To, Method: "GET", Timeout: timeout}
	_ = call.Path.UnmarshalText([]byte("/x"))
	r.Gather = &node.Gather{Mode: node.GatherSettled, Calls: map[string]node.Call{"one": call}}
	r.To = node.Target{}
}
