// Package logs guards a node's log against what comes from outside: secrets that somebody put in the wrong place, and
// lines that repeat without end.
//
// Guarantees:
//
//   - A known secret is never written in a warning or an error, whole, percent-encoded, or half of it, wherever it
//     stands.
//   - Of warnings and errors that are alike and have one source, the first few are written at once, and the rest as one
//     line with their number every ten seconds. None is left out without being counted.
//   - What is remembered for that is bounded, however many sources and kinds of lines there are.
package logs
