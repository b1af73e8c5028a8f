// Package kvcache is a cache of two tiers for all nodes of a mesh: memory on each node over a JetStream KV bucket that
// they share, with purges that are true everywhere, and requests for one key collapsed into one. What is cached is the
// caller's business: HTTP responses (edge, by the rules of package httpcache), or an application's own values (Values).
//
// Guarantees:
//
//   - An entry whose fetch began before a purge that reaches it is never given out by a node that has applied the
//     purge, and a purge that was waited for is applied by every node, or that node's lease is over and it gives out
//     nothing (DESIGN.md has the proof).
//   - Memory, bucket, purges and waiting requests are bounded, and what was used stays when a flood of unused entries
//     passes.
//   - No caller waits longer than Patience for the bucket, but for Read, which has a deadline of its own. Without NATS
//     the node's own memory goes on, as far as its lease allows.
//   - Entries that are of use only together are written to the bucket together, or not at all.
//   - An entry is only given out for exactly its key, whatever hashes collide.
package kvcache
