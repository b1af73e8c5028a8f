// Package admin serves the operator's API: health, readiness, metrics, status, routes, explain, tail and reload.
//
// /healthz says that the process answers, /readyz that every route can be served as it is configured, and what isn't as
// it should be: embedded/README.md has the rule. Both are open; everything else needs the token, if there is one.
// Guarantees:
//
//   - A request that isn't let in is answered without its body having been read, and its connection ends (guard.go).
//   - Connections are bounded; when there are too many, the one goes that has waited longest without being let in.
//   - No web page of another site gets an answer: by Sec-Fetch-Site, Origin, and without a token Host (DNS rebinding).
package admin
