package edge

import "millrace/edge/cache"

type (
	CacheStats       = cache.Stats
	CacheExplanation = cache.Explanation
	Peers            = cache.Peers
)

var (
	PurgeTarget  = cache.PurgeTarget
	PrefixPurges = cache.PrefixPurges
)
