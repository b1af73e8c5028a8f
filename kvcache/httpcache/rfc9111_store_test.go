package httpcache_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/kvcache/httpcache"
)

var (
	heuristic = &httpcache.Rules{Heuristic: true}
	route     = &httpcache.Rules{TTL: time.Minute, NegativeTTL: time.Second}
	grace     = &httpcache.Rules{StaleWhileRevalidate: time.Minute, StaleIfError: time.Minute}
)

// storable is what a response may be, and why it may not be stored.
type storable struct {
	name   string
	rules  *httpcache.Rules
	method string
	status int
	fields []string
	want   httpcache.Reason
}

var storables = []storable{
	{"explicit freshness", nil, "GET", 200, []string{"Cache-Control: max-age=1"}, ""},
	{"nothing says how long", nil, "GET", 200, nil, httpcache.ReasonFreshness},
	{
		"a Last-Modified alone, no heuristic", nil, "GET", 200,
		[]string{"Last-Modified: " + at(-time.Hour)},
		httpcache.ReasonFreshness,
	},
	{
		"a Last-Modified alone, with the heuristic", heuristic, "GET", 200,
		[]string{"Last-Modified: " + at(-time.Hour)},
		"",
	},
	{
		"the heuristic and a status it isn't for", heuristic, "GET", 302,
		[]string{"Last-Modified: " + at(-time.Hour)},
		httpcache.ReasonFreshness,
	},
	{
		"the heuristic and a status it isn't for, but public", heuristic, "GET", 302,
		[]string{"Last-Modified: " + at(-time.Hour), "Cache-Control: public"},
		"",
	},
	{"HEAD", nil, "HEAD", 200, []string{"Cache-Control: max-age=1"}, ""},
	{"QUERY", nil, "QUERY", 200, []string{"Cache-Control: max-age=1"}, ""},
	{
		"POST with explicit freshness", nil, "POST", 200,
		[]string{"Cache-Control: max-age=1", "Content-Location: /"},
		"",
	},
	{
		"POST with the route's freshness", route, "POST", 200,
		[]string{"Content-Location: /"},
		httpcache.ReasonFreshness,
	},
	{
		"POST with heuristic freshness", heuristic, "POST", 200,
		[]string{"Last-Modified: " + at(-time.Hour)},
		httpcache.ReasonFreshness,
	},
	{"PUT", nil, "PUT", 200, []string{"Cache-Control: max-age=1"}, httpcache.ReasonMethod},
	{"DELETE", nil, "DELETE", 200, []string{"Cache-Control: max-age=1"}, httpcache.ReasonMethod},
	{
		"a method in lower case is another one", nil, "get", 200,
		[]string{"Cache-Control: max-age=1"},
		httpcache.ReasonMethod,
	},
	{"an interim status", nil, "GET", 103, []string{"Cache-Control: max-age=1"}, httpcache.ReasonStatus},
	{
		"a 304 is no response of its own", nil, "GET", 304,
		[]string{"Cache-Control: max-age=1", `ETag: "a"`},
		httpcache.ReasonStatus,
	},
	{"an unknown status with explicit freshness", nil, "GET", 299, []string{"Cache-Control: max-age=1"}, ""},
	{"the last status", nil, "GET", 599, []string{"Cache-Control: max-age=1"}, ""},
	{"beyond the last status", nil, "GET", 600, []string{"Cache-Control: max-age=1"}, httpcache.ReasonStatus},
	{"an error with explicit freshness", nil, "GET", 503, []string{"Cache-Control: max-age=1"}, ""},
	{"a redirect with explicit freshness", nil, "GET", 302, []string{"Expires: " + at(time.Minute)}, ""},
	{
		"a failed precondition of one request", nil, "GET", 412,
		[]string{"Cache-Control: max-age=60"},
		httpcache.ReasonStatus,
	},
	{
		"an unsatisfied range of one request", nil, "GET", 416,
		[]string{"Cache-Control: max-age=60"},
		httpcache.ReasonStatus,
	},
	{"no-store", nil, "GET", 200, []string{"Cache-Control: no-store, max-age=60"}, httpcache.ReasonNoStore},
	{"private", nil, "GET", 200, []string{"Cache-Control: private, max-age=60"}, httpcache.ReasonPrivate},
	{
		"stale with a validator, named by the origin", nil, "GET", 200,
		[]string{"Cache-Control: max-age=0", `ETag: "a"`},
		"",
	},
	{"stale without a validator", nil, "GET", 200, []string{"Cache-Control: max-age=0"}, httpcache.ReasonFreshness},
	{"no-cache with a validator", nil, "GET", 200, []string{"Cache-Control: no-cache", `ETag: "a"`}, ""},
	{"a validator alone", nil, "GET", 200, []string{`ETag: "a"`}, httpcache.ReasonFreshness},
	{
		"an unknown directive makes a 403 no more storable", nil, "GET", 403,
		[]string{"Cache-Control: foo", `ETag: "a"`},
		httpcache.ReasonFreshness,
	},
	{"public makes a 403 storable", nil, "GET", 403, []string{"Cache-Control: public", `ETag: "a"`}, ""},
	{"the route's stale window names no freshness", grace, "GET", 200, nil, httpcache.ReasonFreshness},
	{
		"the route's stale window and an error that nobody called fresh", grace, "GET", 500, nil,
		httpcache.ReasonFreshness,
	},
	{
		"the route's stale window after the origin's freshness", grace, "GET", 200,
		[]string{"Cache-Control: max-age=0"},
		"",
	},
	{
		"the origin's stale window", nil, "GET", 200,
		[]string{"Cache-Control: max-age=0, stale-while-revalidate=9"},
		"",
	},
	{
		"older than its lifetime on arrival", nil, "GET", 200,
		[]string{"Cache-Control: max-age=60", "Age: 60"},
		httpcache.ReasonFreshness,
	},
	{"the route's freshness", route, "GET", 200, nil, ""},
	{"the route's freshness of errors", route, "GET", 404, nil, ""},
	{"the route's freshness isn't for other errors", route, "GET", 500, nil, httpcache.ReasonFreshness},
	{"the route's freshness isn't for redirects of the moment", route, "GET", 302, nil, httpcache.ReasonFreshness},
	{
		"the route's freshness doesn't overrule no-store", route, "GET", 200,
		[]string{"Cache-Control: no-store"},
		httpcache.ReasonNoStore,
	},
	{
		"forced, it does", &httpcache.Rules{TTL: time.Minute, Force: true}, "GET", 200,
		[]string{"Cache-Control: no-store, no-cache"},
		"",
	},
	{
		"the route's freshness isn't for a stream of events", route, "GET", 200,
		[]string{"Content-Type: text/event-stream"},
		httpcache.ReasonEndless,
	},
	{
		"nor for one in another spelling", route, "GET", 200,
		[]string{"Content-Type: Text/Event-Stream ; charset=utf-8"},
		httpcache.ReasonEndless,
	},
	{
		"nor for pictures that replace one another", route, "GET", 200,
		[]string{"Content-Type: multipart/x-mixed-replace;boundary=b"},
		httpcache.ReasonEndless,
	},
	{
		"nor if it is forced", &httpcache.Rules{TTL: time.Minute, Force: true}, "GET", 200,
		[]string{"Content-Type: text/event-stream", "Cache-Control: max-age=60"},
		httpcache.ReasonEndless,
	},
	{
		"nor is the heuristic's", heuristic, "GET", 200,
		[]string{"Content-Type: text/event-stream", "Last-Modified: " + at(-time.Hour)},
		httpcache.ReasonEndless,
	},
	{
		"a stream of events whose origin names a freshness", route, "GET", 200,
		[]string{"Content-Type: text/event-stream", "Cache-Control: max-age=60"},
		"",
	},
	{
		"but not private", &httpcache.Rules{TTL: time.Minute, Force: true}, "GET", 200,
		[]string{"Cache-Control: private"},
		httpcache.ReasonPrivate,
	},
}

