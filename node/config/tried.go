package config

import (
	"reflect"

	"millrace/node"
)

// tried is a key that people know from other gateways: what to do instead, and which key of the same mapping it stands
// for, if there is one, so that this one isn't called missing as well.
type tried struct{ instead, key string }

const (
	noAuth   = "auth isn't there yet: let the application, or a proxy in front, ask who the client is; limit: {max: ..., window: ..., key: header:NAME} tells clients apart by a field"
	noTLS    = "TLS isn't there yet: end TLS in a proxy in front and list that in edge.trusted_proxies"
	noCORS   = "cors isn't there yet: set Access-Control-Allow-Origin with rewrite: {response: {set: ...}} in the route, and answer OPTIONS with a route of methods: [OPTIONS] and respond: {status: 204, headers: ...}"
	noFiles  = "files aren't served: that isn't there yet: let an upstream serve the files, and keep them with cache: 1h in its route"
	noTokens = "write token, a bearer token of 16 characters or more"
	methodIs = "the name, host, path and methods of a request stand beside match: write host, path and methods beside match"
)

// triedKeys has the keys that people try, by the type of the mapping. None of them may be a key of the type: a test looks.
var triedKeys = map[reflect.Type]map[string]tried{
	reflect.TypeFor[node.Config](): {
		"auth": {instead: noAuth}, "tls": {instead: noTLS}, "ssl": {instead: noTLS}, "acme": {instead: noTLS}, "cors": {instead: noCORS},
		"static": {instead: noFiles}, "root": {instead: noFiles}, "files": {instead: noFiles}, "sites": {instead: noFiles},
		"listen":          {instead: "write edge: {listen: ...}"},
		"listeners":       {instead: "one address serves HTTP clients: write edge: {listen: ...}"},
		"server":          {instead: "write edge: {listen: ...}"},
		"http":            {instead: "write edge: {listen: ...}"},
		"port":            {instead: `write edge: {listen: ":80"} with the port`},
		"expose":          {instead: "write edge: {expose: ...}"},
		"trusted_proxies": {instead: "write edge: {trusted_proxies: ...}"},
		"timeout":         {instead: "write edge: {timeout: ...}"},
		"services":        {instead: "a service isn't declared: whoever subscribes to http.NAME serves it; write to: service:NAME in a route, or edge: {expose: [NAME]}"},
		"cluster":         {instead: "write mesh: {cluster: ...}"},
		"nats":            {instead: "write mesh: {url: ...} for an existing server, or mesh: {listen: ...} for the embedded one"},
		"rate_limit":      {instead: "write limits: {NAME: 100/15m}, or limit: 100/15m in a route"},
		"rate_limits":     {instead: "write limits: {NAME: 100/15m}, or limit: 100/15m in a route"},
		"rules":           {instead: "write routes"},
		"backends":        {instead: "write upstreams"},
		"middlewares":     {instead: "what is done to requests stands in their route: rewrite, limit, cache"},
		"plugins":         {instead: "what is done to requests stands in their route: rewrite, limit, cache; more is done by a member (to: service:NAME)"},
		"log":             {instead: "the level is a flag, run --log-level; edge: {access_log: true} logs each request"},
		"logging":         {instead: "the level is a flag, run --log-level; edge: {access_log: true} logs each request"},
		"access_log":      {instead: "write edge: {access_log: true}"},
		"metrics":         {instead: "the admin API serves them at /metrics: see admin.listen"},
	},
	reflect.TypeFor[node.Edge](): {
		"auth": {instead: noAuth}, "tls": {instead: noTLS}, "ssl": {instead: noTLS}, "cert": {instead: noTLS}, "certificate": {instead: noTLS},
		"acme": {instead: noTLS}, "https": {instead: noTLS}, "cors": {instead: noCORS}, "root": {instead: noFiles}, "static": {instead: noFiles},
		"http2":             {instead: "HTTP/2 isn't there yet: a proxy in front may speak it with clients; list that in edge.trusted_proxies"},
		"http3":             {instead: "HTTP/3 isn't there yet: a proxy in front may speak it with clients; list that in edge.trusted_proxies"},
		"proxy_protocol":    {instead: "the PROXY protocol isn't there yet: let the proxy in front send X-Forwarded-For, and list it in edge.trusted_proxies"},
		"port":              {instead: `write listen: ":80" with the port`, key: "listen"},
		"address":           {instead: "write listen: 127.0.0.1:8080", key: "listen"},
		"headers":           {instead: "write rewrite: {response: {set: ...}} in a route to set it"},
		"rate_limit":        {instead: "write limit: 100/15m in a route"},
		"limit":             {instead: "write limit: 100/15m in a route"},
		"cache":             {instead: "write cache: true in a route; the cache's size stands in cache: {memory: ..., disk: ...} at the top level"},
		"compress":          {instead: "write cache: {compress: true} in a route"},
		"keepalive_timeout": {instead: "write idle_timeout"},
	},
	reflect.TypeFor[node.Admin](): {
		"tls": {instead: "TLS isn't there yet: keep admin.listen on 127.0.0.1 or on a private network"}, "auth": {instead: noTokens},
		"user": {instead: noTokens}, "username": {instead: noTokens}, "password": {instead: noTokens}, "key": {instead: noTokens},
		"port": {instead: `write listen: "127.0.0.1:8081" with the port`},
	},
	reflect.TypeFor[node.Mesh](): {
		"tls":  {instead: "TLS isn't there yet: keep the network of the mesh private"},
		"auth": {instead: noTokens}, "user": {instead: noTokens}, "username": {instead: noTokens}, "password": {instead: noTokens},
		"port":    {instead: `write listen: "127.0.0.1:4222" with the port`},
		"peers":   {instead: "write cluster: {peers: ...}"},
		"routes":  {instead: "write cluster: {peers: ...}"},
		"servers": {instead: "write url for an existing NATS server, or cluster: {peers: ...} for other nodes"},
	},
	reflect.TypeFor[node.Cluster](): {
		"tls": {instead: "TLS isn't there yet: keep the network between the nodes private"}, "port": {instead: `write listen: "0.0.0.0:6222" with the port`},
		"nodes": {instead: "write peers", key: "peers"}, "routes": {instead: "write peers", key: "peers"}, "servers": {instead: "write peers", key: "peers"},
	},
	reflect.TypeFor[node.Route](): triedInRoutes,
	reflect.TypeFor[node.Match](): {
		"host": {instead: methodIs}, "hosts": {instead: methodIs}, "path": {instead: methodIs}, "method": {instead: methodIs}, "methods": {instead: methodIs},
		"query":   {instead: "match has headers and nothing else yet: " + methodIs},
		"cookies": {instead: "match has headers and nothing else yet"},
	},
	reflect.TypeFor[node.Upstream](): triedInUpstreams,
	reflect.TypeFor[node.Cache](): {
		"max_age": {instead: "write ttl"}, "expires": {instead: "write ttl"}, "duration": {instead: "write ttl"}, "time": {instead: "write ttl"},
		"enabled": {instead: "write on"}, "size": {instead: "write max_object for the largest body, or cache: {memory: ..., disk: ...} at the top level"},
		"vary_by": {instead: "write key: [header:NAME] for fields that count beside the URL"},
		"headers": {instead: "write key: [header:NAME] for fields that count beside the URL"},
		"ignore":  {instead: "write query: {drop: [NAME]}"},
	},
}

