package node_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"millrace/node"
)

// TestNamesNeverCollide has routes whose derived names would be the same.
func TestNamesNeverCollide(t *testing.T) {
	long := strings.Repeat("long", 20)
	with := func(path string, change func(r *node.Route)) node.Route {
		r := node.Route{Path: pattern(t, path)}
		change(&r)
		return r
	}
	as := func(s string) node.Route { return node.Route{Path: pattern(t, s)} }
	named := func(name, path string) node.Route { return node.Route{Name: name, Path: pattern(t, path)} }
	host := func(h node.Host) node.Route { return node.Route{Host: h, Path: pattern(t, "/")} }
	header := func(name, value string) node.Route {
		return with("/a", func(r *node.Route) { r.Match.Headers = map[string]string{name: value} })
	}
	for what, tc := range map[string]struct {
		routes []node.Route
		want   []string // ~ for a hash
	}{
		"usual": {
			[]node.Route{as("/"), as("/api/*"), as("/users/{id}"), host("api.example.com")},
			[]string{"root", "api-all", "users-id", "api_example_com"},
		},
		"slash at the end":   {[]node.Route{as("/a"), as("/a/")}, []string{"a", "a-~"}},
		"two slashes":        {[]node.Route{as("/a//b"), as("/a/b")}, []string{"a-b-~", "a-b"}},
		"dot and underscore": {[]node.Route{as("/a.b"), as("/a_b")}, []string{"a_b-~", "a_b"}},
		"only dot":           {[]node.Route{as("/robots.txt")}, []string{"robots_txt"}},
		"dash and slash":     {[]node.Route{as("/a/b"), as("/a-b")}, []string{"a-b-~", "a-b"}},
		"upper case":         {[]node.Route{as("/A"), as("/a")}, []string{"a-~", "a"}},
		"parameter":          {[]node.Route{as("/{a}"), as("/a")}, []string{"a-~", "a"}},
		"all":                {[]node.Route{as("/all"), as("/*")}, []string{"all-~", "all"}},
		"root":               {[]node.Route{as("/root"), as("/")}, []string{"root-~", "root"}},
		"method": {[]node.Route{as("/get/a"), with("/a", func(r *node.Route) {
			r.Methods = []node.Method{"GET"}
		})}, []string{"get-a-~", "get-a"}},
		"host": {[]node.Route{host("a.b"), host("a_b"), as("/a_b")}, []string{"a_b-~", "a_b-~", "a_b"}},
		"headers": {
			[]node.Route{header("X", "1 2"), header("X", "1-2"), header("X", "1+2")},
			[]string{"a-x_1_2", "a-x_1-2", "a-x_1_2-~"},
		},
		"given": {[]node.Route{as("/a"), named("a", "/b")}, []string{"a-~", "a"}},
		"ours": {
			[]node.Route{as("/exposed"), as("/purge"), as("/unmatched")},
			[]string{"exposed-~", "purge-~", "unmatched-~"},
		},
		"too long": {
			[]node.Route{as("/" + long), as("/" + long + "/b")},
			[]string{long[:58] + "-~", long[:58] + "-~"},
		},
	} {
		got := namesOf(node.NameRoutes(tc.routes, nil))
		if len(slices.Compact(slices.Sorted(slices.Values(got)))) != len(got) {
			t.Errorf("%s: %q has a name twice", what, got)
		}
		for i, want := range tc.want {
			before, hashed := strings.CutSuffix(want, "~")
			if (hashed && (!strings.HasPrefix(got[i], before) || len(got[i]) != len(before)+5)) ||
				(!hashed && got[i] != want) {
				t.Errorf("%s: %s has the name %q, want %q", what, tc.routes[i].Path, got[i], want)
			}
		}
		valid := node.Default()
		valid.Routes = tc.routes
		for i := range valid.Routes {
			valid.Routes[i].To = node.Target{Kind: node.KindService, Name: "s"}
		}
		for _, p := range valid.Validate() {
			t.Errorf("%s: %v", what, p)
		}
	}
}

