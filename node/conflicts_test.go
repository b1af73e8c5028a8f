package node_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"millrace/node"
)

// pairwise returns the conflicting pairs of routes, as i-j, by comparing each route to each before it.
func pairwise(routes []node.Route) []string {
	var out []string
	for i, r := range routes {
		for j, s := range routes[:i] {
			if rel := r.Compare(s); rel == node.Equal || rel == node.Overlap {
				out = append(out, fmt.Sprintf("%d-%d %d", i, j, rel))
			}
		}
	}
	return out
}

// reported returns the pairs that Validate reports, with their relation.
func reported(c *node.Config) []string {
	var out []string
	for _, p := range c.Validate() {
		if len(p.Other) == 0 {
			continue
		}
		rel := node.Overlap
		if strings.Contains(p.Message, "matches the same requests") {
			rel = node.Equal
		}
		out = append(out, fmt.Sprintf("%s-%s %d", p.Path[1], p.Other[1], rel))
	}
	return out
}

// FuzzConflicts compares the pairs that Validate reports with those of a pairwise comparison.
func FuzzConflicts(f *testing.F) {
	for seed := range uint64(200) {
		f.Add(seed, uint8(2+seed%30), uint8(seed%5))
	}
	f.Fuzz(func(t *testing.T, seed uint64, n, variety uint8) {
		r := rand.New(rand.NewPCG(seed, uint64(variety)))
		c := node.Default()
		for range n % 64 {
			c.Routes = append(c.Routes, crossingRoute(t, r, int(variety%5)))
		}
		got, want := reported(&c), pairwise(c.Routes)
		if len(want) > 1000 {
			want = want[:1000]
		}
		if !slices.Equal(got, want) {
			for i, route := range c.Routes {
				t.Logf("%d: %s %s %s %v", i, route.Host, route.Path, route.Methods, route.Match.Headers)
			}
			t.Fatalf("reported %q, want %q", got, want)
		}
	})
}

// TestConflictsAsPairwise does the same for many small sets with all kinds of neighbors.
func TestConflictsAsPairwise(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	conflicts := 0
	for round := range 4000 {
		c := node.Default()
		for range 2 + r.IntN(12) {
			c.Routes = append(c.Routes, crossingRoute(t, r, round%5))
		}
		got, want := reported(&c), pairwise(c.Routes)
		if !slices.Equal(got, want) {
			for i, route := range c.Routes {
				t.Logf("%d: %s %s %s %v", i, route.Host, route.Path, route.Methods, route.Match.Headers)
			}
			t.Fatalf("round %d: reported %q, want %q", round, got, want)
		}
		conflicts += len(want)
	}
	if conflicts < 500 {
		t.Errorf("only %d conflicts", conflicts)
	}
}

// crossingRoute returns a route that is likely to overlap others; with more variety less so.
func crossingRoute(t *testing.T, r *rand.Rand, variety int) node.Route {
	t.Helper()
	route := randomRoute(t, r)
	route.Path = pattern(t, randomPattern(r, 2+variety))
	route.To = node.Target{Kind: node.KindService, Name: "s"}
	route.Match.Headers = nil
	for _, name := range []string{"A", "b", "C"} {
		if r.IntN(4) < variety {
			name = []string{name, strings.ToLower(name), strings.ToUpper(name)}[r.IntN(3)]
			if route.Match.Headers == nil {
				route.Match.Headers = map[string]string{}
			}
			route.Match.Headers[name] = []string{"", "1", "2"}[r.IntN(3)]
		}
	}
	return route
}

// At most maxConflicts conflicts are reported.
func TestConflictReportIsBounded(t *testing.T) {
	same := func(int) node.Route { return node.Route{Path: pathOf("/a")} }
	cross := func(i int) node.Route {
		return node.Route{Path: pathOf([]string{fmt.Sprintf("/{a}/x%d", i), fmt.Sprintf("/y%d/{b}", i)}[i%2])}
	}
	for _, shape := range []func(int) node.Route{same, cross} {
		if got := len(reported(manyOf(shape, manyRoutes))); got != 1000 {
			t.Errorf("%d conflicts are reported", got)
		}
	}
}
