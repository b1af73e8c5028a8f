package node

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Ranges of the values of limits.
const (
	maxLimits    = 8 // of a route
	minWindow    = 100 * time.Millisecond
	maxWindow    = 31 * day
	maxFill      = 366 * day // time to fill a bucket, which must not overflow in nanoseconds
	minQueueWait = Duration(time.Millisecond)
	maxQueueWait = Duration(time.Minute)
	maxQueue     = 100_000
)

// limits checks the limits under limits.
func (v *validator) limits() {
	for _, name := range slices.Sorted(maps.Keys(v.config.Limits)) {
		l := v.config.Limits[name]
		at := func(keys ...string) []string { return append([]string{"limits", name}, keys...) }
		v.name(at(), name)
		v.check(l.Name == "", at("name"), "this limit has the name %q already: leave name out", name)
		if l.Use != "" {
			v.report(at("use"), "a limit under limits can't be a use of another: write its max and window out")
			continue
		}
		v.limit(at, &l)
	}
}

// routeLimits checks the limits of a route.
func (v *validator) routeLimits(route int) {
	r := v.config.Routes[route]
	v.check(len(r.Limit) <= maxLimits, []string{"routes", strconv.Itoa(route), "limit"},
		"%d limits are too many: use at most %d", len(r.Limit), maxLimits)
	for i := range r.Limit {
		l := &r.Limit[i]
		at := func(keys ...string) []string {
			return append([]string{"routes", strconv.Itoa(route), "limit", strconv.Itoa(i)}, keys...)
		}
		if l.Name != "" {
			v.name(at("name"), l.Name)
		}
		if l.Use == "" {
			v.limit(at, l)
		} else {
			v.use(at, l)
			again := slices.ContainsFunc(r.Limit[:i], func(m Limit) bool {
				return m.Use == l.Use && m.Key.equal(l.Key)
			})
			v.check(!again, at("use"), "this route uses limit %q already, by the same key: leave one of the uses out",
				l.Use)
		}
		v.limitParams(at, l, r.Path)
		v.limitInTime(at, l, &r)
	}
}

// limitInTime checks that a queued request still has time for its response.
func (v *validator) limitInTime(at keyPath, l *Limit, r *Route) {
	timeout := r.Timeout
	if timeout == 0 {
		timeout = v.config.Edge.Timeout
	}
	key := at("max_wait")
	if l.Use != "" {
		l, key = new(v.config.Limits[l.Use]), at("use")
	}
	v.check(l.Mode != LimitModeQueue || l.MaxWait > maxQueueWait || l.MaxWait < timeout, key,
		"a request may wait %s for its turn, but the route's timeout is %s: set timeout above max_wait",
		l.MaxWait.Std(), timeout.Std())
}

// keyPath returns the path of a key of the value under check.
type keyPath func(keys ...string) []string

// limit checks a limit that isn't a use.
func (v *validator) limit(at keyPath, l *Limit) {
	v.limitSize(at, l)
	v.limitWindow(at, l)
	v.limitClock(at, l)
	v.limitBucket(at, l)
	v.limitQueue(at, l)
	v.limitRequests(at, l)
	room := l.Room()
	v.check(room <= 0 || l.Cost <= room, at("cost"), "a request that costs %d never fits into %d: use 1 to %[2]d",
		l.Cost, room)
	skips := l.SkipFailed || l.SkipSuccessful
	v.check(l.Algorithm != AlgorithmConcurrent || !skips, at(skipKey(l)),
		"algorithm concurrent counts requests in flight, whatever becomes of them: leave %s out", skipKey(l))
	v.check(l.IPv6Prefix >= 1 && l.IPv6Prefix <= 128, at("ipv6_prefix"),
		"%d is out of range: use 1 to 128, best 32 to 64", l.IPv6Prefix)
}

func (v *validator) limitSize(at keyPath, l *Limit) {
	v.check(l.Max >= 0 && l.Max <= maxPermits, at("max"), "%d is out of range: use 0 to %d", l.Max, maxPermits)
	if l.Algorithm == AlgorithmConcurrent || l.Algorithm == AlgorithmBucket {
		v.check(l.Max != 0, at("max"), "0 is out of range: use 1 or more with algorithm %s", l.Algorithm)
	}
}

