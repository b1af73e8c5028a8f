package httpcache_test

import (
	"strconv"
	"testing"
	"time"

	"millrace/kvcache/httpcache"
)

// Checklist items 11, 13, 14.
func TestRFC9111Section4_2_1Lifetime(t *testing.T) {
	route := &httpcache.Rules{TTL: 7 * time.Second, NegativeTTL: 3 * time.Second, Heuristic: true}
	const saturated = (1 << 31) * time.Second
	for _, row := range []struct {
		name   string
		rules  *httpcache.Rules
		status int
		fields []string
		want   time.Duration
	}{
		{"max-age", nil, 200, []string{"Cache-Control: max-age=60"}, time.Minute},
		{"s-maxage before max-age", nil, 200, []string{"Cache-Control: max-age=60, s-maxage=30"}, 30 * time.Second},
		{
			"a longer s-maxage before max-age", nil, 200,
			[]string{"Cache-Control: s-maxage=90, max-age=60"},
			90 * time.Second,
		},
		{
			"max-age before Expires", nil, 200,
			[]string{"Cache-Control: max-age=60", "Expires: " + at(time.Hour)},
			time.Minute,
		},
		{
			"an s-maxage of none before Expires", nil, 200,
			[]string{"Cache-Control: s-maxage=0", "Expires: " + at(time.Hour)},
			0,
		},
		{
			"Expires less Date", nil, 200,
			[]string{"Expires: " + at(time.Hour), "Date: " + at(-time.Minute)},
			time.Hour + time.Minute,
		},
		{
			"Expires less a Date in the future", nil, 200,
			[]string{"Expires: " + at(time.Hour), "Date: " + at(time.Minute)},
			time.Hour - time.Minute,
		},
		{"Expires without Date counts from the arrival", nil, 200, []string{"Expires: " + at(time.Hour)}, time.Hour},
		{
			"Expires with a Date that can't be read", nil, 200,
			[]string{"Expires: " + at(time.Hour), "Date: yesterday"},
			time.Hour,
		},
		{"Expires in the past", nil, 200, []string{"Expires: " + at(-time.Hour)}, 0},
		{"the route after Expires", route, 200, []string{"Expires: " + at(time.Hour)}, time.Hour},
		{"the route where the origin says nothing", route, 200, nil, 7 * time.Second},
		{"the route's time for errors", route, 404, nil, 3 * time.Second},
		{"the route after an invalid max-age", route, 200, []string{"Cache-Control: max-age=soon"}, 0},
		{"the route after an invalid Expires", route, 200, []string{"Expires: 0"}, 0},
		{"the route before the heuristic", route, 200, []string{"Last-Modified: " + at(-time.Hour)}, 7 * time.Second},
		{
			"a forced route before all", &httpcache.Rules{TTL: 7 * time.Second, Force: true}, 200,
			[]string{"Cache-Control: max-age=60"},
			7 * time.Second,
		},
		{"two max-age: the shorter", nil, 200, []string{"Cache-Control: max-age=60, max-age=10"}, 10 * time.Second},
		{
			"two max-age on two lines: the shorter", nil, 200,
			[]string{"Cache-Control: max-age=10", "Cache-Control: max-age=60"},
			10 * time.Second,
		},
		{"two max-age, one invalid", nil, 200, []string{"Cache-Control: max-age=60, max-age=x"}, 0},
		{"two s-maxage: the shorter", nil, 200, []string{"Cache-Control: s-maxage=10, s-maxage=60"}, 10 * time.Second},
		{"the largest delta", nil, 200, []string{"Cache-Control: max-age=2147483647"}, saturated - time.Second},
		{"one that overflows 31 bits", nil, 200, []string{"Cache-Control: max-age=2147483648"}, saturated},
		{"one that overflows 64 bits", nil, 200, []string{"Cache-Control: max-age=99999999999999999999999"}, saturated},
		{"leading zeros", nil, 200, []string{"Cache-Control: max-age=0000000000000000000000060"}, time.Minute},
	} {
		t.Run(row.name, func(t *testing.T) {
			rules := row.rules
			if rules == nil {
				rules = &httpcache.Rules{}
			}
			if s, _ := get(rules, row.status, row.fields...); s.Lifetime != row.want {
				t.Errorf("%v, want %v", s.Lifetime, row.want)
			}
		})
	}
}

