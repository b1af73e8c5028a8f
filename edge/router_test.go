package edge_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"millrace/edge"
	"millrace/mesh"
	"millrace/node"
)

func route(name, path string, change ...func(*node.Route)) node.Route {
	p, err := node.ParsePattern(path)
	if err != nil {
		panic(err)
	}
	r := node.Route{Name: name, Path: p, To: node.Target{Kind: node.KindService, Name: "s"}}
	for _, f := range change {
		f(&r)
	}
	return r
}

func methods(ms ...node.Method) func(*node.Route) { return func(r *node.Route) { r.Methods = ms } }
func host(h node.Host) func(*node.Route)          { return func(r *node.Route) { r.Host = h } }
func needs(name, value string) func(*node.Route) {
	return func(r *node.Route) { r.Match.Headers = map[string]string{name: value} }
}

func TestMatch(t *testing.T) {
	routes := []node.Route{
		route("all", "/*"), route("api", "/api/*"), route("users", "/api/users/{id}"), route("me", "/api/users/me"),
		route("create", "/api/users/{id}", methods("POST")), route("files", "/api/users/{id}/files/*"),
		route("shop", "/api/*", host("shop.example")), route("beta", "/api/*", needs("X-Beta", "1")),
		route("exact", "/exact/"),
		route("café", "/café/*"), route("space", "/a b"), route("brackets", "/a[1]"), route("percent", "/50%25"),
		route("slash", "/a%2fb"),
	}
	for _, c := range []struct {
		method, host, path string
		header             mesh.Header
		want               string
	}{
		{"GET", "a", "/", nil, "all"},
		{"GET", "a", "/x/y", nil, "all"},
		{"GET", "a", "/api", nil, "api"},
		{"GET", "a", "/api/", nil, "api"},
		{"GET", "a", "/apis", nil, "all"},
		{"GET", "a", "/api/users", nil, "api"},
		{"GET", "a", "/api/users/7", nil, "users"},
		{"POST", "a", "/api/users/7", nil, "create"},
		{"GET", "a", "/api/users/me", nil, "me"},
		{"POST", "a", "/api/users/me", nil, "me"},
		{"GET", "a", "/api/users/", nil, "api"},
		{"GET", "a", "/api/users/7/files", nil, "files"},
		{"GET", "a", "/api/users/7/files/a/b", nil, "files"},
		{"GET", "a", "/api/users/7/other", nil, "api"},
		{"GET", "shop.example", "/api/users/7", nil, "shop"},
		{"GET", "SHOP.example:8080", "/api/users/7", nil, "shop"},
		{"GET", "shop.example", "/other", nil, "all"},
		{"GET", "a", "/api/x", mesh.Header{{Name: "x-beta", Value: "1"}}, "beta"},
		{"GET", "a", "/api/x", mesh.Header{{Name: "X-Beta", Value: "2"}}, "api"},
		{"GET", "a", "/exact/", nil, "exact"},
		{"GET", "a", "/exact", nil, "all"},
		{"GET", "a", "//api/x", nil, "all"},
		{"GET", "a", "/caf%c3%a9/x", nil, "café"},
		{"GET", "a", "/caf%C3%A9", nil, "café"},
		{"GET", "a", "/a%20b", nil, "space"},
		{"GET", "a", "/a[1]", nil, "brackets"},
		{"GET", "a", "/a%5B1%5D", nil, "brackets"},
		{"GET", "a", "/%61%5b1%5d", nil, "brackets"},
		{"GET", "a", "/50%25", nil, "percent"},
		{"GET", "a", "/a%2fb", nil, "slash"},
	} {
		path, _, err := edge.CanonicalPath(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := edge.Match(routes, c.method, c.host, path, c.header); got != c.want {
			t.Errorf("%s %s%s takes %q, want %q", c.method, c.host, c.path, got, c.want)
		}
	}
}

// For any valid set of routes in any order, the tree finds a route that matches, and none that matches is narrower.
func TestMatchFindsTheNarrowest(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "{x}", "{y}", ""}
	for round := range 300 {
		cfg := node.Default()
		for len(cfg.Routes) < 8 {
			var b strings.Builder
			for i := range rng.IntN(4) + 1 {
				w := words[rng.IntN(len(words))]
				if w != "" && w[0] == '{' {
					w = fmt.Sprintf("{p%d}", i)
				}
				b.WriteString("/" + w)
			}
			if rng.IntN(3) == 0 {
				b.WriteString("/*")
			}
			r := route(fmt.Sprintf("r%d", len(cfg.Routes)), b.String())
			if rng.IntN(3) == 0 {
				r.Methods = [][]node.Method{{"GET"}, {"POST"}, {"GET", "POST"}}[rng.IntN(3)]
			}
			if rng.IntN(4) == 0 {
				r.Host = "h"
			}
			if candidate := append(slices.Clone(cfg.Routes),
				r); len((&node.Config{
				Version: 1, Node: cfg.Node, Edge: cfg.Edge, Admin: cfg.Admin, Mesh: cfg.Mesh,
				Routes: candidate,
			}).Validate()) == 0 {
				cfg.Routes = candidate
			} else if rng.IntN(20) == 0 {
				break
			}
		}
		for range 200 {
			var b strings.Builder
			for range rng.IntN(5) + 1 {
				b.WriteString("/" + []string{"a", "b", "c", ""}[rng.IntN(4)])
			}
			checkNarrowest(t, round, cfg.Routes, []string{"GET", "POST", "HEAD", "PUT"}[rng.IntN(4)],
				[]string{"h", "i"}[rng.IntN(2)], b.String(), nil)
		}
	}
}

func checkNarrowest(t *testing.T, round int, routes []node.Route, method, host, path string, header mesh.Header) {
	t.Helper()
	got := edge.Match(routes, method, host, path, header)
	var matching []node.Route
	for _, r := range routes {
		if edge.Match([]node.Route{r}, method, host, path, header) != "" {
			matching = append(matching, r)
		}
	}
	if len(matching) == 0 {
		if got != "" {
			t.Fatalf("round %d: %s %s%s took %s, which alone doesn't match", round, method, host, path, got)
		}
		return
	}
	for _, best := range matching {
		if !slices.ContainsFunc(matching, func(o node.Route) bool {
			return o.Compare(best) == node.Narrower
		}) && best.Name == got {
			return
		}
	}
	t.Fatalf("round %d: %s %s%s took %q of %v", round, method, host, path, got, matching)
}

func BenchmarkMatch(b *testing.B) {
	routes := []node.Route{
		route("all", "/*"), route("users", "/api/users/{id}"),
		route("files", "/api/users/{id}/files/*"),
	}
	for range b.N {
		if edge.Match(routes, "GET", "a", "/api/users/7/files/x", nil) != "files" {
			b.Fatal("wrong route")
		}
	}
}
