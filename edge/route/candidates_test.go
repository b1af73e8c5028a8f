package route_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// Many routes of one path are indexed by a header field. As with few, Find takes the narrowest of the routes that match
// when they are alone.
func TestFindTakesTheNarrowestOfIndexedRoutes(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	some := func(values ...string) string { return values[rng.IntN(len(values))] }
	for round := range 60 {
		cfg := node.Default()
		for range 120 {
			r := edgetest.Route(fmt.Sprintf("r%d", len(cfg.Routes)), "/a")
			if rng.IntN(3) == 0 {
				r.Methods = [][]node.Method{{"GET"}, {"POST"}}[rng.IntN(2)]
			}
			if r.Match.Headers = map[string]string{}; rng.IntN(10) > 0 {
				r.Match.Headers[some("X-Tenant", "x-tenant")] = strconv.Itoa(rng.IntN(30))
			}
			if rng.IntN(8) == 0 {
				r.Match.Headers["X-Beta"] = some("1", "2")
			}
			if !slices.ContainsFunc(cfg.Routes, func(o node.Route) bool {
				rel := o.Compare(r)
				return rel == node.Equal || rel == node.Overlap
			}) {
				cfg.Routes = append(cfg.Routes, r)
			}
		}
		if len(cfg.Routes) < 17 {
			t.Fatalf("only %d routes", len(cfg.Routes))
		}
		for range 200 {
			var h mesh.Header
			for range rng.IntN(3) {
				h = append(h, mesh.Field{Name: some("X-Tenant", "X-TENANT"), Value: strconv.Itoa(rng.IntN(32))})
			}
			if rng.IntN(2) == 0 {
				h = append(h, mesh.Field{Name: "x-beta", Value: some("1", "2")})
			}
			checkNarrowest(t, round, cfg.Routes, some("GET", "POST", "PUT"), "h", "/a", h)
		}
	}
}

// BenchmarkFindTenants finds one of ten thousand routes of one path.
func BenchmarkFindTenants(b *testing.B) {
	routes := []node.Route{edgetest.Route("all", "/*")}
	for i := range 9_999 {
		routes = append(routes, edgetest.Route(fmt.Sprintf("t%d", i), "/*", edgetest.Needs("X-Tenant",
			strconv.Itoa(i))))
	}
	match := matcher(routes)
	for _, want := range []string{"t7777", "all"} {
		b.Run(want, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if got := match("GET", "a", "/x", mesh.Header{{Name: "X-Tenant", Value: want[1:]}}); got != want {
					b.Fatal(got)
				}
			}
		})
	}
}
