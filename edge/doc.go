// Package edge takes HTTP requests and sends them onto the mesh. It is the only importer of Fiber, and in it only
// fiber.go: everything past that file works on an Exchange, so that another front can feed the same handler.
//
// A request's way: guard/ reads it off the connection, fiber.go makes an Exchange of it, path.go makes its path
// canonical, router.go finds its route, the policies of chain.go see it in their order, target.go sends it to the mesh;
// problem.go writes every error.
//
// Guarantees:
//
//   - Nothing of a request is kept in memory that Fiber uses again, and no byte of it is read by two parsers.
//   - One canonical path is used for routing and for forwarding.
//   - Routes change while serving (SetRoutes); a request sees the routes of one moment.
//   - No panic of a handler ends the process, and no error text holds a byte of the request.
//   - Connections, requests in flight, heads, bodies, their time and the bytes of all together are bounded: DESIGN.md.
package edge
