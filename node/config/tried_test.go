package config_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"millrace/node/config"
)

// TestForeignKeysAreExplained writes keys that people know from other gateways. Each is refused with what to do
// instead, and never with the name of a key that only looks similar.
func TestForeignKeysAreExplained(t *testing.T) {
	const up = "upstreams: {api: {targets: [http://127.0.0.1:3000]}}\n"
	route := func(key string) string { return up + "routes:\n  - {path: /a, to: upstream:api, " + key + "}" }
	for _, tc := range []struct{ file, want string }{
		{route("headers: {X-A: b}"), "match: {headers: ...} for requests that have it, and rewrite: {request: {set: " +
			"...}} or rewrite: {response: {set: ...}} to set it"},
		{route("auth: basic"), "isn't there yet: let the application, or a proxy in front, ask who the client is"},
		{"auth: {}", "isn't there yet: let the application"},
		{route("tls: {}"), "isn't there yet: end TLS in a proxy in front and list that in edge.trusted_proxies"},
		{"tls: {}", "isn't there yet: end TLS in a proxy in front"},
		{"edge: {tls: {cert: a.pem}}", "isn't there yet: end TLS in a proxy in front"},
		{"admin: {tls: {}}", "isn't there yet: keep admin.listen on 127.0.0.1"},
		{"mesh: {tls: {}}", "isn't there yet: keep the network of the mesh private"},
		{"upstreams: {api: {targets: [http://127.0.0.1:3000], tls: {}}}", "write the targets with https://"},
		{route("cors: true"), "isn't there yet: set Access-Control-Allow-Origin with rewrite: {response: {set: ...}}"},
		{"cors: {}", "isn't there yet: set Access-Control-Allow-Origin"},
		{route("static: ./public"), "write to: site:NAME in a route, and run millrace publish FOLDER --site NAME"},
		{route("root: ./public"), "write to: site:NAME in a route, and run millrace publish"},
		{"static: {}", "write to: site:NAME in a route, and run millrace publish"},
		{"root: ./public", "write to: site:NAME in a route, and run millrace publish"},
		{"site: {}", "write to: site:NAME in a route, and run millrace publish"},
		{route("try_files: [a]"), "write try: [site:NAME, upstream:NAME]"},
		{"sites: {root: ./public}", "a site's files are published"},
		{"sites: {www: {root: ./public}}", "a site's files are published"},
		{"sites: {www: {fallback: /index.html}}", "write spa: true"},
		{"sites: {www: {trailing_slash: always}}", "write slash: always"},
		{"sites: {www: {host: www.example.com}}", "write host: NAME and to: site:NAME in a route"},
		{"listen: 127.0.0.1:80", "write edge: {listen: ...}"},
		{"port: 80", `write edge: {listen: ":80"}`},
		{"routes: [{path: /a, upstream: api}]", "write to: upstream:NAME"},
		{"upstreams: {api: {url: http://127.0.0.1}}\nroutes: [{path: /a, to: upstream:api}]", "write targets"},
		{"edge: {port: 80}", `write listen: ":80"`},
		{"services: {}", "a service isn't declared: whoever subscribes to http.NAME serves it"},
		{"cluster: {}", "write mesh: {cluster: ...}"},
		{"trusted_proxies: []", "write edge: {trusted_proxies: ...}"},
		{"rate_limit: 1/s", "limits"},
		{route("rate_limit: 1/s"), "write limit: 100/15m"},
		{route("upstream: api"), "write to: upstream:NAME"},
		{route("service: greet"), "write to: service:NAME"},
		{route("proxy: http://127.0.0.1"), "write to: upstream:NAME, and the URL in targets of that upstream"},
		{route("strip_prefix: true"), `write rewrite: {path: "/{*}"}`},
		{route("retry: {tries: 3}"), "write it in upstreams.NAME: that is the upstream's"},
		{route("query: {a: b}"), "match has headers"},
		{route("match: {query: {a: b}}"), "write host, path and methods beside match"},
		{route("match: {path: /a}"), "write host, path and methods beside match"},
		{route("priority: 1"), "the most specific route wins"},
		{route("compress: true"), "write cache: {compress: true}"},
		{route("websocket: true"), "WebSockets pass"},
		{"upstreams: {api: {url: http://127.0.0.1:3000}}", "write targets: [http://127.0.0.1:3000]"},
		{"upstreams: {api: {servers: [http://127.0.0.1:3000]}}", "write targets: [http://127.0.0.1:3000]"},
		{"upstreams: {api: {targets: [http://127.0.0.1:3000], strategy: x}}", "write balance: least"},
		{
			"upstreams: {api: {targets: [http://127.0.0.1:3000], headers: {X: y}}}",
			"write rewrite: {request: {set: ...}} in the route",
		},
		{"admin: {password: x}", "write token"},
		{"mesh: {user: x}", "write token"},
	} {
		_, err := config.Parse("f", []byte("version: 1\n"+tc.file), nil)
		mistakes, _ := errors.AsType[config.Errors](err)
		if len(mistakes) != 1 || !strings.Contains(err.Error(), tc.want) ||
			strings.Contains(err.Error(), "did you mean") {
			t.Errorf("%s\n gives %v,\n want %q", tc.file, err, tc.want)
		}
	}
}

// Foreign keys aren't keys of the type.
func TestForeignKeysAreNoKeys(t *testing.T) {
	config.ForeignKeys(func(of reflect.Type, key string, have []string) {
		if len(have) == 0 || slices.Contains(have, key) {
			t.Errorf("%s: %s has a hint, beside the keys %q", of, key, have)
		}
	})
}
