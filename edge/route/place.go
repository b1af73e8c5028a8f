package route

import "strings"

// longPlace is from how many routes on a place is indexed.
const longPlace = 16

// place is the routes of one host and path, from narrow to wide.
type place[T any] struct {
	all   []*entry[T]
	index *placeIndex[T] // nil unless the place is long
}

// placeIndex[T] finds the routes of a long place, such as one with a route for each tenant, by the value of a header
// field.
type placeIndex[T any] struct {
	field  string                 // in lower case; the one that most of the routes demand
	by     map[string][]*entry[T] // by the value that they demand
	others []*entry[T]            // those that don't demand it
}

// add puts a route behind the others and gives their number.
func (p *place[T]) add(r *entry[T]) int {
	r.rank = len(p.all)
	p.all = append(p.all, r)
	return len(p.all)
}

// makeIndex sorts the routes by the field that most of them demand, if that is worth it.
func (p *place[T]) makeIndex() {
	demanded, field := map[string]int{}, ""
	for _, r := range p.all {
		for name := range r.Match.Headers {
			name = strings.ToLower(name)
			if demanded[name]++; demanded[name] > demanded[field] ||
				(demanded[name] == demanded[field] && name < field) {
				field = name
			}
		}
	}
	if demanded[field] < longPlace {
		return
	}
	p.index = &placeIndex[T]{field: field, by: map[string][]*entry[T]{}}
	for _, r := range p.all {
		if value, ok := r.demand(field); ok {
			p.index.by[value] = append(p.index.by[value], r)
		} else {
			p.index.others = append(p.index.others, r)
		}
	}
}

// demand gives the value that the route demands of a field, which is in lower case.
func (r *entry[T]) demand(field string) (string, bool) {
	for name, value := range r.Match.Headers {
		if strings.ToLower(name) == field {
			return value, true
		}
	}
	return "", false
}
