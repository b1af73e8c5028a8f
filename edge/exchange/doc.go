// Package exchange says what a request, a policy and a route are to the edge: the core that every room of edge knows,
// and that knows none of them. A front fills an Exchange; the policies of its Route pass it on, one to the next, and
// the last one answers with a mesh.Response.
//
// Guarantees:
//
//   - An Exchange belongs to one goroutine at a time, so nothing of it is locked.
//   - Accept gives a request one canonical form (host, path, fields), which routes, keys, limits and targets all use.
//   - The list of a route's policies is the only one: the short way of a hit is made from it, and a route with a policy
//     that has no short form never takes the short way.
package exchange
