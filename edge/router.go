package edge

import (
	"slices"
	"strings"
	"sync/atomic"

	"millrace/mesh"
	"millrace/node"
)

// route is a node.Route made ready to serve.
type route struct {
	node.Route
	id         string
	paramNames []string
	handler    Handler
	limited    *limited // nil unless the route has limits
	cached     *cached  // nil unless the route caches
	stats      *routeStats
	events     [6]string       // subject by status class
	silent     [6]atomic.Int64 // until when nobody listens to it, in Unix nanoseconds
	rank       int             // among the routes of its place
}

// table is the routes of one moment. It never changes, so it needs no lock.
type table struct {
	hosts map[string]*tree // by host name
	any   *tree            // routes that name no host
}

// tree finds routes by path: one level a segment.
type tree struct {
	literals map[string]*tree
	param    *tree
	exact    place // routes that end here
	rest     place // routes that end here in /*
}

// newTable puts the routes in their places, the narrow ones first.
func newTable(routes []*route) *table {
	t := &table{hosts: map[string]*tree{}, any: &tree{}}
	narrow := func(a, b *route) int { return a.CompareBreadth(&b.Route) }
	if !slices.IsSortedFunc(routes, narrow) {
		routes = slices.Clone(routes)
		slices.SortStableFunc(routes, narrow)
	}
	var long []*place
	for _, r := range routes {
		root := t.any
		if r.Host != "" {
			if t.hosts[string(r.Host)] == nil {
				t.hosts[string(r.Host)] = &tree{}
			}
			root = t.hosts[string(r.Host)]
		}
		if p := root.place(r); p.add(r) == longPlace {
			long = append(long, p)
		}
	}
	for _, p := range long {
		p.makeIndex()
	}
	return t
}

// place gives the place of a route.
func (t *tree) place(r *route) *place {
	for _, seg := range r.Path.Segments {
		t = t.child(seg)
	}
	if r.Path.Rest {
		return &t.rest
	}
	return &t.exact
}

func (t *tree) child(seg node.Segment) *tree {
	if seg.Param != "" {
		if t.param == nil {
			t.param = &tree{}
		}
		return t.param
	}
	if t.literals == nil {
		t.literals = map[string]*tree{}
	}
	if t.literals[seg.Literal] == nil {
		t.literals[seg.Literal] = &tree{}
	}
	return t.literals[seg.Literal]
}

// lookup is one search: what it looks for, and what it met on the way.
type lookup struct {
	x       *Exchange
	params  []string
	allowed []string // methods of routes that match all but the method
}

// find sets the exchange's route and parameters. Without a route it tells the methods that the path would allow.
func (t *table) find(x *Exchange) (found bool, allowed []string) {
	l := lookup{x: x}
	if len(t.hosts) > 0 {
		host := hostName(x.Host)
		if root := t.hosts[host]; root != nil && l.walk(root, x.Path) {
			return true, nil
		}
	}
	return l.walk(t.any, x.Path), l.allowed
}

// walk searches below t, whose segments matched so far; rest is what remains of the path and begins with / or is empty.
// The narrowest place comes first: literal before parameter before /*. Each node is visited at most once.
func (l *lookup) walk(t *tree, rest string) bool {
	if rest == "" {
		return l.choose(&t.exact) || l.choose(&t.rest)
	}
	segment, after := rest[1:], ""
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		segment, after = segment[:i], segment[i:]
	}
	if child := t.literals[segment]; child != nil && l.walk(child, after) {
		return true
	}
	if t.param != nil && segment != "" {
		l.params = append(l.params, segment)
		if l.walk(t.param, after) {
			return true
		}
		l.params = l.params[:len(l.params)-1]
	}
	return l.choose(&t.rest)
}

// choose takes the first route of a place that the request matches.
func (l *lookup) choose(p *place) bool {
	some, others := []*route(nil), p.all
	if p.index != nil {
		others = p.index.others
		if value, one := only(l.x.Header, p.index.field); one {
			some = p.index.by[value]
		}
	}
	for len(some) > 0 || len(others) > 0 {
		list := &some
		if len(some) == 0 || (len(others) > 0 && others[0].rank < some[0].rank) {
			list = &others
		}
		if l.takes((*list)[0]) {
			return true
		}
		*list = (*list)[1:]
	}
	return false
}

// takes makes the route the request's if it matches, and otherwise keeps the methods with which it would.
func (l *lookup) takes(r *route) bool {
	switch {
	case len(r.Match.Headers) > 0 && !matchesHeaders(r, l.x):
		return false
	case !r.MatchesMethod(l.x.Method):
		for _, m := range r.Methods {
			l.allowed = append(l.allowed, string(m))
		}
		if l.x.refusedBy == nil {
			l.x.refusedBy = r
		}
		return false
	}
	l.x.route, l.x.params, l.x.refusedBy = r, l.params, nil
	return true
}

func matchesHeaders(r *route, x *Exchange) bool {
	for name, want := range r.Match.Headers {
		if v, one := only(x.Header, name); !one || v != want {
			return false
		}
	}
	return true
}

// only gives the value of a field that the request has once: of two values a member might take the other.
func only(h mesh.Header, name string) (value string, one bool) {
	for i := range h {
		if !node.SameName(h[i].Name, name) {
			continue
		}
		if one {
			return "", false
		}
		value, one = h[i].Value, true
	}
	return value, one
}
