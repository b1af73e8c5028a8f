// Package ratelimit is the policy that counts the requests of a route against its limits, refuses what is beyond them
// (429), and tells clients what is left. What is counted, and how nodes share it, is the business of kvcache/limit.
//
// Guarantees:
//
//   - A request that any limit refuses costs no other anything: what was taken is given back.
//   - A slot of a concurrency limit is free before its client can see the end of the response.
//   - On the short way of a hit nothing but memory is asked; a request whose permits aren't there goes the full way.
package ratelimit
