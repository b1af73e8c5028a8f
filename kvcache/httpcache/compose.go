package httpcache

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"millrace/node"
)

// Compose gives the fields that say how a response may be cached which is made of others, with those header fields:
// never for more, nor for longer, than each of them may be. ttl is what this cache gives responses whose origin names
// no freshness, 0 for nothing, and forOne says that one of them is good for this request's client only. The fields are
// Cache-Control, for all caches, and the targeted field for this one, which mustn't be sent further (RFC 9213); Vary,
// and the tags with which parts can be purged.
func Compose(parts []node.Header, now time.Time, ttl time.Duration, forOne bool) node.Header {
	clients, own := newComposed(), newComposed()
	var vary []string
	var out node.Header
	for _, h := range parts {
		resp := &Response{Status: 200, Header: h, Requested: now, Received: now}
		c := ParseControl(h, false)
		c.SMaxAge = Absent // is not for clients, and other caches may do with less
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
	if clients.silent {
		clients.least = Absent
	}
	if own.silent {
		own.private = own.private || (forOne && ttl > 0)
		if own.least >= ttl { // then it is ttl that counts, if anything does
			own.least = Absent
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

// composed is what the directives of several responses say together.
type composed struct {
	noStore, private, noCache, noStale, noTransform bool

	shared bool          // each says that the answer to a request with Authorization is for all
	silent bool          // one names no freshness
	least  time.Duration // of the freshness that is left, of those that name one
}

func newComposed() composed { return composed{shared: true, least: Absent} }

// add takes in one response.
func (c *composed) add(resp *Response, d *Control) {
	c.noStore = c.noStore || d.NoStore
	c.private = c.private || d.Private || len(d.PrivateFields) > 0 || resp.Header.Has("Set-Cookie")
	c.noCache = c.noCache || d.NoCache || len(d.NoCacheFields) > 0
	c.noStale = c.noStale || d.MustRevalidate || d.ProxyRevalidate || d.SMaxAge != Absent
	c.noTransform = c.noTransform || d.NoTransform
	c.shared = c.shared && d.shared
	fresh, by := (&Rules{}).lifetime(resp, d)
	if by != byOrigin {
		c.silent = true
		return
	}
	restrict(&c.least, max(fresh-initialAge(resp), 0))
}

// String writes the directives.
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
	if c.least != Absent {
		out = append(out, "max-age="+strconv.FormatInt(int64(c.least/time.Second), 10))
		say(c.shared && !c.private, "public")
	}
	say(c.noStale, "proxy-revalidate") // which, unlike must-revalidate, doesn't say that it is for all (RFC 9111 §3.5)
	say(c.noTransform, "no-transform")
	return strings.Join(out, ", ")
}
