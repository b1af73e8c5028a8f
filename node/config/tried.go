package config

import (
	"reflect"
	"slices"
	"strings"

	"millrace/node"
)

// foreignKey has keys that people know from other gateways, with what to do instead. If they stand for a key of the
// same mapping, key names it, so that it isn't reported as missing.
type foreignKey struct {
	keys   string // separated by spaces
	advice string
	key    string
}

// findForeignKey returns the entry for a foreign key in a mapping of type t.
func findForeignKey(t reflect.Type, key string) (foreignKey, bool) {
	for _, entry := range foreignKeys[t] {
		if strings.Contains(entry.keys, key) && slices.Contains(strings.Fields(entry.keys), key) {
			return entry, true
		}
	}
	return foreignKey{}, false
}

// foreignKeys are the foreign keys by the type of the mapping. A test checks that none of them is a key of the type.
var foreignKeys = map[reflect.Type][]foreignKey{
	reflect.TypeFor[node.Config]():   foreignAtTop,
	reflect.TypeFor[node.Edge]():     foreignInEdge,
	reflect.TypeFor[node.Admin]():    foreignInAdmin,
	reflect.TypeFor[node.Mesh]():     foreignInMesh,
	reflect.TypeFor[node.Cluster]():  foreignInCluster,
	reflect.TypeFor[node.Leaf]():     foreignInLeaf,
	reflect.TypeFor[node.Leafs]():    foreignInLeafs,
	reflect.TypeFor[node.Upstream](): foreignInUpstreams,
	reflect.TypeFor[node.Route]():    foreignInRoutes,
	reflect.TypeFor[node.Match]():    foreignInMatch,
	reflect.TypeFor[node.Cache]():    foreignInCache,
	reflect.TypeFor[node.Sites]():    foreignInSites,
	reflect.TypeFor[node.Site]():     foreignInSite,
}

const (
	noAuth = "auth isn't there yet: let the application, or a proxy in front, ask who the client is; " +
		"limit: {max: ..., window: ..., key: header:NAME} tells clients apart by a field"
	noTLS  = "TLS isn't there yet: end TLS in a proxy in front and list that in edge.trusted_proxies"
	noHTTP = "HTTP/2 and HTTP/3 aren't there yet: a proxy in front may speak them with clients; " +
		"list that in edge.trusted_proxies"
	noCORS = "cors isn't there yet: set Access-Control-Allow-Origin with rewrite: {response: {set: ...}} in the " +
		"route, and answer OPTIONS with a route of methods: [OPTIONS] and respond: {status: 204, headers: ...}"
	noFiles = "write to: site:NAME in a route, and run millrace publish FOLDER --site NAME: every node then serves " +
		"the folder"

	inRoute = "what is done to requests stands in their route: rewrite, limit, cache; more is done by a member " +
		"(to: service:NAME)"
	ofUpstream  = "write it in upstreams.NAME: that is the upstream's"
	narrowWins  = "leave it out: the most specific route wins, whatever the order"
	fieldOfBoth = "write match: {headers: ...} for requests that have it, " +
		"and rewrite: {request: {set: ...}} or rewrite: {response: {set: ...}} to set it"
	oneTarget  = "write targets: [http://127.0.0.1:3000]"
	balanceIs  = "write balance: least or balance: hash:ip"
	besideIs   = "the host, path and methods of a request stand beside match: write host, path and methods beside match"
	adminToken = "write token, of 16 characters or more, and present it as bearer"
	stripIs    = `write rewrite: {path: "/{*}"}, where {*} is what /* matched`
	tryIs      = "write try: [site:NAME, upstream:NAME], where the upstream answers what the site lacks"
	logLevel   = "the level is a flag, run --log-level; edge: {access_log: true} logs each request"
)

var foreignAtTop = []foreignKey{
	{keys: "auth authentication jwt oidc", advice: noAuth},
	{keys: "tls ssl acme letsencrypt certificates", advice: noTLS},
	{keys: "cors", advice: noCORS},
	{keys: "static root files site www", advice: noFiles},
	{keys: "listen server servers http listeners entrypoints", advice: "one address serves HTTP clients: write " +
		"edge: {listen: ...}"},
	{keys: "port", advice: `write edge: {listen: ":80"} with the port`},
	{keys: "expose", advice: "write edge: {expose: ...}"},
	{keys: "trusted_proxies", advice: "write edge: {trusted_proxies: ...}"},
	{keys: "timeout", advice: "write edge: {timeout: ...}"},
	{keys: "access_log", advice: "write edge: {access_log: true}"},
	{keys: "services", advice: "a service isn't declared: whoever subscribes to http.NAME serves it; " +
		"write to: service:NAME in a route, or edge: {expose: [NAME]}"},
	{keys: "cluster", advice: "write mesh: {cluster: ...}"},
	{keys: "nats", advice: "write mesh: {url: ...} for an existing server, or mesh: {listen: ...} for the embedded " +
		"one"},
	{keys: "rate_limit rate_limits ratelimit", advice: "write limits: {NAME: 100/15m}, or limit: 100/15m in a route"},
	{keys: "rules locations", advice: "write routes"},
	{keys: "backends clusters", advice: "write upstreams"},
	{keys: "middlewares middleware plugins filters", advice: inRoute},
	{keys: "log logging logs", advice: logLevel},
	{keys: "metrics prometheus", advice: "the admin API serves them at /metrics: see admin.listen"},
}

