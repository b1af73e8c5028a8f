package cache

import (
	"context"
	"strings"
	"time"

	"millrace/edge/exchange"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
)

// Explanation is what the cache would do with a request, and what it has stored for it.
type Explanation struct {
	Key     string     `json:"key,omitempty"`
	State   string     `json:"state"` // off, bypass, missing, not-stored, fresh, stale, to-validate or purged
	Why     string     `json:"why,omitempty"`
	In      string     `json:"in,omitempty"` // memory or bucket
	Status  int        `json:"status,omitempty"`
	Bytes   int64      `json:"bytes,omitempty"`
	Age     string     `json:"age,omitempty"`
	Fresh   string     `json:"fresh_for,omitempty"` // negative once it is stale
	Expires *time.Time `json:"expires,omitempty"`   // when its freshness ends
	Gone    *time.Time `json:"gone,omitempty"`      // when it leaves the store
	Vary    string     `json:"vary,omitempty"`
	Tags    []string   `json:"tags,omitempty"`
	Home    string     `json:"home,omitempty"` // id of the node that fetches it for all
	Leased  bool       `json:"leased"`         // this node receives purges
}

// Explain returns what the store has for the exchange. It reads memory, then the bucket.
func (s *Cache) Explain(ctx context.Context, x *exchange.Exchange) *Explanation {
	c := Of(x.Route)
	if c == nil {
		return &Explanation{State: "off", Why: "the route has no cache"}
	}
	out := &Explanation{Leased: c.store.Leased()}
	if why := c.bypasses(x); why != "" {
		out.State, out.Why = "bypass", why
		return out
	}
	l := c.look(x)
	out.In = "memory"
	if !l.hit && !l.uncacheable {
		out.In = "bucket"
		l.release()
		l = &lookup{c: &c.records, now: time.Now()}
		l.primary = c.appendKey(nil, x)
		l.key = l.primary
		l.find(x, func(key []byte, v *kvcache.View) bool { return c.store.Load(ctx, key, v) })
	}
	defer l.release()
	out.Key, out.Vary = string(l.primary[1:]), strings.ReplaceAll(l.vary, ";", " or ")
	if s.cfg.Peers != nil {
		out.Home = kvcache.Home(l.primary, s.cfg.Peers.Alive())
	}
	switch {
	case l.uncacheable:
		out.State, out.Why, out.In = "not-stored", l.why, ""
	case !l.hit:
		out.State, out.In = "missing", ""
		if l.valid == kvcache.Invalid {
			out.State, out.Why = "purged", "a purge reached the stored response"
		}
	default:
		c.explainHit(out, x, l)
	}
	return out
}

func (c *serving) explainHit(out *Explanation, x *exchange.Exchange, l *lookup) {
	rec := &l.rec
	left := rec.Stored.Remaining(l.now)
	ends, gone := l.now.Add(left).UTC().Truncate(time.Second), l.view.Expires.UTC()
	out.Status, out.Bytes, out.Expires, out.Gone = rec.Stored.Status, rec.Length, &ends, &gone
	out.Age, out.Fresh = rec.Stored.Age(l.now).Truncate(time.Second).String(), left.Truncate(time.Second).String()
	out.Tags = httpcache.Tags(rec.Header(), originOf(string(keyURL(l.primary))))
	switch l.use(x) {
	case httpcache.UseFresh:
		out.State = "fresh"
	case httpcache.UseRefresh:
		out.State, out.Why = "stale", "served while it is fetched anew"
	case httpcache.UseValidate, httpcache.UseNever:
		out.State, out.Why = "to-validate", "the origin is asked before each use"
		switch {
		case l.crossOrigin:
			out.Why = "a page of another origin asks, and it doesn't say who may read it"
		case !l.leased:
			out.Why = "this node can't hear of purges at the moment"
		case l.valid == kvcache.Stale:
			out.Why = "a soft purge reached it"
		case left <= 0:
			out.Why = "it is stale"
		}
	}
}
