package cache

import (
	"context"
	"net/http"
	"slices"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// Policy is the cache of one route. New settings make a new one; counts and running fetches belong to Cache and go on.
//
// It is built from types that each have one subject and use those named before them: keying computes keys, coding
// compresses, records looks up what is stored, variants tells the responses of one URL apart, writing stores them,
// target asks the target for chunks that have left the store, serving answers from the store, and fetcher gets what
// isn't stored.
type Policy struct{ fetcher }

// Of returns the cache of a route; nil if the route doesn't cache.
func Of(r *exchange.Route) *Policy { return exchange.Of[*Policy](r) }

// Policy returns the policy of a route that caches.
func (s *Cache) Policy(r *exchange.Route) exchange.Policy {
	c := s.newPolicy(r)
	return exchange.Policy{Name: "cache", Wrap: c.wrap, Short: c.short(), Reads: c.keys, Value: c}
}

// Part identifies the call of a gather whose results a policy caches.
type Part struct {
	Origin string // what wrote the call: "route", or a member
	Route  string // id of the route that gathers
	Call   string
	Tied   bool // a fetch ends with the request that began it
}

// PartPolicy returns the policy that caches the results of a gather's call.
func (s *Cache) PartPolicy(r *exchange.Route, part Part) exchange.Policy {
	c := s.newPolicy(r)
	c.asPart(part)
	return exchange.Policy{Name: "cache", Wrap: c.wrap, Reads: c.keys, Value: c}
}

func (s *Cache) newPolicy(r *exchange.Route) *Policy {
	c := &Policy{}
	c.shared, c.store, c.route, c.stats, c.to = s, s.store, r, s.stats.of(r.ID), r.Origin().String()
	c.fingerprint = fingerprint(&r.Route)
	c.cfg = *r.Cache
	c.rules = httpcache.Rules{
		TTL: c.cfg.TTL.Std(), NegativeTTL: c.cfg.NegativeTTL.Std(), Force: c.cfg.Force,
		Heuristic:            c.cfg.Heuristic && c.cfg.TTL == 0,
		StaleWhileRevalidate: c.cfg.StaleWhileRevalidate.Std(), StaleIfError: c.cfg.StaleIfError.Std(),
		RequestDirectives: c.cfg.RequestDirectives, Cookies: httpcache.Cookies(c.cfg.Cookies),
		Targets: httpcache.DefaultTargets, Vary: c.cfg.Vary,
	}
	if len(r.Match.Headers) > 0 { // the same URL means something else on another route
		c.keySuffix = append(append(c.keySuffix, '\x01'), "route="+r.ID...)
	}
	return c
}

func (c *Policy) wrap(next exchange.Handler) exchange.Handler {
	c.next = next
	return func(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
		resp, err := c.handle(ctx, x)
		if !x.Outcome.Cache.Hit {
			c.shared.origins.note(x)
		}
		return resp, err
	}
}

// TTL returns how long a response is fresh if its origin names no freshness; 0 if only the origin can name one.
func (c *Policy) TTL() time.Duration { return c.cfg.TTL.Std() }

// Personal reports whether a response to the exchange may be for its client alone, unless the origin says otherwise.
func (c *Policy) Personal(x *exchange.Exchange) bool { return c.personal(x) != "" }

// asPart turns the policy into that of a gather's call. The URLs are the target's, not the client's, and no other node
// has a route for them. Results are shared only between calls of the same origin, route and name under the same
// configuration, because other calls may send other fields.
func (c *Policy) asPart(p Part) {
	for _, s := range []string{"call=" + p.Origin, p.Route, p.Call, c.to, c.fingerprint} {
		c.keySuffix = append(append(c.keySuffix, '\x01'), s...)
	}
	c.part, c.endsWithRequest = true, p.Tied
	c.cfg.StripTags = false // the gathered response keeps the tags, until its own cache strips them
}

// handle answers from the cache, or from the handler behind it.
func (c *Policy) handle(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	if reason := c.bypasses(x); reason != "" {
		resp, err := c.bypass(ctx, x, reason)
		if err != nil {
			x.Outcome.Cache = httpcache.Status{Fwd: reason}
		}
		return resp, err
	}
	if err := readQuery(x); err != nil {
		return nil, err
	}
	l := &scratchOf(x).lookup
	c.lookInto(x, l, time.Now())
	defer l.release()
	if resp := c.answer(x, l); resp != nil {
		c.countHit(x, resp)
		return resp, nil
	}
	if c.cfg.RequestDirectives && httpcache.ParseControl(x.Header, true).OnlyIfCached {
		return nil, errNotStored
	}
	resp, err := c.miss(ctx, x, l)
	if err != nil { // the policy that writes problems also writes Cache-Status
		x.Outcome.Cache = httpcache.Status{Fwd: l.fwd()}
	}
	return resp, err
}

// readQuery reads the body of a QUERY, which is a part of its key.
func readQuery(x *exchange.Exchange) error {
	if x.Incoming == nil || x.Method != "QUERY" {
		return nil
	}
	err := x.ReadBody()
	x.Incoming = nil // the whole body has been read
	return err
}

var errNotStored = node.Errorf(node.CodeTimeout, nil,
	"no stored response is good enough, and the client wants no other")

// bypasses returns why the cache doesn't apply to a request, in the words of Cache-Status; "" if it applies.
// Preconditions that only an origin evaluates (RFC 9111 §4.3.2), Upgrade, and a body without meaning are no reason: a
// cache may ignore all of them.
func (c *keying) bypasses(x *exchange.Exchange) string {
	switch {
	case x.Method != http.MethodGet && x.Method != http.MethodHead && (x.Method != "QUERY" || !c.caches("QUERY")):
		return httpcache.FwdMethod
	case x.Upgrade.Socket, x.Method == "QUERY" && (x.Length < 0 || x.Length > maxQueryBody):
		return httpcache.FwdBypass
	}
	for _, part := range c.cfg.Bypass {
		if _, has := part.Of(x.Header); has {
			return httpcache.FwdBypass
		}
	}
	return ""
}

// maxQueryBody bounds the body of a QUERY whose response is cached.
const maxQueryBody = 64 << 10

func (c *keying) caches(method node.Method) bool {
	return slices.Contains(c.cfg.Methods, method)
}

// bypass forwards a request to which the cache doesn't apply. Its response may still invalidate what is stored.
func (c *Policy) bypass(ctx context.Context, x *exchange.Exchange, why string) (*mesh.Response, error) {
	c.stats.bypassed.Add(1)
	resp, err := c.next(ctx, x)
	if err != nil {
		return resp, err
	}
	c.shared.invalidate(ctx, x, resp)
	if x.Method == http.MethodPost && resp.Stream == nil && resp.Header.Has("Content-Location") {
		c.storePost(x, resp)
	}
	c.writeStatus(x, resp, httpcache.Status{Fwd: why})
	return resp, nil
}

// writeStatus adds Cache-Status to a response that didn't come from the cache.
func (c *serving) writeStatus(x *exchange.Exchange, resp *mesh.Response, status httpcache.Status) {
	if c.cfg.StripTags {
		stripTags(&resp.Header)
	}
	if !c.part { // the cache of the gathered response needs these fields
		resp.Header.Del(node.TargetedField)
		resp.Header.Del("Surrogate-Control")
	}
	resp.Header.Add("Cache-Status", string(status.Append(nil)))
	x.Outcome.Cache = status
}

func stripTags(h *mesh.Header) {
	h.Delete(func(f mesh.Field) bool {
		return node.SameName(f.Name, "Cache-Tag") || node.SameName(f.Name, "Surrogate-Key") ||
			node.SameName(f.Name, "xkey") || node.SameName(f.Name, "Cache-Groups")
	})
}

// endsWithin is how soon a body of unknown length must have ended to be stored under a freshness that the origin hasn't
// named. Pages and reports end. A body that goes on is a feed, and its beginning is of no use to a later client.
const endsWithin = 5 * time.Second

// minWait is the shortest time that a request waits for another request's fetch before it sends its own.
const minWait = 5 * time.Second

// maxWait returns how long a request waits for another request's fetch of the same key. It is long enough that waiting
// requests don't all reach a slow origin at once, and it leaves the request half of its time to send its own.
func maxWait(x *exchange.Exchange) time.Duration { return max(minWait, x.Timeout()/2) }

// uncacheableFor is how long the requests of a URL don't wait for one another after its response couldn't be stored.
const uncacheableFor = 2 * time.Minute
