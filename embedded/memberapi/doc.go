// Package memberapi lets members of the mesh, in any language, use a node: the cache's values on api.cache, limits on
// api.limit, several calls at once on api.gather, and calls of services on api.call. Any node of the mesh answers.
// mesh/PROTOCOL.md has the protocol.
//
// Guarantees:
//
//   - A member reaches with it what the configuration allows members, and nothing else, although a node may publish
//     where members may not.
//   - Replies go to inboxes only, so that a member can't make a node publish to its own subjects or to others.
//   - The running requests of one API are bounded; further ones are refused at once. No request can end the process.
//   - [Server.Close] cancels running requests, waits for them, and leaves no goroutine.
package memberapi
