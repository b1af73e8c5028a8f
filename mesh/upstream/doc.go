// Package upstream holds the built-in members that call HTTP upstreams. They answer the subject upstream.NAME by asking
// one of the upstream's targets.
//
// Set keeps one Upstream for each configured name. An Upstream is a mesh service. Its handler selects a target and asks
// it (client.go and roundtrip.go, over the connections of pool.go). call.go decides what one request may do, with small
// parts:
//
//   - balance.go and hash.go select a target, and canary.go its kind. resolve.go makes targets of host names.
//   - mesh.Budget bounds extra tries. hedge.go makes one while the first still runs.
//   - outlier.go (over window.go) and health.go decide which targets are ejected or down. target.go keeps their state.
//   - failure.go reports what went wrong to the client, and to the log at most once a second for each target and kind
//     (failurelog.go).
//   - waitqueue.go lets requests wait for a target with capacity. gradient.go finds out how much capacity a target has.
//
// Guarantees:
//
//   - A request that may have reached a target is sent to another one only if its method is idempotent, or if it has an
//     Idempotency-Key and the configuration trusts that.
//   - A target that fails its health check gets no requests. One that fails as configured is ejected for a while,
//     unless too many are ejected already. Requests that find the others at their limits wait for them, or are refused.
//   - Extra tries of every kind stay within the budget, including hedges and requests sent again after a used
//     connection turned out to be closed.
//   - What the node itself lacks (file descriptors, ports) doesn't count as a target's failure.
//   - A response that breaks RFC 9112 is an error and never forwarded. Connections are reused only after a whole
//     response, and never with bytes left over.
//   - Connections, idle ones included, and bodies are bounded.
package upstream
