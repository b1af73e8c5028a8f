package node_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"millrace/node"
)

func TestDefaultIsValid(t *testing.T) {
	c := node.Default()
	if problems := c.Validate(); problems != nil {
		t.Errorf("got %v", problems)
	}
}

// mistake is a change that makes a valid configuration invalid, and the text of its problem.
type mistake struct {
	change func(c *node.Config)
	want   string
}

// wantProblems makes each mistake at the key under which it is listed, and expects that problem alone.
func wantProblems(t *testing.T, mistakes map[string]mistake) {
	t.Helper()
	for place, m := range mistakes {
		c := valid(t)
		m.change(c)
		problems := c.Validate()
		if len(problems) != 1 || strings.Join(problems[0].Path, ".") != place ||
			!strings.Contains(problems[0].Message, m.want) {
			t.Errorf("%s: got %v, want one with %q", place, problems, m.want)
		}
		if again := c.Validate(); !reflect.DeepEqual(problems, again) {
			t.Errorf("%s: a second run gave %v", place, again)
		}
	}
}

// TestValidate changes one value of a valid configuration and checks the problem, by key.
func TestValidate(t *testing.T) {
	wantProblems(t, map[string]mistake{
		"version":           {func(c *node.Config) { c.Version = 2 }, "version 2 is not supported"},
		"node.name":         {func(c *node.Config) { c.Node.Name = "N" }, "is not a name"},
		"node.data":         {func(c *node.Config) { c.Node.Data = "" }, "data is empty"},
		"edge.expose.1":     {func(c *node.Config) { c.Edge.Expose = []string{"*", "/a"} }, "is not a name"},
		"edge.idle_timeout": {func(c *node.Config) { c.Edge.IdleTimeout = 0 }, "longer than 0s"},
		"edge.stream_idle":  {func(c *node.Config) { c.Edge.StreamIdle = 0 }, "longer than 0s"},
		"edge.max_header":   {func(c *node.Config) { c.Edge.MaxHeader = 1 }, "1B is out of range"},
		"edge.max_requests": {func(c *node.Config) { c.Edge.MaxRequests = -1 }, "-1 is out of range"},
		"admin.listen":      {func(c *node.Config) { c.Admin.Listen = ":80" }, "set admin.token"},
		"mesh.url":          {func(c *node.Config) { c.Mesh.URL = "http://a" }, "nats:// or tls://"},
		"mesh.prefix": {func(c *node.Config) {
			c.Mesh.URL, c.Mesh.Prefix = "nats://a", "..*"
		}, "is not a prefix"},
		"mesh.token":    {func(c *node.Config) { c.Mesh.Token = "hush" }, "has 4 characters"},
		"routes.0.name": {func(c *node.Config) { c.Routes[0].Name = "X" }, "is not a name"},
		"routes.0.max_body": {func(c *node.Config) {
			c.Routes[0].To.Kind, c.Routes[0].MaxBody = node.KindNATS, node.GiB
		}, "1GiB is more than"},
		"routes.0.to": {func(c *node.Config) {
			c.Routes[0].To.Name = "apis"
		}, `did you mean "api"?`},
		"routes.1.to": {func(c *node.Config) {
			c.Routes[1].Path = pattern(t, "/orders/{no}")
		}, "parameter {id} is not in path"},
		"routes.1.forward_headers": {func(c *node.Config) {
			c.Routes[1].ForwardHeaders = []string{"kv-operation"}
		}, "can't be forwarded"},
		"routes.0.match.headers.X Y": {func(c *node.Config) {
			c.Routes[0].Match.Headers = map[string]string{"X Y": ""}
		}, "is not a header field name"},
		"routes.0.match.headers.x": {func(c *node.Config) {
			c.Routes[0].Match.Headers = map[string]string{"x": "", "X": ""}
		}, `"x" is "X" again`},
		"routes.1.path": {func(c *node.Config) {
			c.Routes[0].Path = pattern(t, "/{any}/list")
		}, "neither is more specific"},
		"routes.1.name": {func(c *node.Config) {
			c.Routes[0].Name, c.Routes[1].Name = "api", "api"
		}, `routes[0] has the name "api" too`},
	})
}

func TestValidateUpstreams(t *testing.T) {
	wantProblems(t, map[string]mistake{
		"upstreams.api.remote": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Remote = true })
		}, "leave remote out"},
		"upstreams.api": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Targets = nil })
		}, "has no targets"},
		"upstreams.api.timeout": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Timeout = -1 })
		}, "is negative"},
		"upstreams.api.targets.0": {
			func(c *node.Config) {
				change(c, func(u *node.Upstream) {
					u.Targets[0].Weight = 1001
				})
			}, "weight 1001 is out of range",
		},
		"upstreams.api.targets.1": {
			func(c *node.Config) {
				change(c, func(u *node.Upstream) { u.Targets = append(u.Targets, u.Targets[0]) })
			}, "is listed twice",
		},
		"upstreams.api.health.path": {
			func(c *node.Config) { change(c, func(u *node.Upstream) { u.Health.Path = "/a b" }) }, "percent-encoded",
		},
		"upstreams.api.health.fails": {
			func(c *node.Config) { change(c, func(u *node.Upstream) { u.Health.Fails = 0 }) }, "0 is out of range",
		},
		"upstreams.api.retry.tries": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Retry.Tries = 0 })
		}, "use 1 to 10"},
		"upstreams.api.retry.budget": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Retry.Budget = 101 })
		}, "use 0 to 100"},
		"upstreams.api.retry.try_timeout": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Timeout, u.Retry.TryTimeout = 9, 9 })
		}, "leaves no time for another try"},
		"upstreams.api.retry.on.1": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Retry.On = node.Statuses{503, 503} })
		}, "listed twice"},
		"upstreams.api.eject.on.0": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Eject.On = node.Statuses{429} })
		}, "use 500 to 599"},
		"upstreams.api.eject.failures": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Eject.Failures = -1 })
		}, "0 for never"},
		"upstreams.api.eject.most": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Eject.Most = 101 })
		}, "use 0 to 100"},
		"upstreams.api.eject.slow_start": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Eject.SlowStart = -1 })
		}, "is negative"},
		"upstreams.api.health.panic": {func(c *node.Config) {
			change(c, func(u *node.Upstream) { u.Health.Panic = -1 })
		}, "use 0 to 100"},
	})
}

