// Package route finds the route that serves a request by host, path, method and header fields. Of several routes that
// match, the narrowest is taken. A table holds values of any type that has a node.Route.
//
// Guarantees:
//
//   - A table never changes, so any number of goroutines search it without a lock.
//   - A search visits each node of the table's trees at most once, whatever the path is.
package route
