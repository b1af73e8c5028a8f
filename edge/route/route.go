package route

import (
	"millrace/node"
)

// Request holds the parts of a request by which its route is found.
type Request struct {
	Method string
	Host   string // canonical authority
	Path   string // canonical
	Header node.Header
}

// Match is the result of a search.
type Match[T any] struct {
	Route   T        // zero unless Found
	Found   bool     // some route matches
	Params  []string // values of the route's parameters, in the pattern's order
	Allowed []string // unless Found: methods with which a route would match, with duplicates
	Near    T        // unless Found: the first route that matches but for the method; zero if none does
}

// entry is one route of a table.
type entry[T any] struct {
	*node.Route

	value T
	rank  int // index among the candidates
}
