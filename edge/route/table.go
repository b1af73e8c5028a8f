package route

import (
	"slices"
	"strings"

	"millrace/node"
	"millrace/node/http1"
)

// Table is the routes of one moment. It never changes, so it needs no lock.
type Table[T any] struct {
	hosts map[string]*tree[T] // by host name
	any   *tree[T]            // routes that name no host
}

// tree finds routes by path: one level a segment.
type tree[T any] struct {
	literals map[string]*tree[T]
	param    *tree[T]
	exact    place[T] // routes that end here
	rest     place[T] // routes that end here in /*
}

// New makes a table of routes, whose node.Route of gives.
func New[T any](list []T, of func(T) *node.Route) *Table[T] {
	routes := make([]*entry[T], 0, len(list))
	for _, v := range list {
		routes = append(routes, &entry[T]{Route: of(v), value: v})
	}
	t := &Table[T]{hosts: map[string]*tree[T]{}, any: &tree[T]{}}
	narrow := func(a, b *entry[T]) int { return a.CompareBreadth(b.Route) }
	if !slices.IsSortedFunc(routes, narrow) {
		slices.SortStableFunc(routes, narrow)
	}
	var long []*place[T]
	for _, r := range routes {
		root := t.any
		if r.Host != "" {
			if t.hosts[string(r.Host)] == nil {
				t.hosts[string(r.Host)] = &tree[T]{}
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
func (t *tree[T]) place(r *entry[T]) *place[T] {
	for _, seg := range r.Path.Segments {
		t = t.child(seg)
	}
	if r.Path.Rest {
		return &t.rest
	}
	return &t.exact
}

func (t *tree[T]) child(seg node.Segment) *tree[T] {
	if seg.Param != "" {
		if t.param == nil {
			t.param = &tree[T]{}
		}
		return t.param
	}
	if t.literals == nil {
		t.literals = map[string]*tree[T]{}
	}
	if t.literals[seg.Literal] == nil {
		t.literals[seg.Literal] = &tree[T]{}
	}
	return t.literals[seg.Literal]
}

// search is one search: what it looks for, and what it met on the way.
type search[T any] struct {
	Request

	params  []string
	found   *entry[T]
	near    *entry[T] // the first that matches all but the method
	allowed []string
}

// Find searches the route of a request.
func (t *Table[T]) Find(r Request) (m Match[T]) {
	s := search[T]{Request: r}
	if len(t.hosts) > 0 {
		if root := t.hosts[http1.HostName(r.Host)]; root != nil {
			s.walk(root, r.Path)
		}
	}
	if s.found == nil {
		s.walk(t.any, r.Path)
	}
	if s.found != nil {
		m.Route, m.Found, m.Params = s.found.value, true, s.params
		return m
	}
	m.Allowed = s.allowed
	if s.near != nil {
		m.Near = s.near.value
	}
	return m
}

// walk searches below t, whose segments matched so far; rest is what remains of the path and begins with / or is empty.
// The narrowest place comes first: literal before parameter before /*. Each node is visited at most once.
func (s *search[T]) walk(t *tree[T], rest string) bool {
	if rest == "" {
		return s.choose(&t.exact) || s.choose(&t.rest)
	}
	segment, after := rest[1:], ""
	if i := strings.IndexByte(segment, '/'); i >= 0 {
		segment, after = segment[:i], segment[i:]
	}
	if child := t.literals[segment]; child != nil && s.walk(child, after) {
		return true
	}
	if t.param != nil && segment != "" {
		s.params = append(s.params, segment)
		if s.walk(t.param, after) {
			return true
		}
		s.params = s.params[:len(s.params)-1]
	}
	return s.choose(&t.rest)
}

// choose takes the first route of a place that the request matches.
func (s *search[T]) choose(p *place[T]) bool {
	some, others := []*entry[T](nil), p.all
	if p.index != nil {
		others = p.index.others
		if value, one := only(s.Header, p.index.field); one {
			some = p.index.by[value]
		}
	}
	for len(some) > 0 || len(others) > 0 {
		list := &some
		if len(some) == 0 || (len(others) > 0 && others[0].rank < some[0].rank) {
			list = &others
		}
		if s.takes((*list)[0]) {
			return true
		}
		*list = (*list)[1:]
	}
	return false
}

// takes makes the route the request's if it matches, and otherwise keeps the methods with which it would.
func (s *search[T]) takes(r *entry[T]) bool {
	switch {
	case len(r.Match.Headers) > 0 && !matchesHeaders(r.Route, s.Header):
		return false
	case !r.MatchesMethod(s.Method):
		for _, m := range r.Methods {
			s.allowed = append(s.allowed, string(m))
		}
		if s.near == nil {
			s.near = r
		}
		return false
	}
	s.found = r
	return true
}

func matchesHeaders(r *node.Route, h node.Header) bool {
	for name, want := range r.Match.Headers {
		if v, one := only(h, name); !one || v != want {
			return false
		}
	}
	return true
}

// only gives the value of a field that the request has once: of two values a member might take the other.
func only(h node.Header, name string) (value string, one bool) {
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