func (v *validator) limitWindow(at keyPath, l *Limit) {
	calendar := l.Window.Calendar != ""
	switch {
	case l.Algorithm == AlgorithmConcurrent:
		v.check(l.Window == Window{}, at("window"), "algorithm concurrent counts requests in flight: leave window out")
	case l.Window == Window{}:
		v.report(at("window"), "limit has no window: write a duration such as 15m, or day or month")
	case calendar && l.Algorithm != AlgorithmFixed:
		v.report(at("window"), "algorithm %s has no windows of the calendar: write a duration such as 24h, or use "+
			"algorithm fixed", l.Algorithm)
	default:
		v.check(l.Window.Length >= minWindow && l.Window.Length <= maxWindow, at("window"),
			"%s is out of range: use 100ms to 744h", l.Window)
	}
}

// limitClock checks the settings of windows on the clock.
func (v *validator) limitClock(at keyPath, l *Limit) {
	clock := l.Align == AlignClock || l.Window.Calendar != ""
	fixed := l.Algorithm == AlgorithmFixed
	v.check(l.Align != AlignClock || fixed, at("align"), "align is for algorithm fixed: leave it out with %s",
		l.Algorithm)
	v.check(clock || l.Zone == "" || l.Zone == "UTC", at("zone"),
		"zone is for windows on the clock: set align: clock, use day or month as window, or leave zone out")
	v.check(l.StoreAway != StoreAwayShare || (fixed && clock), at("store_away"),
		"share needs fixed windows that begin on the clock: set algorithm: fixed and align: clock, or use closed or "+
			"open")
}

func (v *validator) limitBucket(at keyPath, l *Limit) {
	if l.Algorithm != AlgorithmBucket {
		v.check(l.Burst == 0, at("burst"), "burst is for algorithm bucket: leave it out with %s", l.Algorithm)
		return
	}
	v.check(l.Burst >= 0 && l.Burst <= maxPermits, at("burst"),
		"%d is out of range: use 1 to %d, or leave burst out for as many as max", l.Burst, maxPermits)
	if l.Max > 0 && l.Burst > 0 {
		most := int64(maxFill) / max(int64(l.Window.Length)/int64(l.Max), 1)
		v.check(int64(l.Burst) <= most, at("burst"), "a bucket of %d takes longer than a year to fill: use at most %d",
			l.Burst, most)
	}
}

func (v *validator) limitQueue(at keyPath, l *Limit) {
	var standard Limit
	standard.Defaults()
	if l.Mode != LimitModeQueue {
		v.check(l.MaxWait == standard.MaxWait, at("max_wait"),
			"max_wait is for mode queue: set mode: queue, or leave it out")
		v.check(l.MaxQueue == standard.MaxQueue, at("max_queue"),
			"max_queue is for mode queue: set mode: queue, or leave it out")
		return
	}
	v.check(!l.Shadow, at("mode"), "a shadow limit holds no request back: use mode refuse, or leave shadow out")
	v.check(l.MaxWait >= minQueueWait && l.MaxWait <= maxQueueWait, at("max_wait"), "%s is out of range: use 1ms to 1m",
		l.MaxWait.Std())
	v.check(l.MaxQueue >= 1 && l.MaxQueue <= maxQueue, at("max_queue"), "%d is out of range: use 1 to %d", l.MaxQueue,
		maxQueue)
}

// limitRequests checks the settings that a use may have too: key, exemptions and cost.
func (v *validator) limitRequests(at keyPath, l *Limit) {
	v.check(l.Cost >= 1, at("cost"), "%d is out of range: use 1 or more", l.Cost)
	v.check(!l.SkipFailed || !l.SkipSuccessful, at("skip_successful"),
		"with skip_failed and skip_successful nothing counts: use one of them")
	for i, key := range l.Exempt.Keys {
		v.check(key != "", at("exempt", "keys", strconv.Itoa(i)),
			"key is empty: write a value of the limit's key, or leave it out")
	}
	v.check(len(l.Key) > 0, at("key"), "key is empty: use ip, all, header:NAME, cookie:NAME or param:NAME")
	for i, k := range l.Key {
		path := at("key", strconv.Itoa(i))
		v.check(k.Kind != KeyAll || len(l.Key) == 1, path,
			"all counts every request together: use it alone, or leave it out")
		v.check(!slices.ContainsFunc(l.Key[:i], k.same), path, "%s is in the key already: leave it out", k)
	}
}

// same reports whether two parts have the same value in every request. Names of header fields are case-insensitive.
func (k LimitKey) same(other LimitKey) bool {
	return k == other || (k.Kind == KeyHeader && other.Kind == KeyHeader && strings.EqualFold(k.Name, other.Name))
}

// skipKey returns the name of the skip key that is set.
func skipKey(l *Limit) string {
	if l.SkipFailed {
		return "skip_failed"
	}
	return "skip_successful"
}
