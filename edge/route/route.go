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

// Miss says of a request that no route matches what would have made one match.
type Miss[T any] struct {
	Allowed []string // methods with which a route would match, with duplicates
	Near    T        // the first route that matches but for the method; zero if none does
}

// entry is one route of a table.
type entry[T any] struct {
	*node.Route

	value T
	rank  int // index among the candidates
}
