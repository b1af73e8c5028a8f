package edge

import (
	"context"
	"net/http"
	"slices"
	"time"

	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// cached is the cache policy of one route, and what it works with. It is made new with the settings, but for counts and
// for what runs.
type cached struct {
	s     *Server
	store *kvcache.Cache
	cfg   node.Cache
	rules httpcache.Rules
	route *route
	mark  string // fingerprint of the route: homes with another one don't fetch for this node
	keyed []byte // appended to every key of this route; empty but for routes that depend on fields
	next  Handler
	stats *cacheStats
	part  bool   // of a gather: no other node fetches for this one
	tied  bool   // a fetch ends with the request that began it
	to    string // the route's target
}

// newCached makes the policy of a route that caches.
func (s *Server) newCached(r *route, next Handler) *cached {
	c := &cached{
		s: s, store: s.cfg.Cache, cfg: *r.Cache, route: r, next: next, stats: s.cacheStats.of(r.id),
		mark: fingerprint(&r.Route), to: r.To.String(),
	}
	c.rules = httpcache.Rules{
		TTL: c.cfg.TTL.Std(), NegativeTTL: c.cfg.NegativeTTL.Std(), Force: c.cfg.Force,
		Heuristic:            c.cfg.Heuristic && c.cfg.TTL == 0,
		StaleWhileRevalidate: c.cfg.StaleWhileRevalidate.Std(), StaleIfError: c.cfg.StaleIfError.Std(),
		RequestDirectives: c.cfg.RequestDirectives, Cookies: httpcache.Cookies(c.cfg.Cookies),
		Targets: httpcache.DefaultTargets, Vary: c.cfg.Vary,
	}
	if len(r.Match.Headers) > 0 { // the same URL means something else on another route
		c.keyed = append(append(c.keyed, '\x01'), "route="+r.id...)
	}
	return c
}

// asPart makes it the policy of a call of a gather: its URLs are the target's, not the client's, and no other node
// knows them as a route. What it keeps is for calls of the same origin, route and name only, as long as the
// configuration doesn't change: others may send other fields.
func (c *cached) asPart(origin, route, call, target string) {
	for _, s := range []string{"call=" + origin, route, call, target, c.mark} {
		c.keyed = append(append(c.keyed, '\x01'), s...)
	}
	c.part, c.cfg.StripTags = true, false // the whole has the tags too, until its own cache strips them
}

// handle answers from the cache, or from what is behind it.
func (c *cached) handle(ctx context.Context, x *Exchange) (*mesh.Response, error) {
	if reason := c.passes(x); reason != "" {
		resp, err := c.pass(ctx, x, reason)
		if err != nil {
			x.cacheStatus = httpcache.Status{Fwd: reason}
		}
		return resp, err
	}
	if err := x.takeQuery(); err != nil {
		return nil, err
	}
	l := &x.room().found
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
		x.cacheStatus = httpcache.Status{Fwd: l.fwd()}
	}
	return resp, err
}

// takeQuery reads the body of a QUERY, which is a part of its key.
func (x *Exchange) takeQuery() error {
	if x.Incoming == nil || x.Method != "QUERY" {
		return nil
	}
	err := x.readBody()
	x.Incoming = nil // there is nothing left to take
	return err
}

var errNotStored = node.Errorf(node.CodeTimeout, nil,
	"no stored response is good enough, and the client wants no other")

// passes says why a request has nothing to do with the cache, as Cache-Status tells it; "" if it has. Preconditions of
// the origin's (RFC 9111 §4.3.2), Upgrade and a body that has no meaning let nobody pass by: a cache may ignore all of
// them.
func (c *cached) passes(x *Exchange) string {
	switch {
	case x.Method != http.MethodGet && x.Method != http.MethodHead && (x.Method != "QUERY" || !c.takes("QUERY")):
		return httpcache.FwdMethod
	case x.Socket, x.Method == "QUERY" && (x.Length < 0 || x.Length > maxQueryBody):
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

func (c *cached) takes(method node.Method) bool {
	return slices.Contains(c.cfg.Methods, method)
}

// pass sends a request on that has nothing to do with the cache, but for what its response makes invalid.
func (c *cached) pass(ctx context.Context, x *Exchange, why string) (*mesh.Response, error) {
	c.stats.passed.Add(1)
	resp, err := c.next(ctx, x)
	if err != nil {
		return resp, err
	}
	c.s.invalidate(ctx, x, resp)
	if x.Method == http.MethodPost && resp.Stream == nil && resp.Header.Has("Content-Location") {
		c.storePost(x, resp)
	}
	c.tell(x, resp, httpcache.Status{Fwd: why})
	return resp, nil
}

// tell writes Cache-Status into a response that didn't come from the cache.
func (c *cached) tell(x *Exchange, resp *mesh.Response, status httpcache.Status) {
	if c.cfg.StripTags {
		stripTags(&resp.Header)
	}
	if !c.part { // the whole heeds them as well
		resp.Header.Del(node.TargetedField)
		resp.Header.Del("Surrogate-Control")
	}
	resp.Header.Add("Cache-Status", string(status.Append(nil)))
	x.cacheStatus = status
}

func stripTags(h *mesh.Header) {
	h.Delete(func(f mesh.Field) bool {
		return equalFold(f.Name, "Cache-Tag") || equalFold(f.Name, "Surrogate-Key") || equalFold(f.Name, "xkey") ||
			equalFold(f.Name, "Cache-Groups")
	})
}

// endsWithin is how soon a body of unknown length must have ended to be stored under a freshness that the origin hasn't
// named. Pages and reports end; what keeps coming is a feed, of which nobody wants the beginning again.
const endsWithin = 5 * time.Second

// leastWait is how long a request waits at least for another's fetch of the same, before it goes on its own.
const leastWait = 5 * time.Second

// waitForOther is how long a request waits for another's fetch of the same: so long that all don't fall at once upon an
// origin that is slow, and half of its time is left when it goes on its own.
func (x *Exchange) waitForOther() time.Duration { return max(leastWait, x.timeout()/2) }

// passFor is how long requests of a URL don't wait for one another, after its response couldn't be stored.
const passFor = 2 * time.Minute
