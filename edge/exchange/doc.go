// Package exchange defines a request (Exchange), a policy (Policy) and a route (Route) for all packages of the edge. It
// imports none of them. A front fills an Exchange and calls the Handler of its Route: each policy calls the next, and
// the handler at the end returns the mesh.Response.
//
// Guarantees:
//
//   - An Exchange belongs to one goroutine at a time, so it has no locks.
//   - Accept gives a request one canonical form (host, path, fields), which routes, keys, limits and targets all use.
//   - A route has one list of policies. The short way of a cache hit is derived from it, and a route with a policy that
//     has no short form never takes the short way.
package exchange
