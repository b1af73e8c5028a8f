package config

import (
	"reflect"
	"slices"
	"strings"

	"millrace/node"
)

// tried is keys that people know from other gateways: what to do instead, and which key of the same mapping they stand
// for, if there is one, so that this one isn't called missing as well.
type tried struct {
	keys    string // with spaces between them
	instead string
	key     string
}

// triedKey finds what a key of a type of mapping is likely to be meant for.
func triedKey(t reflect.Type, key string) (tried, bool) {
	for _, entry := range triedKeys[t] {
		if strings.Contains(entry.keys, key) && slices.Contains(strings.Fields(entry.keys), key) {
			return entry, true
		}
	}
	return tried{}, false
}

// triedKeys has the keys that people try, by the type of the mapping. None of them may be a key of the type: a test
// looks.
var triedKeys = map[reflect.Type][]tried{
	reflect.TypeFor[node.Config]():   triedAtTop,
	reflect.TypeFor[node.Edge]():     triedInEdge,
	reflect.TypeFor[node.Admin]():    triedInAdmin,
	reflect.TypeFor[node.Mesh]():     triedInMesh,
	reflect.TypeFor[node.Cluster]():  triedInCluster,
	reflect.TypeFor[node.Upstream](): triedInUpstreams,
	reflect.TypeFor[node.Route]():    triedInRoutes,
	reflect.TypeFor[node.Match]():    triedInMatch,
	reflect.TypeFor[node.Cache]():    triedInCache,
}

const (
	noAuth = "auth isn't there yet: let the application, or a proxy in front, ask who the client is; " +
		"limit: {max: ..., window: ..., key: header:NAME} tells clients apart by a field"
	noTLS  = "TLS isn't there yet: end TLS in a proxy in front and list that in edge.trusted_proxies"
	noHTTP = "HTTP/2 and HTTP/3 aren't there yet: a proxy in front may speak them with clients; " +
		"list that in edge.trusted_proxies"
	noCORS = "cors isn't there yet: set Access-Control-Allow-Origin with rewrite: {response: {set: ...}} in the " +
		"route, and answer OPTIONS with a route of methods: [OPTIONS] and respond: {status: 204, headers: ...}"
	noFiles = "serving files isn't there yet: let an upstream serve the files, and keep them with cache: 1h in its " +
		"route"

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
	logLevel   = "the level is a flag, run --log-level; edge: {access_log: true} logs each request"
)

var triedAtTop = []tried{
	{keys: "auth authentication jwt oidc", instead: noAuth},
	{keys: "tls ssl acme letsencrypt certificates", instead: noTLS},
	{keys: "cors", instead: noCORS},
	{keys: "static root files sites site", instead: noFiles},
	{keys: "listen server servers http listeners entrypoints", instead: "one address serves HTTP clients: write " +
		"edge: {listen: ...}"},
	{keys: "port", instead: `write edge: {listen: ":80"} with the port`},
	{keys: "expose", instead: "write edge: {expose: ...}"},
	{keys: "trusted_proxies", instead: "write edge: {trusted_proxies: ...}"},
	{keys: "timeout", instead: "write edge: {timeout: ...}"},
	{keys: "access_log", instead: "write edge: {access_log: true}"},
	{keys: "services", instead: "a service isn't declared: whoever subscribes to http.NAME serves it; " +
		"write to: service:NAME in a route, or edge: {expose: [NAME]}"},
	{keys: "cluster", instead: "write mesh: {cluster: ...}"},
	{keys: "nats", instead: "write mesh: {url: ...} for an existing server, or mesh: {listen: ...} for the embedded " +
		"one"},
	{keys: "rate_limit rate_limits ratelimit", instead: "write limits: {NAME: 100/15m}, or limit: 100/15m in a route"},
	{keys: "rules locations", instead: "write routes"},
	{keys: "backends clusters", instead: "write upstreams"},
	{keys: "middlewares middleware plugins filters", instead: inRoute},
	{keys: "log logging logs", instead: logLevel},
	{keys: "metrics prometheus", instead: "the admin API serves them at /metrics: see admin.listen"},
}

var triedInEdge = []tried{
	{keys: "auth", instead: noAuth},
	{keys: "tls ssl cert certificate certs acme https", instead: noTLS},
	{keys: "http2 h2 http3 h3 quic", instead: noHTTP},
	{keys: "cors", instead: noCORS},
	{keys: "static root files", instead: noFiles},
	{
		keys: "proxy_protocol",
		instead: "the PROXY protocol isn't there yet: let the proxy in front send X-Forwarded-For, " +
			"and list it in edge.trusted_proxies",
	},
	{keys: "port", instead: `write listen: ":80" with the port`, key: "listen"},
	{keys: "address addr host", instead: "write listen: 127.0.0.1:8080", key: "listen"},
	{keys: "headers", instead: "write rewrite: {response: {set: ...}} in a route to set it"},
	{keys: "limit rate_limit", instead: "write limit: 100/15m in a route"},
	{keys: "cache", instead: "write cache: true in a route; the cache's size stands in cache: {memory: ..., disk: " +
		"...} at the top level"},
	{keys: "compress gzip", instead: "write cache: {compress: true} in a route"},
	{keys: "keepalive_timeout keep_alive", instead: "write idle_timeout"},
}