// Checklist item 14. RFC 9110 §15.1 lists the codes.
func TestRFC9111Section4_2_2Heuristic(t *testing.T) {
	on := &httpcache.Rules{Heuristic: true}
	for _, row := range []struct {
		name   string
		rules  *httpcache.Rules
		fields []string
		want   time.Duration
	}{
		{"a tenth", on, []string{"Date: " + at(0), "Last-Modified: " + at(-10*time.Hour)}, time.Hour},
		{
			"a tenth of the time before Date, not before now", on,
			[]string{"Date: " + at(-5*time.Hour), "Last-Modified: " + at(-15*time.Hour)},
			time.Hour,
		},
		{"at most a day", on, []string{"Last-Modified: " + at(-1000*time.Hour)}, httpcache.HeuristicCap},
		{"modified after it was made", on, []string{"Last-Modified: " + at(time.Hour)}, 0},
		{"a Last-Modified that can't be read", on, []string{"Last-Modified: 2026-11-24"}, 0},
		{"none", on, nil, 0},
		{"switched off", &httpcache.Rules{}, []string{"Last-Modified: " + at(-10*time.Hour)}, 0},
		{
			"not where the origin says how long", on,
			[]string{"Cache-Control: max-age=1", "Last-Modified: " + at(-10*time.Hour)},
			time.Second,
		},
		{"not where Expires can't be read", on, []string{"Expires: never", "Last-Modified: " + at(-10*time.Hour)}, 0},
	} {
		if s, _ := get(row.rules, 200, row.fields...); s.Lifetime != row.want {
			t.Errorf("%s: %v, want %v", row.name, s.Lifetime, row.want)
		}
	}
	want := map[int]bool{
		200: true, 203: true, 204: true, 206: true, 300: true, 301: true, 308: true, 404: true, 405: true, 410: true,
		414: true, 501: true,
	}
	for status := 100; status < 600; status++ {
		if got := httpcache.HeuristicallyCacheable(status); got != want[status] {
			t.Errorf("%d: %v", status, got)
		}
	}
}

// Checklist item 12.
func TestRFC9111Section4_2_3Age(t *testing.T) {
	for _, row := range []struct {
		name   string
		fields []string
		way    time.Duration // from the request to the response
		later  time.Duration
		want   time.Duration
	}{
		{"nothing said", nil, 0, 0, 0},
		{"time in the cache", nil, 0, 9 * time.Second, 9 * time.Second},
		{"the age value", []string{"Age: 5"}, 0, 0, 5 * time.Second},
		{"the way counts", []string{"Age: 5"}, 2 * time.Second, 0, 7 * time.Second},
		{"the way counts without Age", nil, 2 * time.Second, 0, 2 * time.Second},
		{"the apparent age", []string{"Date: " + at(-8*time.Second)}, 0, 0, 8 * time.Second},
		{
			"the larger is the apparent age",
			[]string{"Date: " + at(-8*time.Second), "Age: 5"},
			2 * time.Second, 0,
			8 * time.Second,
		},
		{
			"the larger is the corrected age",
			[]string{"Date: " + at(-8*time.Second), "Age: 7"},
			2 * time.Second, 0,
			9 * time.Second,
		},
		{
			"all together",
			[]string{"Date: " + at(-8*time.Second), "Age: 7"},
			2 * time.Second, 3 * time.Second,
			12 * time.Second,
		},
		{"a Date ahead isn't negative", []string{"Date: " + at(time.Hour)}, 0, time.Second, time.Second},
		{"a clock that went back", []string{"Age: 5"}, 0, -time.Hour, 5 * time.Second},
		{"the way is longer than can be counted", []string{"Age: 9"}, 1<<63 - 1, 0, (1 << 31) * time.Second},
		{"in the cache for longer than can be counted", []string{"Age: 9"}, 0, 1<<63 - 1, (1 << 31) * time.Second},
		{"saturated", []string{"Age: 99999999999"}, time.Hour, time.Hour, (1 << 31) * time.Second},
	} {
		t.Run(row.name, func(t *testing.T) {
			resp := response(200, append(row.fields, "Cache-Control: max-age=3")...)
			resp.Requested = now.Add(-row.way)
			s, _, _ := (&httpcache.Rules{}).Admit(&httpcache.Request{Method: "GET"}, resp)
			if got := s.Age(now.Add(row.later)); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
			if got := s.Remaining(now.Add(row.later)); got != 3*time.Second-row.want {
				t.Errorf("%v are left, want %v", got, 3*time.Second-row.want)
			}
		})
	}
}

