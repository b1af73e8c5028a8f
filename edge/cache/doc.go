// Package cache is the policy that answers requests from stored responses and stores the responses of targets: the HTTP
// cache of RFC 9111 over the store that all nodes share (kvcache). The rules themselves are pure functions in
// kvcache/httpcache; this package applies them.
//
// How a request is handled: policy.go decides whether the cache applies, key.go makes the key, lookup.go searches the
// store, serve.go answers from it, miss.go and fetch.go get what isn't stored, store.go stores it, home.go asks the
// node that fetches a key for all nodes, invalidate.go and purge.go invalidate stored responses.
//
// Guarantees:
//
//   - A hit in memory allocates nothing and copies no byte of its body.
//   - For a response that no node has, one fetch is made for all who ask, on all nodes.
//   - A response that a purge reached isn't served after it; one that may be out of date is validated first.
//   - The memory for responses that are being collected is bounded, and slow readers don't use up the part of others.
package cache
