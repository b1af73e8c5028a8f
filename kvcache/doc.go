// Package kvcache is a cache for all nodes of a mesh with two tiers: memory on each node, and a JetStream KV bucket
// that the nodes share. Purges take effect on all nodes, and concurrent requests for one key are collapsed into one.
// The caller decides what is cached: HTTP responses (edge, by the rules of package httpcache), or an application's
// values (Values).
//
// Guarantees:
//
//   - A node that has applied a purge never returns an entry that the purge reaches and whose fetch began before it.
//     When a purge that waits for all nodes returns, each node has applied it, or the node's lease is over and it
//     returns nothing (DESIGN.md has the proof).
//   - Memory, bucket, purges and waiting requests are bounded. A flood of unused entries doesn't evict used ones.
//   - No caller waits longer than Patience for the bucket, except in Read, which has its own deadline. Without NATS the
//     node's memory goes on working as far as its lease allows.
//   - Entries that are useful only together are written to the bucket together, or not at all.
//   - An entry is returned only for exactly its key, whatever hashes collide.
package kvcache
