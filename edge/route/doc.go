// Package route finds which of many routes serves a request: by host, path, method and header fields, the narrowest
// first. It knows nothing of what a route does, so a table holds values of any type that has a node.Route.
//
// Guarantees:
//
//   - A table never changes, so any number of goroutines search it without a lock.
//   - A search visits each place of the table at most once, however the path is made.
package route
