// Package ratelimit is the policy that counts the requests of a route against its limits, refuses requests beyond them
// with 429, and sends clients what remains. Counting, and sharing counts among nodes, is done by kvcache/limit.
//
// Guarantees:
//
//   - A request that one limit refuses isn't counted by the others: what they granted is given back.
//   - A slot of a concurrency limit is free before the client can see the end of the response.
//   - The short way of a hit takes permits from memory only. If they aren't there, the request goes the full way.
package ratelimit
