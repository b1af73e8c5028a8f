package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"millrace/node"
)

// manyRoutes is as many routes as a file may have.
const manyRoutes = 10_000

// shapes are ways in which people have many routes, none in conflict with another.
var shapes = map[string]func(t testing.TB, i int) node.Route{
	"literals": func(t testing.TB, i int) node.Route { return node.Route{Path: pattern(t, fmt.Sprintf("/route/%d", i))} },
	"parameters": func(t testing.TB, i int) node.Route {
		return node.Route{Path: pattern(t, fmt.Sprintf("/t%d/{id}/x%d", i/100, i%100))}
	},
	"tenants": func(t testing.TB, i int) node.Route {
		return node.Route{Path: pattern(t, fmt.Sprintf("/{tenant}/r%d/{id}", i))}
	},
	"rests": func(t testing.TB, i int) node.Route {
		return node.Route{Path: pattern(t, strings.Repeat("/a", i%20)+fmt.Sprintf("/%d/*", i))}
	},
	"hosts": func(t testing.TB, i int) node.Route {
		return node.Route{Path: pattern(t, "/*"), Host: node.Host(fmt.Sprintf("h%d.example", i))}
	},
	"methods": func(t testing.TB, i int) node.Route {
		return node.Route{Path: pattern(t, fmt.Sprintf("/r/%d", i/4)), Methods: []node.Method{[]node.Method{"GET", "POST", "PUT", "DELETE"}[i%4]}}
	},
	"headers": func(t testing.TB, i int) node.Route { // one path for all, and one route for whoever has no header
		r := node.Route{Path: pattern(t, "/*")}
		if i > 0 {
			r.Match.Headers = map[string]string{"X-Tenant": fmt.Sprint(i)}
		}
		return r
	},
	"two headers": func(t testing.TB, i int) node.Route {
		return node.Route{Path: pattern(t, "/*"), Match: node.Match{Headers: map[string]string{"X-Tenant": fmt.Sprint(i / 100), "X-Region": fmt.Sprint(i % 100)}}}
	},
	"limits": func(t testing.TB, i int) node.Route {
		var l node.Limit
		if err := l.UnmarshalText([]byte("20/s")); err != nil {
			t.Fatal(err)
		}
		return node.Route{Path: pattern(t, fmt.Sprintf("/r/%d", i)), Limit: node.Limits{l, l}}
	},
	"crossing, by methods apart": func(t testing.TB, i int) node.Route {
		if i%2 == 0 {
			return node.Route{Path: pattern(t, fmt.Sprintf("/{a}/x%d", i)), Methods: []node.Method{"GET"}}
		}
		return node.Route{Path: pattern(t, fmt.Sprintf("/y%d/{b}", i)), Methods: []node.Method{"POST"}}
	},
}

func manyOf(t testing.TB, shape func(testing.TB, int) node.Route, n int) *node.Config {
	c := node.Default()
	for i := range n {
		r := shape(t, i)
		r.Defaults()
		r.To = node.Target{Kind: node.KindService, Name: "s"}
		c.Routes = append(c.Routes, r)
	}
	return &c
}

// TestManyRoutes checks as many routes as a file may have. With each compared to each it took a minute.
func TestManyRoutes(t *testing.T) {
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			c := manyOf(t, shape, manyRoutes)
			start := time.Now()
			problems := c.Validate()
			took := time.Since(start)
			if len(problems) > 0 {
				t.Errorf("%d problems, the first: %v", len(problems), problems[0])
			}
			t.Logf("took %s", took)
			if took > 30*time.Second {
				t.Errorf("took %s", took)
			}
		})
	}
}

// BenchmarkValidateMany checks as many routes as a file may have.
func BenchmarkValidateMany(b *testing.B) {
	for name, shape := range shapes {
		b.Run(name, func(b *testing.B) {
			c := manyOf(b, shape, manyRoutes)
			for b.Loop() {
				if problems := c.Validate(); len(problems) > 0 {
					b.Fatal(problems[0])
				}
			}
		})
	}
}
