package route

import "strings"

// minIndexed is the number of candidates from which on they are indexed.
const minIndexed = 16

// candidates are the routes of one host and path pattern, the narrowest first.
type candidates[T any] struct {
	all   []*entry[T]
	index *headerIndex[T] // nil if there are few
}

// headerIndex finds candidates by the value of a header field. It is for a path with many routes, such as one for each
// tenant.
type headerIndex[T any] struct {
	field  string                 // in lower case; the one that most of the routes require
	by     map[string][]*entry[T] // by the value that they require
	others []*entry[T]            // those that don't require it
}

// add appends a route and returns the number of routes.
func (p *candidates[T]) add(r *entry[T]) int {
	r.rank = len(p.all)
	p.all = append(p.all, r)
	return len(p.all)
}

// makeIndex indexes the routes by the field that most of them require, if at least minIndexed do.
func (p *candidates[T]) makeIndex() {
	counts, field := map[string]int{}, ""
	for _, r := range p.all {
		for name := range r.Match.Headers {
			name = strings.ToLower(name)
			if counts[name]++; counts[name] > counts[field] ||
				(counts[name] == counts[field] && name < field) {
				field = name
			}
		}
	}
	if counts[field] < minIndexed {
		return
	}
	p.index = &headerIndex[T]{field: field, by: map[string][]*entry[T]{}}
	for _, r := range p.all {
		if value, ok := r.required(field); ok {
			p.index.by[value] = append(p.index.by[value], r)
		} else {
			p.index.others = append(p.index.others, r)
		}
	}
}

// required returns the value that the route requires of a field, whose name is in lower case.
func (r *entry[T]) required(field string) (string, bool) {
	for name, value := range r.Match.Headers {
		if strings.ToLower(name) == field {
			return value, true
		}
	}
	return "", false
}
