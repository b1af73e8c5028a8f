// Package admin serves the operator's API: health, readiness, metrics, status, routes, explain, tail and reload.
//
// /healthz and /readyz are open; everything else needs the token, if there is one. Requests that a browser sends from
// another site are refused, so that no web page can reload a node on the operator's machine.
package admin
