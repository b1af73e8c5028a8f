// Package node is Millrace's vocabulary: what a node is configured with (Config, Upstream, Route), how
// requests are matched (Pattern, Route.Overlap), where they go (Target), and what can go wrong on the way (Error).
//
// The package does no I/O and imports nothing of Millrace, so every other package can speak its words. Guarantees:
//
//   - Values are plain data: once built they are safe for concurrent reading.
//   - Validate finds every mistake in one run and names the place of each, so that the reader of the
//     configuration file (node/config) can add file, line and column. Warnings does the same for what is valid but can
//     hardly be meant.
//   - Validate's time grows with the number of routes, not with its square: ten thousand take a fraction of a second.
//   - Two routes are either disjoint, or one of them is more specific, or Validate reports the pair.
package node
