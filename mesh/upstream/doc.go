// Package upstream holds the built-in members that call HTTP upstreams: they answer the subject upstream.NAME by asking
// one of the upstream's targets.
//
// The parts: Set keeps one Upstream for each configured name; an Upstream is a mesh service whose handler picks a
// Target and asks it (client.go over the connections of pool.go). What one request may do is composed in attempt.go,
// out of small parts:
//
//   - balance.go and hash.go choose a target, canary.go its kind; resolve.go makes targets of host names.
//   - mesh.Budget bounds extra tries, hedge.go makes one while the first still runs.
//   - outlier.go (over window.go) and health.go say which targets rest or are down, target.go keeps their state.
//   - failure.go says what went wrong, to the client and, at most once a second for each target and kind, to the log.
//   - gate.go lets requests wait for a target with room; gradient.go finds how much room a target has.
//
// Guarantees:
//
//   - A request that may have reached a target is sent to another one only if its method is idempotent.
//   - A target that fails its health check gets no requests; one that fails as the configuration says rests for a
//     while, unless as many rest already as may. What finds the others full waits for them, or is refused.
//   - Extra tries of every sort, hedges and second sendings on used connections included, stay within the budget.
//   - What the node lacks itself (file descriptors, ports) is no failure of a target.
//   - A response that breaks RFC 9112 is an error and never passed on; connections are reused only after a whole
//     response, and not with bytes left over.
//   - Connections, idle ones included, and bodies are bounded.
package upstream