// Checklist item 12.
func TestRFC9111Section5_1AgeField(t *testing.T) {
	for _, row := range []struct {
		name   string
		fields []string
		want   int
	}{
		{"a number", []string{"Age: 7"}, 7},
		{"zero", []string{"Age: 0"}, 0},
		{"the first of a list", []string{"Age: 7, 9000"}, 7},
		{"the first line", []string{"Age: 7", "Age: 9000"}, 7},
		{"the first that can't be read ends it", []string{"Age: x, 7"}, 0},
		{"negative", []string{"Age: -7"}, 0},
		{"with a sign", []string{"Age: +7"}, 0},
		{"a fraction", []string{"Age: 7.0"}, 0},
		{"with a unit", []string{"Age: 7s"}, 0},
		{"words", []string{"Age: old"}, 0},
		{"with a parameter", []string{"Age: 7;a=b"}, 0},
		{"in quotes", []string{`Age: "7"`}, 0},
		{"empty", []string{"Age: "}, 0},
		{"31 bits", []string{"Age: 2147483648"}, 1 << 31},
		{"more", []string{"Age: 99999999999999999999"}, 1 << 31},
	} {
		s, _ := get(&httpcache.Rules{}, 200, append(row.fields, "Cache-Control: max-age=9")...)
		if got := s.InitialAge; got != time.Duration(row.want)*time.Second {
			t.Errorf("%s: %v, want %d s", row.name, got, row.want)
		}
	}
}

// Checklist items 11, 13.
func TestRFC9111Section5_3Expires(t *testing.T) {
	hour := at(time.Hour)
	for _, row := range []struct {
		name   string
		fields []string
		want   time.Duration
	}{
		{"a date", []string{"Expires: " + hour}, time.Hour},
		{"two lines", []string{"Expires: " + hour, "Expires: " + hour}, 0},
		{"two dates", []string{"Expires: " + hour + ", " + hour}, 0},
		{"zero", []string{"Expires: 0"}, 0},
		{"minus one", []string{"Expires: -1"}, 0},
		{"empty", []string{"Expires: "}, 0},
		{"in another zone", []string{"Expires: Tue, 24 Nov 2026 14:00:00 CET"}, 0},
		{"further than can be counted", []string{"Expires: Fri, 31 Dec 9999 23:59:59 GMT"}, (1 << 31) * time.Second},
	} {
		if s, _ := get(&httpcache.Rules{TTL: time.Minute}, 200, row.fields...); s.Lifetime != row.want {
			t.Errorf("%s: %v, want %v", row.name, s.Lifetime, row.want)
		}
	}
}

