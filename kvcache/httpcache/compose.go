package httpcache

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/node"
)

// Compose returns the caching fields of a response that is made of others with the given header fields. They allow no
// more, and for no longer, than each of the parts. ttl is the freshness that this cache gives responses whose origin
// names none, or 0. forOne means that one of the parts is for this request's client only. The fields are Cache-Control,
// for all caches; the targeted field for this cache, which must not be sent further (RFC 9213); Vary; and the tags by
// which parts can be purged.
func Compose(parts []node.Header, now time.Time, ttl time.Duration, forOne bool) node.Header {
	clients, own := newComposed(), newComposed()
	var vary []string
	var out node.Header
	for _, h := range parts {
		resp := &Response{Status: 200, Header: h, Requested: now, Received: now}
		c := ParseControl(h, false)
		c.SMaxAge = Absent // not meant for clients, and other caches may use less
		clients.add(resp, &c)
		c = ResponseControl(h, DefaultTargets)
		own.add(resp, &c)
		vary = append(vary, VaryNames(h)...)
		for _, f := range h {
			if tagField(f.Name) {
				out = append(out, f)
			}
		}
	}
	if clients.unspecified {
		clients.minFreshness = Absent
	}
	if own.unspecified {
		own.private = own.private || (forOne && ttl > 0)
		if own.minFreshness >= ttl { // then ttl counts, if anything does
			own.minFreshness = Absent
		}
	}
	if slices.Sort(vary); len(vary) > 0 {
		out.Add("Vary", strings.Join(slices.Compact(vary), ", "))
	}
	if s := clients.String(); s != "" {
		out.Add("Cache-Control", s)
	}
	if s := own.String(); s != "" {
		out.Add(node.TargetedField, s)
	}
	return out
}

// composed combines the directives of several responses.
type composed struct {
	noStore, private, noCache, noStale, noTransform bool

	sharable     bool          // each response may be stored although its request had Authorization
	unspecified  bool          // a response names no freshness
	minFreshness time.Duration // shortest remaining freshness of the responses that name one
}

func newComposed() composed { return composed{sharable: true, minFreshness: Absent} }

// add adds one response.
func (c *composed) add(resp *Response, d *Control) {
	c.noStore = c.noStore || d.NoStore
	c.private = c.private || d.Private || len(d.PrivateFields) > 0 || resp.Header.Has("Set-Cookie")
	c.noCache = c.noCache || d.NoCache || len(d.NoCacheFields) > 0
	c.noStale = c.noStale || d.MustRevalidate || d.ProxyRevalidate || d.SMaxAge != Absent
	c.noTransform = c.noTransform || d.NoTransform
	c.sharable = c.sharable && d.sharable
	fresh, by := (&Rules{}).lifetime(resp, d)
	if by != byOrigin {
		c.unspecified = true
		return
	}
	restrict(&c.minFreshness, max(fresh-initialAge(resp), 0))
}

// String returns the directives.
func (c *composed) String() string {
	if c.noStore {
		return "no-store"
	}
	var out []string
	say := func(yes bool, directive string) {
		if yes {
			out = append(out, directive)
		}
	}
	say(c.private, "private")
	say(c.noCache, "no-cache")
	if c.minFreshness != Absent {
		out = append(out, "max-age="+strconv.FormatInt(int64(c.minFreshness/time.Second), 10))
		say(c.sharable && !c.private, "public")
	}
	say(c.noStale, "proxy-revalidate") // unlike must-revalidate it doesn't allow sharing (RFC 9111 §3.5)
	say(c.noTransform, "no-transform")
	return strings.Join(out, ", ")
}
