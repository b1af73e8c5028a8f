// Package edge takes HTTP requests and sends them onto the mesh. It puts the rooms below it together: front takes
// requests and writes responses, exchange says what a request, a policy and a route are, cache and ratelimit are
// policies, gather answers with several calls, admin is the operator's API.
//
// A request's way: guard reads it off the connection, front makes an Exchange of it, Accept gives it its canonical
// form, settings.go finds its route, the policies of chain.go see it in their order, target.go sends it to the mesh. A
// hit is answered by the same policies on their short way.
//
// Guarantees:
//
//   - One canonical path is used for routing and for forwarding.
//   - Routes change while serving (SetRoutes); a request sees the routes of one moment.
//   - No panic of a handler ends the process, and no error text holds a byte of the request.
//   - Connections, requests in flight, heads, bodies, their time and the bytes of all together are bounded: DESIGN.md.
package edge