var triedInAdmin = []tried{
	{keys: "tls ssl", instead: "TLS isn't there yet: keep admin.listen on 127.0.0.1 or on a private network"},
	{keys: "auth user username password key", instead: adminToken},
	{keys: "port", instead: `write listen: "127.0.0.1:8081" with the port`},
}

var triedInMesh = []tried{
	{keys: "tls ssl", instead: "TLS isn't there yet: keep the network of the mesh private"},
	{keys: "auth user username password credentials", instead: "write token, the same for all members"},
	{keys: "port", instead: `write listen: "127.0.0.1:4222" with the port`},
	{keys: "peers routes nodes", instead: "write cluster: {peers: ...}"},
	{keys: "servers", instead: "write url for an existing NATS server, or cluster: {peers: ...} for other nodes"},
}

var triedInCluster = []tried{
	{keys: "tls ssl", instead: "TLS isn't there yet: keep the network between the nodes private"},
	{keys: "port", instead: `write listen: "0.0.0.0:6222" with the port`},
	{keys: "nodes routes servers members", instead: "write peers", key: "peers"},
}

var triedInUpstreams = []tried{
	{keys: "url urls target servers server hosts address port", instead: oneTarget, key: "targets"},
	{keys: "host", instead: oneTarget + ", and rewrite: {host: ...} in the route for another Host", key: "targets"},
	{keys: "path", instead: `requests keep their path: write rewrite: {path: "/v2/{*}"} in the route for another`},
	{keys: "tls ssl", instead: "write the targets with https://: their certificates are checked against the system's"},
	{keys: "auth", instead: `write rewrite: {request: {set: {Authorization: "${SECRET}"}}} in the route`},
	{keys: "headers", instead: "write rewrite: {request: {set: ...}} in the route"},
	{keys: "rewrite cache", instead: "write it in the route"},
	{keys: "limit", instead: "write it in the route; concurrency: {max: ...} bounds the requests at one target"},
	{keys: "strategy algorithm policy load_balancing lb", instead: balanceIs},
	{keys: "sticky session", instead: "write balance: hash:cookie:NAME"},
	{keys: "retries", instead: "write retry: {tries: 3}"},
	{keys: "circuit_breaker outlier_detection", instead: "write eject: {failures: 3}"},
	{keys: "health_check healthcheck health_checks", instead: "write health: {path: /healthz}"},
	{keys: "max_connections", instead: "write concurrency: {max: ...}: each request at a target has a connection of " +
		"its own"},
	{keys: "keepalive", instead: "leave it out: connections are kept and used again"},
	{keys: "discovery", instead: "leave it out: each address of a target's host name is looked up, every resolve"},
}

var triedInRoutes = []tried{
	{keys: "headers header", instead: fieldOfBoth},
	{keys: "auth", instead: noAuth},
	{keys: "tls ssl", instead: noTLS},
	{keys: "cors", instead: noCORS},
	{keys: "static root files site index try_files", instead: noFiles, key: "to"},
	{keys: "upstream backend", instead: "write to: upstream:NAME", key: "to"},
	{keys: "service", instead: "write to: service:NAME", key: "to"},
	{keys: "subject", instead: `write to: "nats:SUBJECT"`, key: "to"},
	{keys: "target", instead: "write to: upstream:NAME, to: service:NAME or to: nats:SUBJECT", key: "to"},
	{keys: "proxy proxy_pass", instead: "write to: upstream:NAME, and the URL in targets of that upstream", key: "to"},
	{keys: "url", instead: "write path, and host if only one counts"},
	{keys: "uri location", instead: "write path", key: "path"},
	{keys: "prefix", instead: "write path: /prefix/*", key: "path"},
	{keys: "strip_prefix strip_path", instead: stripIs},
	{keys: "query", instead: "match has headers, and no query yet; rewrite: {query: ...} changes it"},
	{keys: "cookies", instead: "match has headers, and no cookies yet"},
	{keys: "rate_limit ratelimit", instead: "write limit: 100/15m", key: "limit"},
	{keys: "retry health balance eject concurrency", instead: ofUpstream},
	{keys: "retries", instead: "write retry: {tries: ...} in upstreams.NAME: a retry is the upstream's"},
	{keys: "priority order", instead: narrowWins},
	{keys: "compress gzip", instead: "write cache: {compress: true}"},
	{keys: "websocket websockets", instead: "leave it out: WebSockets pass to services and upstreams as they come"},
	{keys: "status", instead: "write respond: {status: ...}", key: "to"},
	{keys: "body", instead: "write respond: {body: ...}", key: "to"},
	{keys: "calls", instead: "write gather: {calls: ...}", key: "to"},
	{keys: "middlewares middleware plugins filters", instead: inRoute},
}

var triedInMatch = []tried{
	{keys: "host hosts path method methods", instead: besideIs},
	{keys: "query", instead: "match has headers and nothing else yet: " + besideIs},
	{keys: "cookies cookie", instead: "match has headers and nothing else yet"},
}

var triedInCache = []tried{
	{keys: "max_age expires duration time", instead: "write ttl"},
	{keys: "enabled", instead: "write on"},
	{keys: "size", instead: "write max_object for the largest body, or cache: {memory: ..., disk: ...} at the top " +
		"level"},
	{keys: "vary_by headers", instead: "write key: [header:NAME] for fields that count beside the URL"},
	{keys: "ignore", instead: "write query: {drop: [NAME]}"},
}