// Checklist items 15, 16, 27, 28: what may be done with a response that is fresh for 100 s, by its age.
func TestRFC9111Section4_2_4Stale(t *testing.T) {
	const fresh, refresh, validate = httpcache.UseFresh, httpcache.UseRefresh, httpcache.UseValidate
	for _, row := range []struct {
		name, control string
		age           int
		purged        bool
		want          httpcache.Use
	}{
		{"fresh", "max-age=100", 99, false, fresh},
		{"no longer fresh", "max-age=100", 100, false, validate},
		{"fresh but marked stale", "max-age=100", 9, true, validate},
		{"marked stale, with a window", "max-age=100, stale-while-revalidate=9", 9, true, refresh},
		{
			"marked stale, and must-revalidate", "max-age=100, stale-while-revalidate=9, must-revalidate", 9, true,
			validate,
		},
		{"no-cache", "max-age=100, no-cache", 0, false, validate},
		{"no-cache and a window", "max-age=100, no-cache, stale-while-revalidate=9", 100, false, validate},
		{"no-cache for a field", `max-age=100, no-cache="x-a"`, 0, false, fresh},
		{"must-revalidate while fresh", "max-age=100, must-revalidate", 99, false, fresh},
		{"in the window", "max-age=100, stale-while-revalidate=9", 100, false, refresh},
		{"at its end", "max-age=100, stale-while-revalidate=9", 108, false, refresh},
		{"behind it", "max-age=100, stale-while-revalidate=9", 109, false, validate},
		{"a window that can't be read", "max-age=100, stale-while-revalidate=x", 100, false, validate},
		{
			"must-revalidate ends the window", "max-age=100, stale-while-revalidate=9, must-revalidate", 100, false,
			validate,
		},
		{"proxy-revalidate does", "max-age=100, stale-while-revalidate=9, proxy-revalidate", 100, false, validate},
		{"s-maxage does", "s-maxage=100, stale-while-revalidate=9", 100, false, validate},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, reason := get(&httpcache.Rules{}, 200, "Cache-Control: "+row.control, `ETag: "a"`)
			if reason != "" {
				t.Fatal(reason)
			}
			if got := s.Judge(nil, now.Add(time.Duration(row.age)*time.Second), row.purged); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}

// Checklist item 28.
func TestRFC5861Section4StaleIfError(t *testing.T) {
	const gone = -1 // no response at all
	for _, row := range []struct {
		name, control string
		status, age   int
		want          bool
	}{
		{"within the window", "max-age=10, stale-if-error=5", 500, 14, true},
		{"behind it", "max-age=10, stale-if-error=5", 500, 15, false},
		{"502", "max-age=10, stale-if-error=5", 502, 12, true},
		{"503", "max-age=10, stale-if-error=5", 503, 12, true},
		{"504", "max-age=10, stale-if-error=5", 504, 12, true},
		{"501 isn't meant", "max-age=10, stale-if-error=5", 501, 12, false},
		{"404 isn't", "max-age=10, stale-if-error=5", 404, 12, false},
		{"a window that can't be read", "max-age=10, stale-if-error=-5", 500, 10, false},
		{"no window", "max-age=10", 500, 10, false},
		{"the origin is away", "max-age=10", gone, 1000, true},
		{"away, and must-revalidate", "max-age=10, must-revalidate", gone, 1000, false},
		{"away, and proxy-revalidate", "max-age=10, proxy-revalidate", gone, 1000, false},
		{"away, and s-maxage", "s-maxage=10", gone, 1000, false},
		{"away, and no-cache", "no-cache", gone, 0, false},
		{"must-revalidate ends the window", "max-age=10, stale-if-error=5, must-revalidate", 500, 12, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, reason := get(&httpcache.Rules{}, 200, "Cache-Control: "+row.control, `ETag: "a"`)
			if reason != "" {
				t.Fatal(reason)
			}
			if got := s.ServesError(max(row.status, 0), row.status == gone,
				now.Add(time.Duration(row.age)*time.Second)); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
	s, _ := get(&httpcache.Rules{NoStale: true}, 200,
		"Cache-Control: max-age=10, stale-while-revalidate=9, stale-if-error=9")
	if later := now.Add(11 * time.Second); s.ServesError(500, false, later) || s.ServesError(0, true, later) ||
		s.Judge(nil, later, false) != httpcache.UseValidate {
		t.Error("a route that forbids stale content serves it")
	}
	s, _ = get(&httpcache.Rules{StaleWhileRevalidate: time.Hour, StaleIfError: 2 * time.Hour}, 200,
		"Cache-Control: max-age=10, stale-if-error=0")
	if s.StaleWhileRevalidate != time.Hour || s.StaleIfError != 0 {
		t.Errorf("the route's windows where the origin names one: %v %v", s.StaleWhileRevalidate, s.StaleIfError)
	}
}

// A response is kept for as long as it may be used, and no longer.
func TestKeepLastsAsLongAsAnyUse(t *testing.T) {
	for _, row := range []struct {
		name, control string
		want          time.Duration
	}{
		{"an hour at least after its freshness", "max-age=60", time.Hour + time.Minute},
		{"no longer if it was old already", "max-age=60\nAge: 20", time.Hour + 40*time.Second},
		{"as long as it may be stale", "max-age=60, stale-if-error=7200", 2*time.Hour + time.Minute},
		{"not for ever", "max-age=" + strconv.Itoa(1<<31), httpcache.MaxKeep},
	} {
		s, _ := get(&httpcache.Rules{}, 200, splitLines("Cache-Control: "+row.control)...)
		if got := s.Keep(); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

// Entries with the same lifetime are fetched again at times spread over its last twentieth.
func TestSpreadStaysInLastTwentieth(t *testing.T) {
	s := httpcache.Stored{Lifetime: 10 * time.Minute}
	seen := map[time.Duration]bool{}
	for i := range uint64(1000) {
		d := s.Spread(i)
		if d < 0 || d > 30*time.Second {
			t.Fatalf("%d: %v", i, d)
		}
		seen[d.Truncate(time.Second)] = true
	}
	if len(seen) < 25 {
		t.Errorf("only %d different seconds of 30", len(seen))
	}
	if s = (httpcache.Stored{Lifetime: httpcache.MaxAge * time.Second}); s.Spread(7) > s.Lifetime/20 ||
		s.Spread(7) < 0 {
		t.Errorf("of the longest lifetime: %v", s.Spread(7))
	}
}
