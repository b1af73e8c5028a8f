package node_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/node"
)

// manyRoutes is the maximal number of routes of a file.
const manyRoutes = 10_000

// shapes are typical ways to have many routes without conflicts.
var shapes = map[string]func(i int) node.Route{
	"literals": func(i int) node.Route { return node.Route{Path: pathOf(fmt.Sprintf("/route/%d", i))} },
	"parameters": func(i int) node.Route {
		return node.Route{Path: pathOf(fmt.Sprintf("/t%d/{id}/x%d", i/100, i%100))}
	},
	"tenants": func(i int) node.Route {
		return node.Route{Path: pathOf(fmt.Sprintf("/{tenant}/r%d/{id}", i))}
	},
	"rests": func(i int) node.Route {
		return node.Route{Path: pathOf(strings.Repeat("/a", i%20) + fmt.Sprintf("/%d/*", i))}
	},
	"hosts": func(i int) node.Route {
		return node.Route{Path: pathOf("/*"), Host: node.Host(fmt.Sprintf("h%d.example", i))}
	},
	"methods": func(i int) node.Route {
		return node.Route{
			Path:    pathOf(fmt.Sprintf("/r/%d", i/4)),
			Methods: []node.Method{[]node.Method{"GET", "POST", "PUT", "DELETE"}[i%4]},
		}
	},
	"headers": func(i int) node.Route { // one path for all, and one route without headers
		r := node.Route{Path: pathOf("/*")}
		if i > 0 {
			r.Match.Headers = map[string]string{"X-Tenant": strconv.Itoa(i)}
		}
		return r
	},
	"two headers": func(i int) node.Route {
		return node.Route{
			Path: pathOf("/*"),
			Match: node.Match{Headers: map[string]string{
				"X-Tenant": strconv.Itoa(i / 100),
				"X-Region": strconv.Itoa(i % 100),
			}},
		}
	},
	"limits": func(i int) node.Route {
		var l node.Limit
		if err := l.UnmarshalText([]byte("20/s")); err != nil {
			panic(err)
		}
		return node.Route{Path: pathOf(fmt.Sprintf("/r/%d", i)), Limit: node.Limits{l, l}}
	},
	"crossing, by methods apart": func(i int) node.Route {
		if i%2 == 0 {
			return node.Route{Path: pathOf(fmt.Sprintf("/{a}/x%d", i)), Methods: []node.Method{"GET"}}
		}
		return node.Route{Path: pathOf(fmt.Sprintf("/y%d/{b}", i)), Methods: []node.Method{"POST"}}
	},
}

func pathOf(path string) node.Pattern {
	p, err := node.ParsePattern(path)
	if err != nil {
		panic(err)
	}
	return p
}

func manyOf(shape func(int) node.Route, n int) *node.Config {
	c := node.Default()
	for i := range n {
		r := shape(i)
		r.Defaults()
		r.To = node.Target{Kind: node.KindService, Name: "s"}
		c.Routes = append(c.Routes, r)
	}
	return &c
}

// TestManyRoutes checks the maximal number of routes. A pairwise comparison took a minute.
func TestManyRoutes(t *testing.T) {
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			c := manyOf(shape, manyRoutes)
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

// BenchmarkValidateMany checks the maximal number of routes.
func BenchmarkValidateMany(b *testing.B) {
	for name, shape := range shapes {
		b.Run(name, func(b *testing.B) {
			c := manyOf(shape, manyRoutes)
			for b.Loop() {
				if problems := c.Validate(); len(problems) > 0 {
					b.Fatal(problems[0])
				}
			}
		})
	}
}
