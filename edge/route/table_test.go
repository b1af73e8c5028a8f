package route_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/edge/route"
	"millrace/mesh"
	"millrace/node"
)

// match finds the route of a request among routes, by name; "" if none.
func match(routes []node.Route, method, host, path string, header node.Header) string {
	return matcher(routes)(method, host, path, header)
}

// matcher is match for many requests.
func matcher(routes []node.Route) func(method, host, path string, header node.Header) string {
	list := make([]*node.Route, len(routes))
	for i := range routes {
		list[i] = &routes[i]
	}
	table := route.New(list, func(r *node.Route) *node.Route { return r })
	return func(method, host, path string, header node.Header) string {
		found, _, miss := table.Find(&route.Request{Method: method, Host: host, Path: path, Header: header})
		if miss != nil {
			return ""
		}
		return found.ID()
	}
}

func TestFind(t *testing.T) {
	routes := []node.Route{
		edgetest.Route("all", "/*"), edgetest.Route("api", "/api/*"), edgetest.Route("users",
			"/api/users/{id}"), edgetest.Route("me", "/api/users/me"),
		edgetest.Route("create", "/api/users/{id}", edgetest.Methods("POST")), edgetest.Route("files",
			"/api/users/{id}/files/*"),
		edgetest.Route("shop", "/api/*", edgetest.Host("shop.example")), edgetest.Route("beta", "/api/*",
			edgetest.Needs("X-Beta", "1")),
		edgetest.Route("exact", "/exact/"),
		edgetest.Route("café", "/café/*"), edgetest.Route("space", "/a b"), edgetest.Route("brackets",
			"/a[1]"), edgetest.Route("percent", "/50%25"),
		edgetest.Route("slash", "/a%2fb"),
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
		path, _, err := node.CanonicalPath(c.path)
		if err != nil {
			t.Fatal(err)
		}
		if got := match(routes, c.method, c.host, path, c.header); got != c.want {
			t.Errorf("%s %s%s takes %q, want %q", c.method, c.host, c.path, got, c.want)
		}
	}
}

// For any valid set of routes in any order, the tree finds a route that matches, and none that matches is narrower.
func TestFindTakesTheNarrowest(t *testing.T) {
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
			r := edgetest.Route(fmt.Sprintf("r%d", len(cfg.Routes)), b.String())
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
	got := match(routes, method, host, path, header)
	var matching []node.Route
	for _, r := range routes {
		if match([]node.Route{r}, method, host, path, header) != "" {
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

func BenchmarkFind(b *testing.B) {
	routes := []node.Route{
		edgetest.Route("all", "/*"), edgetest.Route("users", "/api/users/{id}"),
		edgetest.Route("files", "/api/users/{id}/files/*"),
	}
	for range b.N {
		if match(routes, "GET", "a", "/api/users/7/files/x", nil) != "files" {
			b.Fatal("wrong route")
		}
	}
}
