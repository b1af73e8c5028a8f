// Package gather answers a request with the results of several calls that are made at once: it makes the calls, waits
// for as many as its mode needs, and composes the answer. What a call passes (cache, limits, target) is a route of its
// own, which the edge makes.
//
// Guarantees:
//
//   - What the calls of one request hold in memory is bounded, and counts against edge.max_buffered.
//   - An answer that lacks a part says so, and nobody keeps it.
//   - A call that panics is a call that failed.
package gather
