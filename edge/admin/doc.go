// Package admin serves the operator's API: health, readiness, metrics, status, routes, explain, tail and reload.
//
// /healthz says that the process answers, /readyz that every route can be served as it is configured, and what isn't as
// it should be: README.md has
// the rule. Both are open; everything else needs the token, if there is one. Requests that a browser sends from
// another site are refused, so that no web page can reload a node on the operator's machine.
package admin
