package route

import (
	"slices"
	"strings"

	"millrace/node"
	"millrace/node/http1"
)

// Table holds the routes of one configuration. It never changes, so it needs no lock.
type Table[T any] struct {
	hosts map[string]*tree[T] // by host name
	any   *tree[T]            // routes that name no host
}

// tree is a node of a tree of path patterns; each level is a segment.
type tree[T any] struct {
	literals map[string]*tree[T]
	param    *tree[T]
	exact    candidates[T] // routes that end here
	wildcard candidates[T] // routes that end here with /*
}

// New returns a table of the values in list. of returns the node.Route of a value.
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
	var long []*candidates[T]
	for _, r := range routes {
		root := t.any
		if r.Host != "" {
			if t.hosts[string(r.Host)] == nil {
				t.hosts[string(r.Host)] = &tree[T]{}
			}
			root = t.hosts[string(r.Host)]
		}
		if p := root.candidates(r); p.add(r) == minIndexed {
			long = append(long, p)
		}
	}
	for _, p := range long {
		p.makeIndex()
	}
	return t
}

// candidates returns the candidates to which a route belongs.
func (t *tree[T]) candidates(r *entry[T]) *candidates[T] {
	for _, seg := range r.Path.Segments {
		t = t.child(seg)
	}
	if r.Path.Rest {
		return &t.wildcard
	}
	return &t.exact
}

// child returns the child for a segment, and adds it if it is missing.
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

// search is the state of one search.
type search[T any] struct {
	Request // a copy: a pointer would keep each request on the heap

	params  []string
	found   *entry[T]
	near    *entry[T] // the first that matches but for the method
	allowed []string
}

// Find returns the route of a request, with the values of its parameters in the pattern's order. miss is nil if there
// is one. Routes with the request's host take precedence over routes without a host.
func (t *Table[T]) Find(r *Request) (found T, params []string, miss *Miss[T]) {
	s := search[T]{Request: *r}
	if len(t.hosts) > 0 {
		if root := t.hosts[http1.HostName(r.Host)]; root != nil {
			s.walk(root, r.Path)
		}
	}
	if s.found == nil && !s.walk(t.any, r.Path) {
		miss = &Miss[T]{Allowed: s.allowed}
		if s.near != nil {
			miss.Near = s.near.value
		}
		return found, nil, miss
	}
	return s.found.value, s.params, nil
}

// walk searches in t, whose segments have matched. rest is what is left of the path; it begins with / or is empty. The
// narrowest pattern comes first: literal before parameter before /*. Each node is visited at most once.
func (s *search[T]) walk(t *tree[T], rest string) bool {
	if rest == "" {
		return s.choose(&t.exact) || s.choose(&t.wildcard)
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
	return s.choose(&t.wildcard)
}

// choose takes the first candidate that matches the request. With an index these are merged in order of rank:
//
//  1. the candidates that require the value that the request has in the indexed field, and
//  2. those that don't require the field.
func (s *search[T]) choose(p *candidates[T]) bool {
	indexed, others := []*entry[T](nil), p.all
	if p.index != nil {
		others = p.index.others
		if value, one := single(s.Header, p.index.field); one {
			indexed = p.index.by[value]
		}
	}
	for len(indexed) > 0 || len(others) > 0 {
		list := &indexed
		if len(indexed) == 0 || (len(others) > 0 && others[0].rank < indexed[0].rank) {
			list = &others
		}
		if s.try((*list)[0]) {
			return true
		}
		*list = (*list)[1:]
	}
	return false
}

// try takes the route if it matches the request. If it only doesn't match the method, try records its methods.
func (s *search[T]) try(r *entry[T]) bool {
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
		if v, one := single(h, name); !one || v != want {
			return false
		}
	}
	return true
}

// single returns the value of a field that the request has exactly once. A field that it has twice matches nothing,
// because the member might use the other value.
func single(h node.Header, name string) (value string, one bool) {
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