var foreignInEdge = []foreignKey{
	{keys: "auth", advice: noAuth},
	{keys: "tls ssl cert certificate certs acme https", advice: noTLS},
	{keys: "http2 h2 http3 h3 quic", advice: noHTTP},
	{keys: "cors", advice: noCORS},
	{keys: "static root files", advice: noFiles},
	{
		keys: "proxy_protocol",
		advice: "the PROXY protocol isn't there yet: let the proxy in front send X-Forwarded-For, " +
			"and list it in edge.trusted_proxies",
	},
	{keys: "port", advice: `write listen: ":80" with the port`, key: "listen"},
	{keys: "address addr host", advice: "write listen: 127.0.0.1:8080", key: "listen"},
	{keys: "headers", advice: "write rewrite: {response: {set: ...}} in a route to set it"},
	{keys: "limit rate_limit", advice: "write limit: 100/15m in a route"},
	{keys: "cache", advice: "write cache: true in a route; the cache's size stands in cache: {memory: ..., disk: " +
		"...} at the top level"},
	{keys: "compress gzip", advice: "write cache: {compress: true} in a route"},
	{keys: "keepalive_timeout keep_alive", advice: "write idle_timeout"},
}

var foreignInAdmin = []foreignKey{
	{keys: "tls ssl", advice: "TLS isn't there yet: keep admin.listen on 127.0.0.1 or on a private network"},
	{keys: "auth user username password key", advice: adminToken},
	{keys: "port", advice: `write listen: "127.0.0.1:8081" with the port`},
}

var foreignInMesh = []foreignKey{
	{keys: "tls ssl", advice: "TLS isn't there yet: keep the network of the mesh private"},
	{keys: "auth user username password credentials", advice: "write token, the same for all members"},
	{keys: "port", advice: `write listen: "127.0.0.1:4222" with the port`},
	{keys: "leafnodes leafnode remotes", advice: "write leaf: {url: ...} on a node that is far away, and leafs: " +
		"{listen: ...} on the nodes that it joins"},
	{keys: "peers routes nodes", advice: "write cluster: {peers: ...}"},
	{keys: "servers", advice: "write url for an existing NATS server, or cluster: {peers: ...} for other nodes"},
}

var foreignInCluster = []foreignKey{
	{keys: "tls ssl", advice: "TLS isn't there yet: keep the network between the nodes private"},
	{keys: "port", advice: `write listen: "0.0.0.0:6222" with the port`},
	{keys: "nodes routes servers members", advice: "write peers", key: "peers"},
}

var foreignInLeaf = []foreignKey{
	{keys: "tls ssl", advice: "TLS isn't there yet: let a VPN or a tunnel carry the link to the hub"},
	{keys: "urls hub hubs servers address remotes", advice: "write url: hub.example.com:7422", key: "url"},
	{keys: "user username password credentials", advice: "write token, that of mesh.leafs of the hub", key: "token"},
}

var foreignInLeafs = []foreignKey{
	{keys: "tls ssl", advice: "TLS isn't there yet: let a VPN or a tunnel carry the links of leafs"},
	{keys: "port", advice: `write listen: "0.0.0.0:7422" with the port`, key: "listen"},
	{keys: "users authorization", advice: "write token, the same for all leafs", key: "token"},
}

var foreignInUpstreams = []foreignKey{
	{keys: "url urls target servers server hosts address port", advice: oneTarget, key: "targets"},
	{keys: "host", advice: oneTarget + ", and rewrite: {host: ...} in the route for another Host", key: "targets"},
	{keys: "path", advice: `requests keep their path: write rewrite: {path: "/v2/{*}"} in the route for another`},
	{keys: "tls ssl", advice: "write the targets with https://: their certificates are checked against the system's"},
	{keys: "auth", advice: `write rewrite: {request: {set: {Authorization: "${SECRET}"}}} in the route`},
	{keys: "headers", advice: "write rewrite: {request: {set: ...}} in the route"},
	{keys: "rewrite cache", advice: "write it in the route"},
	{keys: "limit", advice: "write it in the route; concurrency: {max: ...} bounds the requests at one target"},
	{keys: "strategy algorithm policy load_balancing lb", advice: balanceIs},
	{keys: "sticky session", advice: "write balance: hash:cookie:NAME"},
	{keys: "retries", advice: "write retry: {tries: 3}"},
	{keys: "circuit_breaker outlier_detection", advice: "write eject: {failures: 3}"},
	{keys: "health_check healthcheck health_checks", advice: "write health: {path: /healthz}"},
	{keys: "max_connections", advice: "write concurrency: {max: ...}: each request at a target has a connection of " +
		"its own"},
	{keys: "keepalive", advice: "leave it out: connections are kept and used again"},
	{keys: "discovery", advice: "leave it out: each address of a target's host name is looked up, every resolve"},
}

