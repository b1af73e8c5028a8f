// Package admin serves the operator's API: health, readiness, metrics, status, routes, explain, purge, limits, tail and
// reload.
//
// /healthz answers as long as the process runs. /readyz says whether every route can be served as configured, and what
// is degraded; embedded/README.md has the rules. Both are open to everybody. The other pages need the token, if one is
// configured.
//
// Guarantees:
//
//   - An unauthorized request is refused before its body is read, and its connection is closed (guard.go).
//   - Connections are bounded. If there are too many, the one is closed that was idle longest since its last authorized
//     request.
//   - No web page of another site gets an answer. Sec-Fetch-Site and Origin are checked, and without a token also Host,
//     against DNS rebinding.
package admin
