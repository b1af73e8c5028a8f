package node_test

import (
	"testing"

	"millrace/node"
)

func template(t *testing.T, text string) (tpl node.Template) {
	t.Helper()
	if err := tpl.UnmarshalText([]byte(text)); err != nil {
		t.Fatal(err)
	}
	return tpl
}

// withGather returns a valid configuration whose first route has a gather.
func withGather(t *testing.T) *node.Config {
	t.Helper()
	c := valid(t)
	call := func(path string, after ...string) node.Call {
		return node.Call{
			To: node.Target{Kind: node.KindUpstream, Name: "api"}, Path: template(t, path), Method: "GET",
			After: after,
		}
	}
	c.Routes[0] = node.Route{
		Path: pattern(t, "/all/{id}"),
		Gather: &node.Gather{Mode: node.GatherSettled, Calls: map[string]node.Call{
			"user": call("/users/{id}"), "orders": call("/orders?of={user.id}", "user"),
			"last": call("/{orders.0}", "orders", "user"),
		}},
	}
	for _, p := range c.Validate() {
		t.Errorf("before the change: %v", p)
	}
	return c
}

func TestGatherChecks(t *testing.T) {
	const calls = "routes.0.gather.calls."
	for name, tc := range map[string]struct {
		place  string
		change func(g *node.Gather, c *node.Call) // c is the call orders
		want   string
	}{
		"no calls": {"routes.0.gather.calls", func(g *node.Gather, _ *node.Call) {
			g.Calls = nil
		}, "use 1 to 256"},
		"concurrency": {"routes.0.gather.concurrency", func(g *node.Gather, _ *node.Call) {
			g.Concurrency = -1
		}, "0 for all at once"},
		"quorum": {"routes.0.gather.quorum", func(g *node.Gather, _ *node.Call) {
			g.Mode, g.Quorum = node.GatherQuorum, 4
		}, "4 of 3 calls can't be"},
		"quorum elsewhere": {"routes.0.gather.quorum", func(g *node.Gather, _ *node.Call) {
			g.Quorum = 1
		}, "is for mode quorum"},
		"name": {calls + "X", func(g *node.Gather, c *node.Call) {
			c.After, c.Path = nil, template(t, "/")
			g.Calls["X"] = *c
		}, "is not a name"},
		"nats path": {calls + "orders.path", func(_ *node.Gather, c *node.Call) {
			c.To.Kind = node.KindNATS
		}, "leave path out"},
		"nats method": {calls + "orders.method", func(_ *node.Gather, c *node.Call) {
			c.To.Kind, c.Method, c.Path = node.KindNATS, "PUT", node.Template{}
		}, "leave method out"},
		"no path": {calls + "orders.path", func(_ *node.Gather, c *node.Call) {
			c.Path = node.Template{}
		}, "has no path"},
		"body of a GET": {calls + "orders.body", func(_ *node.Gather, c *node.Call) {
			c.Body = body(t, `1`)
		}, "set method"},
		"body of nobody": {calls + "orders.body", func(_ *node.Gather, c *node.Call) {
			c.Method, c.Body = "PUT", body(t, `["{last.id}"]`)
		}, "name it in after"},
		"not in fallback": {calls + "orders.path", func(g *node.Gather, _ *node.Call) {
			user := g.Calls["user"]
			user.Fallback = `{"name":"nobody"}`
			g.Calls["user"] = user
		}, "is not in the fallback"},
		"list in fallback": {calls + "orders.path", func(g *node.Gather, _ *node.Call) {
			user := g.Calls["user"]
			user.Fallback = `{"id":[]}`
			g.Calls["user"] = user
		}, "neither text nor number"},
		"upstream": {calls + "orders.to", func(_ *node.Gather, c *node.Call) {
			c.To.Name = "apis"
		}, `did you mean "api"?`},
		"unknown after": {calls + "orders.after.1", func(_ *node.Gather, c *node.Call) {
			c.After = []string{"user", "lats"}
		}, `did you mean "last"?`},
		"cycle": {calls + "last.after", func(_ *node.Gather, c *node.Call) {
			c.After = []string{"user", "last"}
		}, "waits for itself"},
		"itself": {calls + "orders.after", func(_ *node.Gather, c *node.Call) {
			c.After = []string{"user", "orders"}
		}, "waits for itself"},
		"parameter": {calls + "orders.path", func(_ *node.Gather, c *node.Call) {
			c.Path = template(t, "/{ids}")
		}, `did you mean "id"?`},
		"result not after": {calls + "orders.path", func(_ *node.Gather, c *node.Call) {
			c.Path = template(t, "/{last.id}")
		}, "name it in after"},
		"after twice": {calls + "orders.after.1", func(_ *node.Gather, c *node.Call) {
			c.After = []string{"user", "user"}
		}, "named twice"},
		"cache of a POST": {calls + "orders.cache", func(_ *node.Gather, c *node.Call) {
			c.Method, c.Cache = "POST", &node.Cache{}
			c.Cache.Defaults()
			c.Cache.On = true
		}, "aren't cached"},
		"timeout": {calls + "orders.timeout", func(_ *node.Gather, c *node.Call) { c.Timeout = -1 }, "is negative"},
	} {
		t.Run(name, func(t *testing.T) {
			c := withGather(t)
			g := c.Routes[0].Gather
			call := g.Calls["orders"]
			tc.change(g, &call)
			if g.Calls != nil {
				g.Calls["orders"] = call
			}
			wantProblem(t, c, tc.place, tc.want)
		})
	}
}

// A gather is checked like other targets, and in a race no call waits for another.
func TestGatherChecksOfTheWhole(t *testing.T) {
	c := withGather(t)
	c.Routes[0].To = node.Target{Kind: node.KindService, Name: "a"}
	wantProblem(t, c, "routes.0.to", "keep one of")
	c = withGather(t)
	for name, call := range c.Routes[0].Gather.Calls {
		if call.After = nil; name != "user" {
			call.Path, call.After = template(t, "/"), []string{"user"}
		}
		c.Routes[0].Gather.Calls[name] = call
	}
	c.Routes[0].Gather.Mode = node.GatherRace
	found := 0
	for _, p := range c.Validate() {
		if p.Path[len(p.Path)-1] == "after" {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d of 2 calls that wait in a race are reported", found)
	}
}
