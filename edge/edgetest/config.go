package edgetest

import "millrace/node"

// Config says what a Rig has. The zero value is an edge with the standard settings and without routes.
type Config struct {
	Routes []node.Route
	Edge   func(*node.Edge) // changes the standard settings; nil leaves them as they are
	Cache  *CacheConfig     // nil for no cache
	Limits *LimitsConfig    // nil for no limiter
	Sites  *Sites           // nil for none
	Beside *Rig             // the rig whose NATS server, services and cache this one uses; nil for some of its own
}

// CacheConfig is a cache of 64 MiB of memory and a bucket of 64 MiB.
type CacheConfig struct {
	Store  func(*node.CacheStore) // changes that; nil leaves it
	Shared bool                   // the node isn't the only one of its cluster
	Apart  bool                   // the cache has a NATS server of its own
	Slow   *SlowServer            // likewise, whose answers may take a while
}

// LimitsConfig is a limiter. An edge with one trusts proxies in 127.0.0.0/8, so that X-Forwarded-For gives a test's
// requests any address. Config.Edge may change that.
type LimitsConfig struct {
	Named map[string]node.Limit // what stands under limits in a configuration
	Away  bool                  // the store never answers
	Apart bool                  // the limits have a NATS server of their own
}

// Routed is an edge with these routes.
func Routed(routes ...node.Route) Config { return Config{Routes: routes} }

// Limited is an edge with a limiter and these routes.
func Limited(routes ...node.Route) Config { return Config{Routes: routes, Limits: &LimitsConfig{}} }

// Cached is an edge with a cache and one route for all paths, to the service origin. The cache function changes what
// the route says of the cache; nil leaves the standard. The other functions change the whole.
func Cached(cache func(*node.Cache), change ...func(*Config)) Config {
	cfg := Config{Routes: []node.Route{CachedRoute("/*", cache)}, Cache: &CacheConfig{}}
	for _, f := range change {
		f(&cfg)
	}
	return cfg
}