var triedInRoutes = map[string]tried{
	"headers": {instead: "write match: {headers: ...} for requests that have it, and rewrite: {request: {set: ...}} or rewrite: {response: {set: ...}} to set it"},
	"header":  {instead: "write match: {headers: ...} for requests that have it, and rewrite: {request: {set: ...}} or rewrite: {response: {set: ...}} to set it"},
	"auth":    {instead: noAuth}, "tls": {instead: noTLS}, "cors": {instead: noCORS}, "static": {instead: noFiles, key: "to"}, "root": {instead: noFiles, key: "to"},
	"files": {instead: noFiles, key: "to"}, "index": {instead: noFiles}, "try_files": {instead: noFiles}, "site": {instead: noFiles, key: "to"},
	"upstream":     {instead: "write to: upstream:NAME", key: "to"},
	"service":      {instead: "write to: service:NAME", key: "to"},
	"subject":      {instead: `write to: "nats:SUBJECT"`, key: "to"},
	"target":       {instead: "write to: upstream:NAME, to: service:NAME or to: nats:SUBJECT", key: "to"},
	"backend":      {instead: "write to: upstream:NAME", key: "to"},
	"proxy":        {instead: "write to: upstream:NAME, and the URL in targets of that upstream", key: "to"},
	"proxy_pass":   {instead: "write to: upstream:NAME, and the URL in targets of that upstream", key: "to"},
	"url":          {instead: "write path, and host if only one counts"},
	"uri":          {instead: "write path"},
	"prefix":       {instead: "write path: /prefix/*", key: "path"},
	"location":     {instead: "write path", key: "path"},
	"strip_prefix": {instead: `write rewrite: {path: "/{*}"}, where {*} is what /* matched`},
	"strip_path":   {instead: `write rewrite: {path: "/{*}"}, where {*} is what /* matched`},
	"query":        {instead: "match has headers, and no query yet; rewrite: {query: ...} changes it"},
	"cookies":      {instead: "match has headers, and no cookies yet"},
	"rate_limit":   {instead: "write limit: 100/15m", key: "limit"},
	"ratelimit":    {instead: "write limit: 100/15m", key: "limit"},
	"retry":        {instead: "write it in upstreams.NAME: a retry is the upstream's"},
	"retries":      {instead: "write retry: {tries: ...} in upstreams.NAME: a retry is the upstream's"},
	"health":       {instead: "write it in upstreams.NAME: health is the upstream's"},
	"balance":      {instead: "write it in upstreams.NAME: the upstream chooses its target"},
	"priority":     {instead: "leave it out: the most specific route wins, whatever the order"},
	"order":        {instead: "leave it out: the most specific route wins, whatever the order"},
	"compress":     {instead: "write cache: {compress: true}"},
	"gzip":         {instead: "write cache: {compress: true}"},
	"websocket":    {instead: "leave it out: WebSockets pass to services and upstreams as they come"},
	"websockets":   {instead: "leave it out: WebSockets pass to services and upstreams as they come"},
	"status":       {instead: "write respond: {status: ...}", key: "to"},
	"body":         {instead: "write respond: {body: ...}", key: "to"},
	"calls":        {instead: "write gather: {calls: ...}", key: "to"},
	"middlewares":  {instead: "what is done to requests stands in their route: rewrite, limit, cache"},
	"plugins":      {instead: "what is done to requests stands in their route: rewrite, limit, cache"},
}

