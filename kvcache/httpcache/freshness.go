package httpcache

import (
	"time"

	"millrace/node"
)

// source says who named a freshness.
type source int

const (
	nobody source = iota
	byOrigin
	byRoute
	byHeuristic
)

// lifetime gives how long a response is fresh from its Date, and who says so (RFC 9111 §4.2.1): a targeted field or
// Cache-Control with s-maxage before max-age, then Expires, then the route, then the heuristic.
func (r *Rules) lifetime(resp *Response, c *Control) (time.Duration, source) {
	own := r.ownTTL(resp.Status)
	switch {
	case r.Force && own > 0:
		return own, byRoute
	case c.SMaxAge != Absent:
		return c.SMaxAge, byOrigin
	case c.MaxAge != Absent:
		return c.MaxAge, byOrigin
	case !c.Targeted && resp.Header.Has("Expires"):
		return expires(resp), byOrigin
	case own > 0:
		return own, byRoute
	case r.Heuristic && (HeuristicallyCacheable(resp.Status) || c.Public):
		return heuristic(resp), byHeuristic
	}
	return 0, nobody
}

// ownTTL is what the route says about a status: successes have TTL, errors that are cacheable by default NegativeTTL.
func (r *Rules) ownTTL(status int) time.Duration {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308:
		return r.TTL
	case 404, 405, 410, 414, 501:
		return r.NegativeTTL
	}
	return 0
}

// expires is Expires less Date, never less now (RFC 9111 §4.2.1). What isn't one valid date lies in the past (§5.3).
func expires(resp *Response) time.Duration {
	values := resp.Header.Values("Expires")
	if len(values) != 1 {
		return 0
	}
	at, ok := ParseDate(values[0], resp.Received)
	if !ok {
		return 0
	}
	return min(max(at.Sub(date(resp)), 0), MaxAge*time.Second)
}

// date is when the origin made the response, or when it came if it doesn't say (RFC 9110 §6.6.1).
func date(resp *Response) time.Time {
	if t, ok := ParseDate(resp.Header.Get("Date"), resp.Received); ok {
		return t
	}
	return resp.Received
}

// heuristic is a tenth of the time that the content hasn't changed, within bounds (RFC 9111 §4.2.2).
func heuristic(resp *Response) time.Duration {
	modified, ok := ParseDate(resp.Header.Get("Last-Modified"), resp.Received)
	if !ok {
		return 0
	}
	return min(max(date(resp).Sub(modified)/10, 0).Truncate(time.Second), HeuristicCap)
}

// HeuristicallyCacheable reports whether a status may be given a freshness that nobody named (RFC 9110 §15.1).
func HeuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// initialAge is the age of a response when it came (RFC 9111 §4.2.3): the larger of what its Date and what its Age
// tell, the way included.
func initialAge(resp *Response) time.Duration {
	apparent := elapsed(date(resp), resp.Received)
	corrected := ageValue(resp.Header) + elapsed(resp.Requested, resp.Received)
	return min(max(apparent, corrected), MaxAge*time.Second)
}

// ClockAhead is by how much this node's clock is ahead of the one that made a response's Date, negative if it is
// behind; 0 if nothing shows that they differ. A response with an Age has been kept somewhere, so its Date shows
// nothing.
func ClockAhead(resp *Response) time.Duration {
	made, ok := ParseDate(resp.Header.Get("Date"), resp.Received)
	if !ok || resp.Header.Has("Age") {
		return 0
	}
	const second = time.Second // which a Date is cut to
	if ahead := resp.Requested.Sub(made) - second; ahead > 0 {
		return ahead
	}
	return min(resp.Received.Sub(made)+second, 0)
}

// StaleByClock reports whether a response is stale as it comes for no other reason than that its clock and this node's
// differ.
func (s *Stored) StaleByClock(resp *Response) bool {
	return ClockAhead(resp) > 0 && !s.Flags.Has(NoCache) && s.Lifetime <= s.InitialAge &&
		s.Lifetime > elapsed(resp.Requested, resp.Received)
}

// elapsed is bounded, so that a sum of two never overflows into a negative age, which would be fresh for ever.
func elapsed(from, to time.Time) time.Duration {
	return min(max(to.Sub(from), 0), MaxAge*time.Second)
}

// ageValue is the first Age; one that isn't a number of seconds is ignored (RFC 9111 §5.1).
func ageValue(h node.Header) time.Duration {
	list := words(h.Values("Age"))
	if len(list) == 0 {
		return 0
	}
	n, _ := seconds(list[0])
	return time.Duration(n) * time.Second
}
