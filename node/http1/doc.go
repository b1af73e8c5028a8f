// Package http1 has the syntax of HTTP that every reader and writer of messages shares: field lines as RFC 9112 §5 has
// them, scanned and written; request targets (RFC 9112 §3.2) and authorities in one canonical spelling (RFC 3986 §6.2);
// names of fields; and Body, a message body that comes in pieces. It does no I/O.
//
// Guarantees:
//
//   - What is scanned can be written again and is scanned the same: no byte of it means two things to two readers.
//   - Errors name a rule, never a byte of the message.
package http1
