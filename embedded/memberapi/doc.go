// Package memberapi lets members of the mesh, in any language, use a node: the cache's values on api.cache, limits on
// api.limit, several calls at once on api.gather, and calls of services on api.call. Whichever node is asked answers.
// mesh/PROTOCOL.md has the protocol.
//
// Guarantees:
//
//   - A member reaches with it what the configuration lets members reach, and nothing else: a node may publish where
//     members mustn't.
//   - Answers go to inboxes only, so that a member can't let a node speak to itself, or to others, in its place.
//   - Requests of one API are bounded; one more is refused at once. No request can end the process.
//   - [Server.Close] ends what runs, waits for it, and leaves no goroutine.
package memberapi
