// Package edge takes HTTP requests and sends them onto the mesh. It is the only importer of Fiber, and in it only
// fiber.go: everything past that file works on an Exchange, so that another front can feed the same handler.
//
// A request's way: fiber.go copies it, path.go makes its path canonical, router.go finds its route, the policies of
// chain.go see it in their order, target.go sends it to the mesh; problem.go writes every error.
//
// Guarantees:
//
//   - Nothing of a request is kept in memory that Fiber uses again: all its bytes are copied once, at the door.
//   - One canonical path is used for routing and for forwarding.
//   - Routes change while serving (SetRoutes); a request sees the routes of one moment.
//   - No panic of a handler ends the process, and no error text holds a byte of the request.
//   - Requests in flight, heads and bodies are bounded.
package edge
