// Package logs protects a node's log from what comes from outside: secrets that were put in the wrong place, and lines
// that repeat without end.
//
// Guarantees:
//
//   - A known secret is never written in a warning or an error, wherever it stands: not whole, not percent-encoded, and
//     not half of it.
//   - Of similar warnings and errors with the same source, the first few are written at once. The rest are written as
//     one line with their number every ten seconds. None is left out without being counted.
//   - The memory for that is bounded, however many sources and kinds of lines there are.
package logs
