package cache

import (
	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/node"
)

// keying decides which parts of a request count: whether the cache applies to it, and under which key its response is
// stored.
type keying struct {
	cfg       node.Cache
	rules     httpcache.Rules
	keySuffix []byte // appended to every key of this route; empty unless the route matches fields or is a gather's call
}

// coding compresses what is stored, and restores the fields that the origin had sent for it.
type coding struct{ keying }

// records looks up what is stored for the requests of a route, and the marks in place of a response
// (httpcache.KindPass and KindGone), and of an origin that is down.
type records struct {
	coding

	shared *Cache
	store  *kvcache.Cache
	route  *exchange.Route
	stats  *routeStats
	to     string // the route's target
}

// variants tells the responses of one URL apart that depend on fields of their requests.
type variants struct{ records }

// writing stores responses: it decides which may be stored, under which key, and whether whole, in chunks or as parts.
type writing struct{ variants }

// target asks the target for parts of stored responses.
type target struct {
	writing

	next exchange.Handler
}

// serving answers from the store.
type serving struct {
	target

	part bool // of a gather: fields for caches stay for the cache of the gathered response
}

// fetcher gets what isn't stored: from the bucket, from the key's home node, or from the target.
type fetcher struct {
	serving

	fingerprint     string // of the route: a home whose route has another one doesn't fetch for this node
	endsWithRequest bool   // a fetch is canceled with the request that began it
}
