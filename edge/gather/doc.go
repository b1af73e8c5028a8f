// Package gather answers a request with the results of several calls that are made at once. It makes the calls, waits
// for as many as its mode needs, and composes the answer. Each call is a route of its own, with cache, limits and
// target, which package edge makes.
//
// Guarantees:
//
//   - What the calls of one request hold in memory is bounded, and counts against edge.max_buffered.
//   - An answer that lacks a part says so, and isn't stored by any cache.
//   - A call that panics counts as failed.
package gather
