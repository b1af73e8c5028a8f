// Package cache is the policy that answers requests from what is stored, and stores what targets answer: the HTTP cache
// of RFC 9111 over the store that all nodes share (kvcache). The rules themselves are pure functions in
// kvcache/httpcache; what is done with their verdicts stands here.
//
// A request's way: policy.go decides whether the cache has anything to do with it, key.go names what it asks for,
// lookup.go searches, serve.go answers with what was found, miss.go and fetch.go get what wasn't, store.go keeps it,
// home.go asks the node that fetches a key for all, invalidate.go and purge.go take back what is no longer true.
//
// Guarantees:
//
//   - A hit in memory allocates nothing and copies no byte of its body.
//   - Of what nobody has, one fetch is made for all who ask, on all nodes.
//   - What a purge has reached isn't given out after it; what isn't known to be true is validated first.
//   - Bytes of responses that are being collected are bounded, and slow readers don't take the room of others.
package cache
