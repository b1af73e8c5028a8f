package route

import (
	"millrace/node"
)

// Request is what routes are found by.
type Request struct {
	Method string
	Host   string // canonical authority
	Path   string // canonical
	Header node.Header
}

// Match is what a search has found. The zero T means nothing.
type Match[T any] struct {
	Route   T
	Found   bool
	Params  []string // values of the route's parameters, in the pattern's order
	Allowed []string // without a route: the methods with which there would be one
	Near    T        // without a route: the first that matches all but the method
}

// entry is one route of a table.
type entry[T any] struct {
	*node.Route

	value T
	rank  int // among the routes of its place
}
