package cache

import (
	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/node"
)

// keying says what of a request counts: whether the cache has anything to do with it, and under which key its response
// is stored.
type keying struct {
	cfg   node.Cache
	rules httpcache.Rules
	keyed []byte // appended to every key of this route; empty but for routes that depend on fields
}

// coding compresses what is stored, and knows what the origin has sent of it.
type coding struct{ keying }

// records looks for what is stored for the requests of a route, and for the marks that stand in its place.
type records struct {
	coding

	shared *Cache
	store  *kvcache.Cache
	route  *exchange.Route
	stats  *routeStats
	to     string // the route's target
}

// variants keeps the responses of one URL apart that depend on fields of their requests.
type variants struct{ records }

// writing stores responses: it says which may be, under which key, whole, in chunks or in parts.
type writing struct{ variants }

// target asks the target for parts of what is stored.
type target struct {
	writing

	next exchange.Handler
}

// serving answers from what is stored.
type serving struct {
	target

	part bool // of a gather: what only caches heed stays for the whole
}

// fetcher gets what isn't stored: from the bucket, from the key's home, or from the target.
type fetcher struct {
	serving

	mark string // fingerprint of the route: homes with another one don't fetch for this node
	tied bool   // a fetch ends with the request that began it
}
