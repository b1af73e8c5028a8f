// Package node has Millrace's basic types: what a node is configured with (Config, Upstream, Route), how requests are
// matched (Pattern, Route.Compare), where they go (Target), and what can go wrong on the way (Error).
//
// The package does no I/O and imports no other package of Millrace, so that all of them can use it. Guarantees:
//
//   - Values are plain data: once built they are safe for concurrent reading.
//   - Validate finds every mistake in one run and returns the key path of each, so that the reader of the configuration
//     file (node/config) can add file, line and column. Warnings does the same for what is valid but probably a
//     mistake.
//   - Validate's time grows with the number of routes, not with its square: ten thousand take a fraction of a second.
//   - Two routes are either disjoint, or one of them is more specific, or Validate reports the pair.
package node
