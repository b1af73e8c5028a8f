package httpcache

import "time"

// Use says what may be done with a stored response for one request.
type Use int

// The uses.
const (
	UseFresh    Use = iota // serve it
	UseRefresh             // serve it, and validate it for later (RFC 5861 §3)
	UseValidate            // ask the origin first
	UseNever               // answer 504: the client wants nothing but a stored response (only-if-cached)
)

// Age is the response's age (RFC 9111 §4.2.3).
func (s *Stored) Age(now time.Time) time.Duration {
	return min(s.InitialAge+elapsed(s.Received, now), MaxAge*time.Second)
}

// Remaining is how long the response stays fresh; negative if it is stale.
func (s *Stored) Remaining(now time.Time) time.Duration { return s.Lifetime - s.Age(now) }

// Spread is how long before the end of its freshness an entry is fetched anew, by a number of its own: at most a
// twentieth of its lifetime, which all in all it has. So entries that came at one moment aren't all fetched at another.
func (s *Stored) Spread(number uint64) time.Duration {
	number = (number ^ number>>30) * 0xbf58476d1ce4e5b9 // SplitMix64: hashes of like keys have like high bits
	number = (number ^ number>>27) * 0x94d049bb133111eb
	return s.Lifetime / 20 / 1024 * time.Duration(number>>54)
}

// Judge says how a stored response may be used (RFC 9111 §4.2, §5.2.1). stale makes it count as stale from now on, as a
// soft purge does. request is nil where the client's directives don't count.
func (s *Stored) Judge(request *Control, now time.Time, stale bool) Use {
	left := s.Remaining(now)
	if stale {
		left = min(left, 0)
	}
	use := s.own(left)
	if request == nil {
		return use
	}
	use = s.asked(request, use, left, s.Age(now))
	if request.OnlyIfCached && use == UseValidate {
		return UseNever
	}
	return use
}

func (s *Stored) own(left time.Duration) Use {
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

// asked adds what the client wants: fresher, or content with staler. Each second that the response is older than
// max-age, or than its own lifetime, counts against max-stale.
func (s *Stored) asked(request *Control, use Use, left, age time.Duration) Use {
	young, over := true, -left
	// RFC 8246 §2: a reload (max-age=0) asks for nothing that could have changed, a forced one (no-cache) does.
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
		// nothing staler than they allow, even in the window of the response
		return UseValidate
	}
	return use
}

// ServesError reports whether a stale response may stand in for an error of the origin: a status of 500, 502, 503 or
// 504 within stale-if-error (RFC 5861 §4), or no answer at all, unless the response forbids to be served stale (RFC
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