// Checklist items 1, 6, 9, 10, 17, 47.
func TestRFC9111Section3Storable(t *testing.T) {
	for _, row := range storables {
		t.Run(row.name, func(t *testing.T) {
			rules := row.rules
			if rules == nil {
				rules = &httpcache.Rules{}
			}
			_, _, got := rules.Admit(&httpcache.Request{Method: row.method}, response(row.status, row.fields...))
			if got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
}

// Checklist item 51. RFC 6585 §3 to §6: these MUST NOT be stored by a cache, whatever else they say.
func TestRFC6585NeverStored(t *testing.T) {
	for _, status := range []int{428, 429, 431, 511} {
		if _, reason := get(&httpcache.Rules{}, status,
			"Cache-Control: public, max-age=60"); reason != httpcache.ReasonStatus {
			t.Errorf("%d: %q", status, reason)
		}
	}
}

// Checklist items 4, 19, 46, 52.
func TestRFC9111Section3_1StoredFields(t *testing.T) {
	const all = "all but the connection's"
	for _, row := range []struct {
		name    string
		cookies httpcache.Cookies
		field   string
		with    string
		kept    bool
	}{
		{"Connection", "", "Connection: close", "", false},
		{"a field that Connection lists", "", "X-A: 1", "Connection: x-a, close", false},
		{"a field that a second Connection line lists", "", "X-A: 1", "Connection: close\nConnection: X-A", false},
		{"a field that Connection doesn't list", "", "X-A: 1", "Connection: x-b", true},
		{"Keep-Alive", "", "Keep-Alive: timeout=5", "", false},
		{"Proxy-Connection", "", "Proxy-Connection: close", "", false},
		{"Proxy-Authenticate", "", "Proxy-Authenticate: Basic", "", false},
		{"Proxy-Authentication-Info", "", "Proxy-Authentication-Info: a=b", "", false},
		{"Proxy-Authorization", "", "Proxy-Authorization: Basic", "", false},
		{"TE", "", "TE: trailers", "", false},
		{"Trailer", "", "Trailer: X-A", "", false},
		{"Transfer-Encoding", "", "Transfer-Encoding: chunked", "", false},
		{"Upgrade", "", "Upgrade: h2c", "", false},
		{"Age is computed", "", "Age: 1", "", false},
		{"Content-Length is computed", "", "Content-Length: 1", "", false},
		{"Cache-Status is of one answer", "", "Cache-Status: x; hit", "", false},
		{"a rate limit is of one client", "", "RateLimit-Remaining: 1", "", false},
		{"Set-Cookie where it is explicit", "", "Set-Cookie: a=b", "", true},
		{"Set-Cookie where it is stripped", httpcache.CookiesStrip, "Set-Cookie: a=b", "", false},
		{"Clear-Site-Data", "", `Clear-Site-Data: "cache"`, "", true},
		{"Content-Type", "", "Content-Type: text/plain", "", true},
		{"an unknown field", "", "X-Any: 1", "", true},
		{"a field that no-cache= names", "", "X-A: 1", `Cache-Control: no-cache="x-a"`, false},
		{"a field that private= names", "", "X-A: 1", `Cache-Control: private="x-b, X-A"`, false},
		{"the own targeted field", "", "Millrace-CDN-Cache-Control: max-age=1", "", false},
		{"the old name of the targeted field", "", "Surrogate-Control: max-age=1", "", false},
		{"the targeted field for all CDNs", "", "CDN-Cache-Control: max-age=1", "", true},
		{"Cache-Control", "", "Cache-Control: max-age=1", "", true},
	} {
		t.Run(row.name, func(t *testing.T) {
			h := head("Date: " + at(0))
			if row.with != "" {
				h = append(h, head(strings.Split(row.with, "\n")...)...)
			}
			h = append(h, head(row.field)...)
			before := lines(h)
			c := httpcache.ParseControl(h, false)
			out := (&httpcache.Rules{Cookies: row.cookies}).StoredHeader(h, &c)
			if got := slices.Contains(lines(out), row.field); got != row.kept {
				t.Errorf("kept %v, want %v: %v", got, row.kept, lines(out))
			}
			if !slices.Equal(before, lines(h)) {
				t.Errorf("the argument has changed: %v (%s)", lines(h), all)
			}
		})
	}
}

// Checklist items 7, 8: what is kept of a body, as one letter a byte.
func TestRFC9111Section3_4CombiningPartialContent(t *testing.T) {
	const body = "abcdefghij"
	for _, row := range []struct {
		name  string
		spans []httpcache.Span
		kept  []httpcache.Span
		gap   httpcache.Span
		less  bool // it is less than all
	}{
		{"the beginning", []httpcache.Span{{0, 3}}, []httpcache.Span{{0, 3}}, httpcache.Span{First: 4, Last: 9}, true},
		{"the end", []httpcache.Span{{7, 9}}, []httpcache.Span{{7, 9}}, httpcache.Span{First: 0, Last: 6}, true},
		{"the middle leaves two gaps", []httpcache.Span{{3, 5}}, []httpcache.Span{{3, 5}}, httpcache.Span{}, false},
		{
			"the beginning and the middle",
			[]httpcache.Span{{0, 1}, {4, 5}},
			[]httpcache.Span{{0, 1}, {4, 5}},
			httpcache.Span{First: 2, Last: 9},
			true,
		},
		{
			"the middle and the end",
			[]httpcache.Span{{3, 4}, {8, 9}},
			[]httpcache.Span{{3, 4}, {8, 9}},
			httpcache.Span{First: 0, Last: 7},
			true,
		},
		{
			"three of them",
			[]httpcache.Span{{0, 0}, {4, 4}, {9, 9}},
			[]httpcache.Span{{0, 0}, {4, 4}, {9, 9}},
			httpcache.Span{First: 1, Last: 8},
			true,
		},
		{"nothing", nil, nil, httpcache.Span{}, false},
		{
			"both ends",
			[]httpcache.Span{{7, 9}, {0, 3}},
			[]httpcache.Span{{0, 3}, {7, 9}},
			httpcache.Span{First: 4, Last: 6},
			true,
		},
		{
			"touching",
			[]httpcache.Span{{4, 6}, {7, 9}, {1, 3}},
			[]httpcache.Span{{1, 9}},
			httpcache.Span{First: 0, Last: 0},
			true,
		},
		{
			"overlapping",
			[]httpcache.Span{{0, 5}, {3, 7}},
			[]httpcache.Span{{0, 7}},
			httpcache.Span{First: 8, Last: 9},
			true,
		},
		{"within", []httpcache.Span{{0, 8}, {3, 4}}, []httpcache.Span{{0, 8}}, httpcache.Span{First: 9, Last: 9}, true},
		{"around", []httpcache.Span{{3, 4}, {6, 6}, {2, 8}}, []httpcache.Span{{2, 8}}, httpcache.Span{}, false},
		{"closing a gap", []httpcache.Span{{0, 3}, {6, 9}, {4, 5}}, []httpcache.Span{{0, 9}}, httpcache.Span{}, false},
		{"over a gap", []httpcache.Span{{0, 3}, {6, 9}, {2, 7}}, []httpcache.Span{{0, 9}}, httpcache.Span{}, false},
		{"all at once", []httpcache.Span{{0, 9}}, []httpcache.Span{{0, 9}}, httpcache.Span{}, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := httpcache.Parts{Length: int64(len(body))}
			for _, s := range row.spans {
				p = p.Add(s, []byte(body[s.First:s.Last+1]))
			}
			if !slices.Equal(p.Spans, row.kept) {
				t.Fatalf("spans %v, want %v", p.Spans, row.kept)
			}
			for i, s := range p.Spans {
				if string(p.Bytes[i]) != body[s.First:s.Last+1] {
					t.Errorf("%v holds %q", s, p.Bytes[i])
				}
			}
			gap, less := p.Missing()
			if gap != row.gap || less != row.less {
				t.Errorf("missing %v %v", gap, less)
			}
			if before, after := p.Around(gap); less && string(before)+body[gap.First:gap.Last+1]+string(after) != body {
				t.Errorf("around %v: %q and %q", gap, before, after)
			}
			if whole := len(row.kept) == 1 && row.kept[0].Len() == 10; p.Whole() != whole {
				t.Errorf("whole %v", p.Whole())
			}
			for first := range int64(10) {
				for last := first; last < 10; last++ {
					s := httpcache.Span{First: first, Last: last}
					held := slices.ContainsFunc(row.kept, func(k httpcache.Span) bool {
						return k.First <= first && last <= k.Last
					})
					if b, ok := p.Find(s); ok != held || ok && string(b) != body[first:last+1] {
						t.Errorf("%v: %q %v, want %v", s, b, ok, held)
					}
				}
			}
		})
	}
}

// Checklist item 8: any part may be stored, whatever its validator: it answers ranges within it.
func TestRFC9111Section3_3PartialResponses(t *testing.T) {
	for _, validator := range []string{
		`ETag: "a"`, `ETag: W/"a"`, `ETag: a`, "Last-Modified: " + at(-time.Hour),
		"X: y",
	} {
		s, reason := get(&httpcache.Rules{}, 206, "Cache-Control: max-age=60", "Content-Range: bytes 0-1/9", validator)
		if reason != "" || !s.Flags.Has(httpcache.Partial) {
			t.Errorf("%s: %q; flags %b", validator, reason, s.Flags)
		}
	}
	if s, reason := get(&httpcache.Rules{TTL: time.Minute}, 206, "Content-Range: bytes 0-1/9"); reason != "" ||
		s.Lifetime != time.Minute || !s.Flags.Has(httpcache.Defaulted) {
		t.Errorf("the route's freshness: %q, %v", reason, s)
	}
}

// Checklist item 8: only a strong validator proves that bytes of two responses belong together (RFC 9110 §8.8.1,
// §8.8.2.2).
func TestRFC9111Section3_4StrongValidators(t *testing.T) {
	long, just := at(-time.Hour), at(-59*time.Second)
	for _, row := range []struct {
		name, a, b  string
		condition   string // of a
		same, other bool
	}{
		{"a strong tag", `ETag: "a"`, `ETag: "a"`, `"a"`, true, false},
		{"another one", `ETag: "a"`, `ETag: "b"`, `"a"`, false, true},
		{"a weak tag", `ETag: W/"a"`, `ETag: W/"a"`, "", false, false},
		{"another weak tag", `ETag: W/"a"`, `ETag: W/"b"`, "", false, true},
		{"weak and strong", `ETag: "a"`, `ETag: W/"a"`, `"a"`, false, false},
		{"a tag without quotes", `ETag: a`, `ETag: a`, "", false, false},
		{"a tag and none", `ETag: "a"`, "X: y", `"a"`, false, false},
		{"neither", "X: y", "X: y", "", false, false},
		{
			"a date long ago", "Last-Modified: " + long + "\nDate: " + at(0),
			"Last-Modified: " + long + "\nDate: " + at(time.Second), long, true, false,
		},
		{
			"another date", "Last-Modified: " + long + "\nDate: " + at(0),
			"Last-Modified: " + just + "\nDate: " + at(0),
			long, false, true,
		},
		{
			"a date just now", "Last-Modified: " + just + "\nDate: " + at(0),
			"Last-Modified: " + just + "\nDate: " + at(0), "", false, false,
		},
		{
			"a date, and one just now", "Last-Modified: " + just + "\nDate: " + at(time.Hour),
			"Last-Modified: " + just + "\nDate: " + at(0), just, false, false,
		},
		{
			"a date long ago beside a weak tag", `ETag: W/"a"` + "\nLast-Modified: " + long + "\nDate: " + at(0),
			`ETag: W/"a"` + "\nLast-Modified: " + long + "\nDate: " + at(0), "", false, false,
		},
		{
			"a date long ago beside a tag of one", "Last-Modified: " + long + "\nDate: " + at(0),
			`ETag: "a"` + "\nLast-Modified: " + long + "\nDate: " + at(0), long, false, false,
		},
	} {
		a, b := head(splitLines(row.a)...), head(splitLines(row.b)...)
		if got := httpcache.RangeCondition(a, now); got != row.condition {
			t.Errorf("%s: If-Range: %s, want %s", row.name, got, row.condition)
		}
		if got := httpcache.SameRepresentation(a, b, now); got != row.same ||
			got != httpcache.SameRepresentation(b, a, now) {
			t.Errorf("%s: the same: %t", row.name, got)
		}
		if got := httpcache.OtherRepresentation(a, b); got != row.other || got != httpcache.OtherRepresentation(b, a) {
			t.Errorf("%s: another: %t", row.name, got)
		}
	}
}

// Checklist item 5.
func TestRFC9111Section3_5Authorization(t *testing.T) {
	for _, row := range []struct {
		name, control string
		want          httpcache.Reason
	}{
		{"nothing allows it", "max-age=60", httpcache.ReasonAuthorization},
		{"proxy-revalidate doesn't", "max-age=60, proxy-revalidate", httpcache.ReasonAuthorization},
		{"public does", "max-age=60, public", ""},
		{"must-revalidate does", "max-age=60, must-revalidate", ""},
		{"s-maxage does", "s-maxage=60", ""},
		{"s-maxage of none does", "s-maxage=0", ""},
		{"an s-maxage that can't be read doesn't", "max-age=60, s-maxage=ten", httpcache.ReasonAuthorization},
		{"an s-maxage without argument doesn't", "max-age=60, s-maxage", httpcache.ReasonAuthorization},
		{"a public with an argument doesn't", "max-age=60, public=1", httpcache.ReasonAuthorization},
		{"a must-revalidate with an argument doesn't", "max-age=60, must-revalidate=no", httpcache.ReasonAuthorization},
		{"public and private", "max-age=60, public, private", httpcache.ReasonPrivate},
	} {
		t.Run(row.name, func(t *testing.T) {
			req := &httpcache.Request{Method: "GET", Header: head("authorization: Bearer x")}
			if _, _, got := (&httpcache.Rules{}).Admit(req,
				response(200, "Cache-Control: "+row.control, `ETag: "a"`)); got != row.want {
				t.Errorf("%q, want %q", got, row.want)
			}
		})
	}
	forced := &httpcache.Rules{TTL: time.Minute, Force: true}
	if _, _, got := forced.Admit(&httpcache.Request{Method: "GET", Header: head("Authorization: x")},
		response(200)); got != httpcache.ReasonAuthorization {
		t.Errorf("a forced route: %q", got)
	}
}

// Checklist item 52.
func TestRFC9111Section7_3SetCookie(t *testing.T) {
	for _, row := range []struct {
		name  string
		rules httpcache.Rules
		with  string
		want  httpcache.Reason
	}{
		{"explicit freshness", httpcache.Rules{}, "Cache-Control: max-age=60", ""},
		{"an explicit Expires", httpcache.Rules{}, "Expires: " + at(time.Minute), ""},
		{"the route's freshness", httpcache.Rules{TTL: time.Minute}, "X: y", httpcache.ReasonSetCookie},
		{
			"heuristic freshness",
			httpcache.Rules{Heuristic: true},
			"Last-Modified: " + at(-time.Hour),
			httpcache.ReasonSetCookie,
		},
		{
			"passed",
			httpcache.Rules{Cookies: httpcache.CookiesPass},
			"Cache-Control: max-age=60",
			httpcache.ReasonSetCookie,
		},
		{"stripped", httpcache.Rules{TTL: time.Minute, Cookies: httpcache.CookiesStrip}, "X: y", ""},
	} {
		if _, got := get(&row.rules, 200, "Set-Cookie: a=b", row.with); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}
