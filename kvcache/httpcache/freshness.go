package httpcache

import (
	"time"

	"millrace/node"
)

// source says who named a freshness.
type source int

const (
	byNobody source = iota
	byOrigin
	byRoute
	byHeuristic
)

// lifetime returns how long a response is fresh from its Date, and who says so (RFC 9111 §4.2.1): a targeted field or
// Cache-Control, with s-maxage before max-age; then Expires; then the route; then the heuristic.
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
	return 0, byNobody
}

// ownTTL returns the route's freshness for a status: TTL for successes, NegativeTTL for errors that are cacheable by
// default.
func (r *Rules) ownTTL(status int) time.Duration {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308:
		return r.TTL
	case 404, 405, 410, 414, 501:
		return r.NegativeTTL
	}
	return 0
}

// expires returns Expires minus Date, not minus now (RFC 9111 §4.2.1). Anything but one valid date means stale (§5.3).
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

// date returns when the origin made the response, or when it arrived if it doesn't say (RFC 9110 §6.6.1).
func date(resp *Response) time.Time {
	if t, ok := ParseDate(resp.Header.Get("Date"), resp.Received); ok {
		return t
	}
	return resp.Received
}

// heuristic returns a tenth of the time since the content last changed, within bounds (RFC 9111 §4.2.2).
func heuristic(resp *Response) time.Duration {
	modified, ok := ParseDate(resp.Header.Get("Last-Modified"), resp.Received)
	if !ok {
		return 0
	}
	return min(max(date(resp).Sub(modified)/10, 0).Truncate(time.Second), HeuristicCap)
}

// HeuristicallyCacheable reports whether a status may have a heuristic freshness (RFC 9110 §15.1).
func HeuristicallyCacheable(status int) bool {
	switch status {
	case 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501:
		return true
	}
	return false
}

// initialAge returns the age of a response when it arrived (RFC 9111 §4.2.3): the larger of the ages from its Date and
// from its Age, including the time in transit.
func initialAge(resp *Response) time.Duration {
	apparent := elapsed(date(resp), resp.Received)
	corrected := ageValue(resp.Header) + elapsed(resp.Requested, resp.Received)
	return min(max(apparent, corrected), MaxAge*time.Second)
}

// ClockAhead returns how far this node's clock is ahead of the clock that made a response's Date; negative if it is
// behind; 0 if they may agree. The Date of a response with an Age shows nothing, since the response was stored
// somewhere.
func ClockAhead(resp *Response) time.Duration {
	made, ok := ParseDate(resp.Header.Get("Date"), resp.Received)
	if !ok || resp.Header.Has("Age") {
		return 0
	}
	const second = time.Second // the resolution of a Date
	if ahead := resp.Requested.Sub(made) - second; ahead > 0 {
		return ahead
	}
	return min(resp.Received.Sub(made)+second, 0)
}

// StaleByClock reports whether a response arrives stale only because its origin's clock and this node's differ.
func (s *Stored) StaleByClock(resp *Response) bool {
	return ClockAhead(resp) > 0 && !s.Flags.Has(NoCache) && s.Lifetime <= s.InitialAge &&
		s.Lifetime > elapsed(resp.Requested, resp.Received)
}

// elapsed is bounded, so that a sum of two never overflows to a negative age, which would be fresh for ever.
func elapsed(from, to time.Time) time.Duration {
	return min(max(to.Sub(from), 0), MaxAge*time.Second)
}

// ageValue returns the first Age. One that isn't a number of seconds is ignored (RFC 9111 §5.1).
func ageValue(h node.Header) time.Duration {
	list := splitList(h.Values("Age"))
	if len(list) == 0 {
		return 0
	}
	n, _ := seconds(list[0])
	return time.Duration(n) * time.Second
}
