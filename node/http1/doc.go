// Package http1 has the syntax of HTTP that every reader and writer of messages needs: request targets (RFC 9112 §3.2),
// authorities in one canonical spelling (RFC 3986 §6.2), and comparing the names of fields. It does no I/O.
package http1
