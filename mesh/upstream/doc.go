// Package upstream holds the built-in members that call HTTP upstreams: they answer the subject upstream.NAME by
// asking one of the upstream's targets.
//
// The parts: Set keeps one Upstream for each configured name; an Upstream is a mesh service whose handler picks a Target
// (balance.go), asks it (client.go over the connections of pool.go) and judges the outcome; a checker asks every
// target for its health (health.go).
//
// Guarantees:
//
//   - A request that may have reached a target is sent to another one only if its method is idempotent.
//   - A target that fails its health check gets no requests; one that fails three requests in a row rests for a
//     while, unless every other rests too.
//   - A response that breaks RFC 9112 is an error and never passed on; connections are reused only after a whole
//     response, and not with bytes left over.
//   - Connections, idle ones included, and bodies are bounded.
package upstream
