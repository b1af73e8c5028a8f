package httpcache

import "time"

// Use says how a stored response may be used for one request.
type Use int

// The uses of a stored response.
const (
	UseFresh    Use = iota // serve it
	UseRefresh             // serve it, and validate it in the background (RFC 5861 §3)
	UseValidate            // validate it with the origin first
	UseNever               // answer 504: the client wants only a stored response (only-if-cached)
)

// Age returns the response's age (RFC 9111 §4.2.3).
func (s *Stored) Age(now time.Time) time.Duration {
	return min(s.InitialAge+elapsed(s.Received, now), MaxAge*time.Second)
}

// Remaining returns how long the response stays fresh; negative if it is stale.
func (s *Stored) Remaining(now time.Time) time.Duration { return s.Lifetime - s.Age(now) }

// Spread returns how long before the end of its freshness a response is fetched again: at most a twentieth of its
// lifetime, depending on number. So entries that were stored at the same time aren't all fetched again at the same
// time.
func (s *Stored) Spread(number uint64) time.Duration {
	number = (number ^ number>>30) * 0xbf58476d1ce4e5b9 // SplitMix64: hashes of similar keys have similar high bits
	number = (number ^ number>>27) * 0x94d049bb133111eb
	return s.Lifetime / 20 / 1024 * time.Duration(number>>54)
}

// Judge decides how a stored response may be used (RFC 9111 §4.2, §5.2.1). With stale it counts as stale from now on,
// as after a soft purge. request is nil if the client's directives don't count.
func (s *Stored) Judge(request *Control, now time.Time, stale bool) Use {
	left := s.Remaining(now)
	if stale {
		left = min(left, 0)
	}
	use := s.ownUse(left)
	if request == nil {
		return use
	}
	use = s.requestedUse(request, use, left, s.Age(now))
	if request.OnlyIfCached && use == UseValidate {
		return UseNever
	}
	return use
}

func (s *Stored) ownUse(left time.Duration) Use {
	switch {
	case s.Flags.Has(NoCache):
		return UseValidate
	case left > 0:
		return UseFresh
	case -left < s.StaleWhileRevalidate && !s.Flags.Has(NoStale):
		return UseRefresh
	}
	return UseValidate
}

// requestedUse applies what the client wants: a fresher response, or a staler one. Each second by which the response is
// older than max-age, or than its own lifetime, counts against max-stale.
func (s *Stored) requestedUse(request *Control, use Use, left, age time.Duration) Use {
	young, over := true, -left
	// RFC 8246 §2: a reload (max-age=0) can't expect a change, a forced one (no-cache) can.
	reload := request.MaxAge == 0 && use == UseFresh && s.Flags.Has(Immutable)
	if request.MaxAge != Absent && !reload {
		young, over = age <= request.MaxAge, max(over, age-request.MaxAge)
	}
	switch {
	case request.NoCache || s.Flags.Has(NoCache):
		return UseValidate
	case request.MinFresh != Absent && left < request.MinFresh:
		return UseValidate
	case use == UseFresh && young:
		return UseFresh
	case request.MaxStale != Absent && over <= request.MaxStale && (use == UseFresh || !s.Flags.Has(NoStale)):
		if use == UseRefresh {
			return UseRefresh
		}
		return UseFresh
	case request.MaxAge != Absent || request.MaxStale != Absent:
		// Nothing staler than they allow, even within the response's own window.
		return UseValidate
	}
	return use
}

// ServesError reports whether a stale response may be served instead of an error of the origin: a status of 500, 502,
// 503 or 504 within stale-if-error (RFC 5861 §4), or no response at all, unless the response forbids stale use (RFC
// 9111 §4.2.4).
func (s *Stored) ServesError(status int, unreachable bool, now time.Time) bool {
	if s.Flags.Has(NoStale) || s.Flags.Has(NoCache) {
		return false
	}
	if unreachable {
		return true
	}
	switch status {
	case 500, 502, 503, 504:
		return -s.Remaining(now) < s.StaleIfError
	}
	return false
}
