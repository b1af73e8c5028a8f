// Package front is how clients reach the edge: it listens, makes an Exchange of each request, gives it to the Core, and
// writes what the Core answers, whatever that is: a message, a stream, a WebSocket, or a response that lies in the
// store. HTTP/1.1 is read by guard and served by Fiber; everything past fiber.go knows a Writer instead, so that
// another protocol can stand beside it.
//
// Guarantees:
//
//   - Nothing of a request is kept in memory that Fiber uses again, and no byte of it is read by two parsers.
//   - A body that breaks off breaks its connection, so that it can't look complete.
//   - What a WebSocket's client and target send each other is passed on frame by frame, and ends with a close frame.
//   - A panic ends the request, never the process.
package front
