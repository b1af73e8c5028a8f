// Package front is the HTTP listener of the edge. It makes an Exchange of each request, calls the Core, and writes the
// Core's response: a message, a stream, a WebSocket, or a response in the store's memory. guard reads HTTP/1.1 and
// Fiber serves it. Responses that stream are written through a Writer, which depends on neither, so that another
// protocol can be added.
//
// Guarantees:
//
//   - Nothing of a request is kept in memory that Fiber uses again, and no byte of it is read by two parsers.
//   - A body that breaks off resets its connection, so that it can't look complete.
//   - When the node shuts down, a WebSocket gets a close frame between two frames of its target, never within one.
//   - A panic ends the request, never the process.
package front
