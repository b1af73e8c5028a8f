package edge

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// invalidates lets unsafe requests of a route that doesn't cache invalidate what another route has stored of their URL.
func (s *Server) invalidates(next Handler) Handler {
	return func(ctx context.Context, x *Exchange) (*mesh.Response, error) {
		resp, err := next(ctx, x)
		if err == nil && x.settings.caches {
			s.invalidate(ctx, x, resp)
		}
		return resp, err
	}
}

// invalidate makes stored responses invalid that an unsafe request may have changed (RFC 9111 §4.4, RFC 9875 §3).
func (s *Server) invalidate(ctx context.Context, x *Exchange, resp *mesh.Response) {
	if !httpcache.Invalidates(x.Method, resp.Status) {
		return
	}
	get, c := s.stores(x)
	if c == nil {
		return
	}
	urls, keys := c.names(ctx, get)
	url := urls[0]
	for _, u := range httpcache.Invalidated(url, resp.Header) {
		if u, ok := canonicalURL(x.Scheme, u); ok {
			urls, keys = append(urls, u), append(keys, append([]byte{'G'}, u...))
		}
	}
	c.store.Invalidate(ctx, urls, keys, httpcache.InvalidatedGroups(resp.Header, origin(url)))
}

// stores gives a GET of the exchange's URL and the policy that stores its responses; nil if its route doesn't cache.
func (s *Server) stores(x *Exchange) (get *Exchange, c *cached) {
	get = x.detach()
	get.Method, get.Body = http.MethodGet, nil
	get.route = get.settings.route(get)
	return get, get.route.cached
}

// names gives the URLs under which responses to a GET are stored, and their keys: its own, and what No-Vary-Search
// leaves of it.
func (c *cached) names(ctx context.Context, get *Exchange) (urls []string, keys [][]byte) {
	primary := c.appendKey(nil, get)
	keys = append(keys, primary)
	if reduced := c.reduced(get, primary, func(key []byte, v *kvcache.View) bool {
		return c.store.Get(key, v) || c.store.Load(ctx, key, v)
	}); reduced != nil {
		keys = append(keys, reduced)
	}
	for _, key := range keys {
		urls = append(urls, string(keyURL(key)))
	}
	return urls, keys
}

// purgeTime bounds a PURGE.
const purgeTime = 5 * time.Second

// purge answers the PURGE method of a client that may use it: all variants of the URL are gone from every node when it
// is answered.
func (s *Server) purge(ctx context.Context, x *Exchange) (*mesh.Response, error) {
	allowed := false
	for _, p := range s.cfg.Store.PurgeClients {
		allowed = allowed || p.Contains(x.Client)
	}
	if !allowed {
		return nil, node.Errorf(node.CodeForbidden, nil, "this client may not purge: see cache.purge_clients")
	}
	ctx, cancel := context.WithTimeout(ctx, purgeTime)
	defer cancel()
	done, err := s.cfg.Cache.Purge(ctx, s.URLPurges(ctx, x.Scheme+"://"+x.Host+x.Path+x.Query, false), true)
	if err != nil {
		return nil, node.Errorf(node.CodeUnavailable, err,
			"the purge can't be written, or not every node has applied it")
	}
	body := `{"sequence": ` + strconv.FormatUint(done.Sequence, 10) + `, "nodes": ` + strconv.Itoa(len(done.Nodes)) +
		"}\n"
	return &mesh.Response{
		Status: http.StatusOK, Header: mesh.Header{{Name: "Content-Type", Value: "application/json"}},
		Body: []byte(body),
	}, nil
}

// URLPurges gives the purges of one URL as clients ask for it: of its canonical form, and of what its route and
// No-Vary-Search leave of its query. What isn't a URL purges nothing.
func (s *Server) URLPurges(ctx context.Context, url string, soft bool) []kvcache.Purge {
	out := urlPurges(url, soft)
	x := &Exchange{Method: http.MethodGet, Target: url, HTTP10: true, Scheme: "http", Started: time.Now()}
	if x.enter(s.settings.Load(), s.via); len(out) == 0 || x.refusal != nil {
		return out
	}
	get, c := s.stores(x)
	if c == nil {
		return out
	}
	names, _ := c.names(ctx, get)
	for _, name := range names {
		for _, p := range urlPurges(name, soft) {
			if !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// urlPurges gives the purges of one URL with both schemes: whether the client or a proxy spoke TLS makes no difference
// to the application.
func urlPurges(url string, soft bool) []kvcache.Purge {
	var out []kvcache.Purge
	for _, scheme := range [...]string{"http", "https"} {
		if text, ok := canonicalURL(scheme, url); ok {
			out = append(out, kvcache.Purge{Reach: kvcache.ReachURL, Text: text, Soft: soft})
		}
	}
	return out
}

// PrefixPurges gives the purges of every URL that begins so, or of every path.
func PrefixPurges(prefix string, soft bool) []kvcache.Purge {
	if strings.HasPrefix(prefix, "/") {
		return pathPurges(prefix, kvcache.ReachPrefix, soft)
	}
	out := urlPurges(prefix, soft)
	for i := range out {
		out[i].Reach = kvcache.ReachPrefix
	}
	return out
}
