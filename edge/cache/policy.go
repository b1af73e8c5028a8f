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

// Policy is the cache of one route. It is made new with the settings, but for counts and for what runs.
//
// Each of the types that it is made of has one subject, and knows those that stand before it: keying says what of a
// request counts, coding compresses, records looks for what
// is stored, variants keeps responses of one URL apart, writing stores them, target asks the target for what has left
// the store, serving answers from what is stored, and fetcher gets what isn't.
type Policy struct{ fetcher }

// Of gives the cache of a route; nil if it doesn't cache.
func Of(r *exchange.Route) *Policy { return exchange.Of[*Policy](r) }

// Policy makes the policy of a route that caches.
func (s *Cache) Policy(r *exchange.Route) exchange.Policy {
	c := s.newPolicy(r)
	return exchange.Policy{Name: "cache", Wrap: c.wrap, Short: c.short(), Reads: c.keys, Value: c}
}

// Part says of which call a policy is that caches the results of a gather's call.
type Part struct {
	Origin string // who wrote the call: route, or a member
	Route  string // id of the route that gathers
	Call   string
	Tied   bool // a fetch ends with the request that began it
}

// PartPolicy makes the policy of a gather's call.
func (s *Cache) PartPolicy(r *exchange.Route, part Part) exchange.Policy {
	c := s.newPolicy(r)
	c.asPart(part)
	return exchange.Policy{Name: "cache", Wrap: c.wrap, Reads: c.keys, Value: c}
}

func (s *Cache) newPolicy(r *exchange.Route) *Policy {
	c := &Policy{}
	c.shared, c.store, c.route, c.stats, c.to = s, s.store, r, s.stats.of(r.ID), r.To.String()
	c.mark = fingerprint(&r.Route)
	c.cfg = *r.Cache
	c.rules = httpcache.Rules{
		TTL: c.cfg.TTL.Std(), NegativeTTL: c.cfg.NegativeTTL.Std(), Force: c.cfg.Force,
		Heuristic:            c.cfg.Heuristic && c.cfg.TTL == 0,
		StaleWhileRevalidate: c.cfg.StaleWhileRevalidate.Std(), StaleIfError: c.cfg.StaleIfError.Std(),
		RequestDirectives: c.cfg.RequestDirectives, Cookies: httpcache.Cookies(c.cfg.Cookies),
		Targets: httpcache.DefaultTargets, Vary: c.cfg.Vary,
	}
	if len(r.Match.Headers) > 0 { // the same URL means something else on another route
		c.keyed = append(append(c.keyed, '\x01'), "route="+r.ID...)
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

// TTL is how long responses are fresh whose origin names no freshness; 0 if it must.
func (c *Policy) TTL() time.Duration { return c.cfg.TTL.Std() }

// Personal reports whether a response to the exchange may be for its client alone, unless the origin says otherwise.
func (c *Policy) Personal(x *exchange.Exchange) bool { return c.personal(x) != "" }

// asPart makes it the policy of a call of a gather: its URLs are the target's, not the client's, and no other node
// knows them as a route. What it keeps is for calls of the same origin, route and name only, as long as the
// configuration doesn't change: others may send other fields.
func (c *Policy) asPart(p Part) {
	for _, s := range []string{"call=" + p.Origin, p.Route, p.Call, c.to, c.mark} {
		c.keyed = append(append(c.keyed, '\x01'), s...)
	}
	c.part, c.tied, c.cfg.StripTags = true, p.Tied, false // the whole has the tags too, until its own cache strips them
}

// handle answers from the cache, or from what is behind it.
func (c *Policy) handle(ctx context.Context, x *exchange.Exchange) (*mesh.Response, error) {
	if reason := c.bypasses(x); reason != "" {
		resp, err := c.bypass(ctx, x, reason)
		if err != nil {
			x.Outcome.Cache = httpcache.Status{Fwd: reason}
		}
		return resp, err
	}
	if err := takeQuery(x); err != nil {
		return nil, err
	}
	l := &scratchOf(x).lookup
	c.lookInto(x, l, time.Now())
	defer l.release()
	if resp := c.answer(x, l); resp != nil {
		c.hit(x, resp)
		return resp, nil
	}
	if c.cfg.RequestDirectives && httpcache.ParseControl(x.Header, true).OnlyIfCached {
		return nil, errNotStored
	}
	resp, err := c.miss(ctx, x, l)
	if err != nil { // problems tells it
		x.Outcome.Cache = httpcache.Status{Fwd: l.fwd()}
	}
	return resp, err
}

// takeQuery reads the body of a QUERY, which is a part of its key.
func takeQuery(x *exchange.Exchange) error {
	if x.Incoming == nil || x.Method != "QUERY" {
		return nil
	}
	err := x.ReadBody()
	x.Incoming = nil // there is nothing left to take
	return err
}

var errNotStored = node.Errorf(node.CodeTimeout, nil,
	"no stored response is good enough, and the client wants no other")

// bypasses says why a request has nothing to do with the cache, as Cache-Status tells it; "" if it has. Preconditions
// of the origin's (RFC 9111 §4.3.2), Upgrade and a body that has no meaning are no reason: a cache may ignore all of
// them.
func (c *keying) bypasses(x *exchange.Exchange) string {
	switch {
	case x.Method != http.MethodGet && x.Method != http.MethodHead && (x.Method != "QUERY" || !c.takes("QUERY")):
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

func (c *keying) takes(method node.Method) bool {
	return slices.Contains(c.cfg.Methods, method)
}

// bypass sends a request on that has nothing to do with the cache, but for what its response makes invalid.
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
	c.tell(x, resp, httpcache.Status{Fwd: why})
	return resp, nil
}

// tell writes Cache-Status into a response that didn't come from the cache.
func (c *serving) tell(x *exchange.Exchange, resp *mesh.Response, status httpcache.Status) {
	if c.cfg.StripTags {
		stripTags(&resp.Header)
	}
	if !c.part { // the whole heeds them as well
		resp.Header.Del(node.TargetedField)
		resp.Header.Del("Surrogate-Control")
	}
	resp.Header.Add("Cache-Status", string(status.Append(nil)))
	x.Outcome.Cache = status
}

func stripTags(h *mesh.Header) {
	h.Delete(func(f mesh.Field) bool {
		return node.SameName(f.Name, "Cache-Tag") || node.SameName(f.Name, "Surrogate-Key") || node.SameName(f.Name,
			"xkey") ||
			node.SameName(f.Name, "Cache-Groups")
	})
}

// endsWithin is how soon a body of unknown length must have ended to be stored under a freshness that the origin hasn't
// named. Pages and reports end; what keeps coming is a feed, of which nobody wants the beginning again.
const endsWithin = 5 * time.Second

// leastWait is how long a request waits at least for another's fetch of the same, before it goes on its own.
const leastWait = 5 * time.Second

// maxWait is how long a request waits for another's fetch of the same: so long that all don't fall at once upon an
// origin that is slow, and half of its time is left when it goes on its own.
func maxWait(x *exchange.Exchange) time.Duration { return max(leastWait, x.Timeout()/2) }

// passFor is how long requests of a URL don't wait for one another, after its response couldn't be stored.
const passFor = 2 * time.Minute
