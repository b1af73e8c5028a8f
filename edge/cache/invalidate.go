package cache

import (
	"context"
	"net/http"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
)

// invalidate invalidates the stored responses that an unsafe request may have changed (RFC 9111 §4.4, RFC 9875 §3).
func (s *Cache) invalidate(ctx context.Context, x *exchange.Exchange, resp *mesh.Response) {
	if !httpcache.Invalidates(x.Method, resp.Status) {
		return
	}
	get, c := s.getPolicy(x)
	if c == nil {
		return
	}
	urls, keys := c.storedNames(ctx, get)
	url := urls[0]
	for _, u := range httpcache.Invalidated(url, resp.Header) {
		if u, ok := canonicalURL(x.Scheme, u); ok {
			urls, keys = append(urls, u), append(keys, append([]byte{byte(kvcache.SpaceResponse)}, u...))
		}
	}
	c.store.Invalidate(ctx, urls, keys, httpcache.InvalidatedGroups(resp.Header, originOf(url)))
}

// getPolicy returns a GET of the exchange's URL and the policy that stores its responses; nil if its route doesn't
// cache.
func (s *Cache) getPolicy(x *exchange.Exchange) (get *exchange.Exchange, c *Policy) {
	get = detach(x)
	get.Method, get.Body = http.MethodGet, nil
	get.Route = get.Settings.Find(get)
	return get, Of(get.Route)
}

// storedNames returns the URLs under which responses to a GET are stored, and their keys: its own, and what
// No-Vary-Search leaves of it.
func (c *writing) storedNames(ctx context.Context, get *exchange.Exchange) (urls []string, keys [][]byte) {
	primary := c.appendKey(nil, get)
	keys = append(keys, primary)
	if reduced := c.reducedKey(get, primary, func(key []byte, v *kvcache.View) bool {
		return c.store.Get(key, v) || c.store.Load(ctx, key, v)
	}); reduced != nil {
		keys = append(keys, reduced)
	}
	for _, key := range keys {
		urls = append(urls, string(keyURL(key)))
	}
	return urls, keys
}