var triedInUpstreams = map[string]tried{
	"url":     {instead: "write targets: [http://127.0.0.1:3000]", key: "targets"},
	"urls":    {instead: "write targets: [http://127.0.0.1:3000]", key: "targets"},
	"target":  {instead: "write targets: [http://127.0.0.1:3000]", key: "targets"},
	"servers": {instead: "write targets: [http://127.0.0.1:3000]", key: "targets"},
	"server":  {instead: "write targets: [http://127.0.0.1:3000]", key: "targets"},
	"hosts":   {instead: "write targets: [http://127.0.0.1:3000]", key: "targets"},
	"host":    {instead: "write targets: [http://127.0.0.1:3000], and rewrite: {host: ...} in the route for another Host", key: "targets"},
	"address": {instead: "write targets: [http://127.0.0.1:3000]", key: "targets"},
	"port":    {instead: "write targets: [http://127.0.0.1:3000]", key: "targets"},
	"path":    {instead: `requests keep their path: write rewrite: {path: "/v2/{*}"} in the route for another`},
	"tls":     {instead: "write the targets with https://: their certificates are checked against the system's"},
	"auth":    {instead: `write rewrite: {request: {set: {Authorization: "${SECRET}"}}} in the route`},
	"headers": {instead: "write rewrite: {request: {set: ...}} in the route"},
	"rewrite": {instead: "write it in the route"},
	"cache":   {instead: "write it in the route"},
	"limit":   {instead: "write it in the route; concurrency: {max: ...} bounds the requests at one target"},

	"strategy": {instead: "write balance: least or balance: hash:ip"}, "algorithm": {instead: "write balance: least or balance: hash:ip"},
	"policy": {instead: "write balance: least or balance: hash:ip"}, "load_balancing": {instead: "write balance: least or balance: hash:ip"},
	"lb": {instead: "write balance: least or balance: hash:ip"}, "sticky": {instead: "write balance: hash:cookie:NAME"},
	"retries":         {instead: "write retry: {tries: 3}"},
	"circuit_breaker": {instead: "write eject: {failures: 3}"},
	"health_check":    {instead: "write health: {path: /healthz}"},
	"healthcheck":     {instead: "write health: {path: /healthz}"},
	"max_connections": {instead: "write concurrency: {max: ...}: each request at a target has a connection of its own"},
	"keepalive":       {instead: "leave it out: connections are kept and used again"},
	"discovery":       {instead: "leave it out: each address of a target's host name is looked up, every resolve"},
}