func namesOf(routes []node.Route) []string {
	var names []string
	for _, r := range routes {
		names = append(names, r.ID())
	}
	return names
}

// TestNamesOfAnyRoutes names random routes. Each gets a unique valid name, configured names stay, the order doesn't
// matter, and naming them again changes nothing.
func TestNamesOfAnyRoutes(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	for round := range 400 {
		var routes []node.Route
		for range 40 {
			route := crossingRoute(t, r, round%5)
			if !slices.ContainsFunc(routes, func(o node.Route) bool { return o.Compare(route) == node.Equal }) {
				routes = append(routes, route)
			}
		}
		if round%2 == 0 {
			routes[0].Name, routes[1].Name = "a", "a-all"
		}
		byMatch := func(named []node.Route) map[string]string {
			out := map[string]string{}
			for _, n := range named {
				if err := node.CheckName(n.Name); err != nil {
					t.Fatal(err)
				}
				out[fmt.Sprint(n.Host, n.Path, n.Methods, n.Match)] = n.Name
			}
			return out
		}
		named := node.NameRoutes(routes, nil)
		want := byMatch(named)
		if unique := slices.Compact(slices.Sorted(maps.Values(want))); len(unique) != len(routes) {
			t.Fatalf("%d names for %d routes: %q", len(unique), len(routes), unique)
		}
		if round%2 == 0 && (named[0].Name != "a" || named[1].Name != "a-all") {
			t.Fatalf("given names became %q", namesOf(named[:2]))
		}
		if got := byMatch(node.NameRoutes(named, nil)); !maps.Equal(got, want) {
			t.Fatalf("again: %v, want %v", got, want)
		}
		r.Shuffle(len(routes), func(i, j int) { routes[i], routes[j] = routes[j], routes[i] })
		if got := byMatch(node.NameRoutes(routes, nil)); !maps.Equal(got, want) {
			t.Fatalf("in another order: %v, want %v", got, want)
		}
	}
}

// TestLimitNamesNeverCollide names limits without configured names. Configured names, those under limits, and those of
// other routes have priority.
func TestLimitNamesNeverCollide(t *testing.T) {
	c := withTenant(t)
	c.Routes[0].Name, c.Routes[0].Limit = "tenant", namedLimits(t, []string{"", "", "=tenant"})
	c.Routes[1].Name, c.Routes[1].Limit = "tenant-2", namedLimits(t, []string{"", "mine"})
	for _, p := range c.Validate() {
		t.Errorf("%v", p)
	}
	named := c.Named()
	got := []string{
		named[0].LimitID(0), named[0].LimitID(1), named[0].LimitID(2), named[1].LimitID(0),
		named[1].LimitID(1),
	}
	want := []string{"tenant-~", "tenant-2-~", "tenant", "tenant-2", "mine"}
	for i := range want {
		before, hashed := strings.CutSuffix(want[i], "~")
		if !strings.HasPrefix(got[i], before) || (len(got[i]) > len(before)) != hashed || !node.ValidName(got[i]) {
			t.Errorf("the limits have the names %q, want %q", got, want)
		}
	}
	if c.Routes[0].Limit[0].Name != "" || c.Routes[1].Limit[0].Name != "" {
		t.Error("the configuration itself was changed")
	}
}

// If a hash is taken, a longer one is used.
func TestTakenHashGetsLonger(t *testing.T) {
	routes := []node.Route{{Path: pattern(t, "/a")}, {Path: pattern(t, "/a/")}, {Path: pattern(t, "/b")}}
	before := node.NameRoutes(routes, nil)[1].Name
	routes[2].Name = before
	if got := node.NameRoutes(routes, nil)[1].Name; len(got) != len(before)+1 || !strings.HasPrefix(got, before) {
		t.Errorf("%q became %q", before, got)
	}
	same := node.NameRoutes([]node.Route{routes[0], routes[0], routes[0]}, nil)
	if names := slices.Compact(slices.Sorted(slices.Values(namesOf(same)))); len(names) != 3 {
		t.Errorf("the same route three times has the names %q", names)
	}
}
