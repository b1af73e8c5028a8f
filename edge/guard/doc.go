// Package guard reads HTTP/1.1 requests off connections, strictly by RFC 9112, so that nothing behind it meets a byte
// that two readers could understand in two ways.
//
// A Listener gives Conns. The HTTP server that serves a Conn (fasthttp, under Fiber) never sees what the client sent:
// for each request that passes, Read yields a short head of the guard's own, and the server's handler takes the request
// from Conn.Request and its body from Conn.ReadBody. A request that is refused comes the same way, with the reason in
// it, so every refusal is answered, counted and logged in one place. After a refusal, and after a body that wasn't read
// whole, the connection yields no further request.
//
// Guarantees:
//
//   - One reading: request line, field lines, chunks and trailers are read here and nowhere else. Line ends are CRLF,
//     names are tokens, the length is stated once at most.
//   - Bounded memory: per head, per chunk line, per trailer section, and by a Budget for all connections together. A
//     stated length allocates nothing; only bytes that arrived do.
//   - Bounded time: a head and a body must arrive within their time-outs, from their first byte on.
//   - Errors name a rule, never a byte of the request.
//   - Descriptors or memory of the system running out don't end the listener.
package guard