// TestPeers checks which lists of peers are refused, and at which item.
func TestPeers(t *testing.T) {
	for _, tc := range []struct {
		peers []node.Address
		place string
		want  string
	}{
		{[]node.Address{"10.0.0.1:6222", "10.0.0.2:6222", "[2001:db8::3]:6222", "n4.example:6222"}, "", ""},
		{[]node.Address{"127.0.0.1:6222", "127.0.0.1:6223", "127.0.0.2:6222", "[::1]:6222"}, "", ""},
		{[]node.Address{"10.0.0.1:6222", "10.0.0.1:6222"}, "1", "10.0.0.1:6222 is 10.0.0.1:6222 again"},
		{[]node.Address{"10.0.0.1:6222", "10.0.0.1:06222"}, "1", "again"},
		{[]node.Address{"n1.example:6222", "N1.example:6222"}, "1", "again"},
		{[]node.Address{"[2001:db8::3]:6222", "[2001:DB8:0::3]:6222"}, "1", "again"},
		{[]node.Address{"10.0.0.1:6222", "[::ffff:10.0.0.1]:6222"}, "1", "again"},
		{[]node.Address{"127.0.0.1:6222", "localhost:6222"}, "1", "localhost:6222 is 127.0.0.1:6222 again"},
		{[]node.Address{"localhost:6222", "[::1]:6222"}, "1", "again"},
		{[]node.Address{"10.0.0.1:6222", "0.0.0.0:6222"}, "1", "can be reached"},
		{[]node.Address{"[::]:6222"}, "0", "can be reached"},
		{[]node.Address{":6222"}, "0", "can be reached"},
		{[]node.Address{"10.0.0.1:00"}, "0", "can be reached"},
	} {
		c := node.Default()
		c.Mesh.Token = "0123456789abcdef"
		c.Mesh.Cluster.Name, c.Mesh.Cluster.Peers = "prod", tc.peers
		problems := c.Validate()
		if tc.want == "" && len(problems) == 0 {
			continue
		}
		if len(problems) != 1 || strings.Join(problems[0].Path, ".") != "mesh.cluster.peers."+tc.place ||
			!strings.Contains(problems[0].Message, tc.want) {
			t.Errorf("%s: got %v, want %q at %s", tc.peers, problems, tc.want, tc.place)
		}
	}
}

// TestValidateFindsAll makes every mistake at once.
func TestValidateFindsAll(t *testing.T) {
	c := valid(t)
	c.Version, c.Node.Name, c.Edge.MaxRequests, c.Mesh.Token = 0, "", 0, "hush/hush/hush/hush"
	change(c, func(u *node.Upstream) { u.MaxRequests, u.Targets = 0, nil })
	c.Routes[1] = c.Routes[0]
	var places []string
	for _, p := range c.Validate() {
		places = append(places, strings.Join(p.Path, "."))
	}
	want := []string{
		"version", "node.name", "edge.max_requests", "mesh.token", "upstreams.api",
		"upstreams.api.max_requests", "routes.1.path",
	}
	if !slices.Equal(places, want) {
		t.Errorf("got %q, want %q", places, want)
	}
}

// valid returns a configuration without problems.
func valid(t *testing.T) *node.Config {
	t.Helper()
	c := node.Default()
	u := node.Upstream{
		Targets: []node.UpstreamTarget{{URL: "http://127.0.0.1:3000", Weight: 1}},
		Health:  &node.Health{Path: "/up"},
	}
	u.Defaults()
	u.Health.Defaults()
	c.Upstreams = map[string]node.Upstream{"api": u}
	c.Routes = []node.Route{
		{Path: pattern(t, "/api/*"), To: node.Target{Kind: node.KindUpstream, Name: "api"}},
		{
			Path: pattern(t, "/orders/{id}"),
			To:   node.Target{Kind: node.KindNATS, Subject: subject(t, "orders.get.{id}")},
		},
	}
	for _, problem := range c.Validate() {
		t.Errorf("before the change: %v", problem)
	}
	return &c
}

// change alters the upstream api.
func change(c *node.Config, f func(u *node.Upstream)) {
	u := c.Upstreams["api"]
	f(&u)
	c.Upstreams["api"] = u
}
