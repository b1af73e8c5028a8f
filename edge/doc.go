// Package edge receives HTTP requests and sends them to the mesh. It puts the packages below it together: a Server has
// one front, and makes the routes and their policies.
//
// The way of a request:
//
//  1. guard reads it from the connection.
//  2. front makes an Exchange of it. Only its file fiber.go uses Fiber.
//  3. exchange gives it a canonical form.
//  4. route finds its route (settings.go).
//  5. The policies of chain.go handle it in their order, among them ratelimit and cache.
//  6. target.go sends it to the mesh, or gather makes several calls.
//  7. exchange makes a response of an error (problem.go).
//
// Package admin serves the operator.
//
// Guarantees:
//
//   - One canonical path is used for routing and for forwarding.
//   - Routes may change while requests run (SetRoutes). A request uses one set of routes from its beginning to its end.
//   - No panic of a handler ends the process, and no error text holds a byte of the request.
//   - Connections, requests in flight, heads, bodies, their time and the bytes of all together are bounded: DESIGN.md.
package edge
