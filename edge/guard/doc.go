// Package guard reads HTTP/1.1 requests from connections, strictly by RFC 9112, so that no code behind it sees a byte
// that two readers could understand in two ways.
//
// A Listener accepts Conns. The HTTP server that serves a Conn (fasthttp, under Fiber) never sees what the client sent.
// For each accepted request, Read returns a short fixed head in its place, the announcement. The server's handler then
// takes the request from Conn.Request and its body from Conn.ReadBody. A refused request is announced in the same way,
// with the reason in Request.Refusal, so every refusal is answered, counted and logged in one place. After a refusal,
// and after a body that wasn't read to its end, the connection yields no further request.
//
// Guarantees:
//
//   - One reading: request line, field lines, chunks and trailers are parsed here and nowhere else. Lines end
//     in CRLF, names are tokens, and the length is stated at most once.
//   - Bounded memory: per head, per chunk line, per trailer section, and by a Budget for all connections
//     together. A stated length allocates nothing; only bytes that have arrived do.
//   - Bounded time: a head and a body must arrive within their timeouts, counted from their first byte.
//   - Errors name a rule, and never contain a byte of the request.
//   - The listener goes on if the system runs out of descriptors or memory.
package guard