var foreignInRoutes = []foreignKey{
	{keys: "headers header", advice: fieldOfBoth},
	{keys: "auth", advice: noAuth},
	{keys: "tls ssl", advice: noTLS},
	{keys: "cors", advice: noCORS},
	{keys: "static root files site index dir folder", advice: noFiles, key: "to"},
	{keys: "try_files", advice: tryIs, key: "to"},
	{keys: "spa fallback", advice: "write sites: {NAME: {spa: true}}"},
	{keys: "upstream backend", advice: "write to: upstream:NAME", key: "to"},
	{keys: "service", advice: "write to: service:NAME", key: "to"},
	{keys: "subject", advice: `write to: "nats:SUBJECT"`, key: "to"},
	{keys: "target", advice: "write to: upstream:NAME, to: service:NAME or to: nats:SUBJECT", key: "to"},
	{keys: "proxy proxy_pass", advice: "write to: upstream:NAME, and the URL in targets of that upstream", key: "to"},
	{keys: "url", advice: "write path, and host if only one counts"},
	{keys: "uri location", advice: "write path", key: "path"},
	{keys: "prefix", advice: "write path: /prefix/*", key: "path"},
	{keys: "strip_prefix strip_path", advice: stripIs},
	{keys: "query", advice: "match has headers, and no query yet; rewrite: {query: ...} changes it"},
	{keys: "cookies", advice: "match has headers, and no cookies yet"},
	{keys: "rate_limit ratelimit", advice: "write limit: 100/15m", key: "limit"},
	{keys: "retry health balance eject concurrency", advice: ofUpstream},
	{keys: "retries", advice: "write retry: {tries: ...} in upstreams.NAME: a retry is the upstream's"},
	{keys: "priority order", advice: narrowWins},
	{keys: "compress gzip", advice: "write cache: {compress: true}"},
	{keys: "websocket websockets", advice: "leave it out: WebSockets pass to services and upstreams as they come"},
	{keys: "status", advice: "write respond: {status: ...}", key: "to"},
	{keys: "body", advice: "write respond: {body: ...}", key: "to"},
	{keys: "calls", advice: "write gather: {calls: ...}", key: "to"},
	{keys: "middlewares middleware plugins filters", advice: inRoute},
}

var foreignInMatch = []foreignKey{
	{keys: "host hosts path method methods", advice: besideIs},
	{keys: "query", advice: "match has headers and nothing else yet: " + besideIs},
	{keys: "cookies cookie", advice: "match has headers and nothing else yet"},
}

var foreignInCache = []foreignKey{
	{keys: "max_age expires duration time", advice: "write ttl"},
	{keys: "enabled", advice: "write on"},
	{keys: "size", advice: "write max_object for the largest body, or cache: {memory: ..., disk: ...} at the top " +
		"level"},
	{keys: "vary_by headers", advice: "write key: [header:NAME] for fields that count beside the URL"},
	{keys: "ignore", advice: "write query: {drop: [NAME]}"},
}

const (
	publishIs = "a site's files are published: run millrace publish FOLDER --site NAME"
	slashIs   = "write slash: always, never, keep or auto"
)

var foreignInSites = []foreignKey{
	{keys: "root dir path folder static files", advice: publishIs},
	{keys: "preview token spa slash keep immutable", advice: "write it for a site, as in sites: {NAME: {...}}"},
}

var foreignInSite = []foreignKey{
	{keys: "root dir path folder static files", advice: publishIs},
	{keys: "host hosts domain domains", advice: "write host: NAME and to: site:NAME in a route"},
	{keys: "fallback index try_files single_page", advice: "write spa: true, or spa: /app.html for another file"},
	{keys: "trailing_slash trailing_slashes clean_urls html_handling", advice: slashIs},
	{keys: "headers redirects", advice: "write the files _headers and _redirects into the folder that is published"},
	{keys: "cache cache_control max_age", advice: "write immutable for paths that never change; a file " +
		"_headers in the folder has other rules"},
	{keys: "not_found error_page 404", advice: "publish a 404.html: the nearest one upwards is served"},
	{keys: "disk memory", advice: "write it beside the sites, for all of them: sites: {disk: ..., memory: ...}"},
}
