package node_test

import (
	"strings"
	"testing"

	"millrace/node"
)

// TestConflictingListenersAreReported checks which listeners conflict.
func TestConflictingListenersAreReported(t *testing.T) {
	for _, tc := range []struct {
		edge, admin node.Address
		meet        bool
	}{
		{"127.0.0.1:8080", "127.0.0.1:8080", true},
		{"127.0.0.1:8080", "127.0.0.1:08080", true},
		{":8080", "127.0.0.1:8080", true},
		{"0.0.0.0:8080", "127.0.0.1:8080", true},
		{"[::]:8080", "127.0.0.1:8080", true},
		{"[::]:8080", "[::1]:8080", true},
		{":8080", ":8080", true},
		{"0.0.0.0:8080", "[::]:8080", true},
		{"localhost:8080", "127.0.0.1:8080", true},
		{"[::ffff:127.0.0.1]:8080", "127.0.0.1:8080", true},
		{":8080", "localhost:8080", true},
		{"127.0.0.1:8080", "127.0.0.1:8081", false},
		{"127.0.0.2:8080", "127.0.0.1:8080", false},
		{"0.0.0.0:8080", "[::1]:8080", false},
		{"127.0.0.1:8080", "[::1]:8080", false},
		{"127.0.0.1:0", "127.0.0.1:0", false},
		{":0", ":0", false},
	} {
		for _, swapped := range []bool{false, true} {
			c := node.Default()
			c.Admin.Token = "0123456789abcdef"
			if c.Edge.Listen, c.Admin.Listen = tc.edge, tc.admin; swapped {
				c.Edge.Listen, c.Admin.Listen = tc.admin, tc.edge
			}
			problems := c.Validate()
			if tc.meet != (len(problems) == 1) ||
				(tc.meet && strings.Join(problems[0].Path, ".")+"<"+strings.Join(problems[0].Other,
					".") != "admin.listen<edge.listen") {
				t.Errorf("%s and %s: got %v", c.Edge.Listen, c.Admin.Listen, problems)
			}
		}
	}
	c := node.Default()
	c.Mesh.Listen = c.Admin.Listen
	wantProblem(t, &c, "mesh.listen", "127.0.0.1:8081 is taken by admin.listen (127.0.0.1:8081)")
	c = node.Default()
	c.Mesh.URL, c.Mesh.Listen = "nats://10.0.0.1", c.Admin.Listen
	if problems := c.Validate(); len(problems) > 0 {
		t.Errorf("without an embedded server: %v", problems)
	}
	c = node.Default()
	c.Mesh.Token, c.Mesh.Cluster.Name, c.Mesh.Cluster.Peers, c.Mesh.Cluster.Listen = "0123456789abcdef", "prod",
		[]node.Address{"127.0.0.1:4222"}, "127.0.0.1:4222"
	wantProblem(t, &c, "mesh.cluster.listen", "is taken by mesh.listen")
}

// TestTargetThatIsTheEdgeIsReported checks which targets would send requests back to the edge.
func TestTargetThatIsTheEdgeIsReported(t *testing.T) {
	for _, tc := range []struct {
		edge   node.Address
		target node.BaseURL
		itself bool
	}{
		{"127.0.0.1:8080", "http://127.0.0.1:8080", true},
		{"127.0.0.1:8080", "http://localhost:8080", true},
		{"127.0.0.1:8080", "http://LOCALHOST:8080", true},
		{"127.0.0.1:8080", "http://0.0.0.0:8080", true},
		{"127.0.0.1:8080", "https://127.0.0.1:8080", true},
		{"localhost:8080", "http://[::1]:8080", true},
		{":8080", "http://127.9.9.9:8080", true},
		{":8080", "http://[::1]:8080", true},
		{":8080", "http://[::]:8080", true},
		{"0.0.0.0:80", "http://127.0.0.1", true},
		{"10.0.0.5:8080", "http://10.0.0.5:8080", true},
		{"web.example:8080", "http://web.example:8080", true},
		{"127.0.0.1:8080", "http://127.0.0.1:3000", false},
		{"127.0.0.1:8080", "http://127.0.0.2:8080", false},
		{"10.0.0.5:8080", "http://127.0.0.1:8080", false},
		{":8080", "http://10.0.0.7:8080", false},
		{":8080", "http://other.example:8080", false},
		{"0.0.0.0:8080", "http://[::1]:8080", false},
		{"127.0.0.1:0", "http://127.0.0.1:3000", false},
		{"127.0.0.1:80", "https://127.0.0.1", false},
	} {
		c := valid(t)
		c.Edge.Listen = tc.edge
		change(c, func(u *node.Upstream) { u.Targets[0].URL = tc.target })
		if !tc.itself {
			if problems := c.Validate(); len(problems) > 0 {
				t.Errorf("edge %s, target %s: %v", tc.edge, tc.target, problems)
			}
			continue
		}
		wantProblem(t, c, "upstreams.api.targets.0", "is this node's own edge")
	}
}
