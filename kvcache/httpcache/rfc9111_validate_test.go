package httpcache_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/kvcache/httpcache"
)

// Checklist items 20, 23.
func TestRFC9111Section4_3_2NotModified(t *testing.T) {
	hour, later := "Last-Modified: "+at(-time.Hour), "If-Modified-Since: "+at(0)
	for _, row := range []struct {
		name            string
		method          string
		status          int
		request, stored string // fields, a line each
		want            bool
	}{
		{"unconditional", "GET", 200, "X: y", `ETag: "a"`, false},
		{"the same tag", "GET", 200, `If-None-Match: "a"`, `ETag: "a"`, true},
		{"HEAD", "HEAD", 200, `If-None-Match: "a"`, `ETag: "a"`, true},
		{"POST", "POST", 200, `If-None-Match: "a"`, `ETag: "a"`, false},
		{"another status", "GET", 404, `If-None-Match: "a"`, `ETag: "a"`, false},
		{"another tag", "GET", 200, `If-None-Match: "b"`, `ETag: "a"`, false},
		{"weak compares with strong", "GET", 200, `If-None-Match: W/"a"`, `ETag: "a"`, true},
		{"strong compares with weak", "GET", 200, `If-None-Match: "a"`, `ETag: W/"a"`, true},
		{"a small w is no tag", "GET", 200, `If-None-Match: w/"a"`, `ETag: "a"`, false},
		{"in a list", "GET", 200, `If-None-Match: "b", W/"c" ,"a"`, `ETag: "a"`, true},
		{"on the second line", "GET", 200, "If-None-Match: \"b\"\nIf-None-Match: \"a\"", `ETag: "a"`, true},
		{"not in the list", "GET", 200, `If-None-Match: "b", "c"`, `ETag: "a"`, false},
		{"a comma in a tag", "GET", 200, `If-None-Match: "a,b"`, `ETag: "b"`, false},
		{"a tag with a comma", "GET", 200, `If-None-Match: "x", "a,b"`, `ETag: "a,b"`, true},
		{"behind what is no tag", "GET", 200, `If-None-Match: b, "a"`, `ETag: "a"`, true},
		{"without quotes", "GET", 200, `If-None-Match: a`, `ETag: "a"`, false},
		{"case matters", "GET", 200, `If-None-Match: "A"`, `ETag: "a"`, false},
		{"any", "GET", 200, `If-None-Match: *`, `ETag: "a"`, true},
		{"any, without a tag", "GET", 200, `If-None-Match: *`, "X: y", true},
		{"any among others is no tag", "GET", 200, `If-None-Match: "b", *`, `ETag: "a"`, false},
		{"the tag decides over the date", "GET", 200, "If-None-Match: \"b\"\n" + later, "ETag: \"a\"\n" + hour, false},
		{"the tag decides though none is stored", "GET", 200, "If-None-Match: \"b\"\n" + later, hour, false},
		{"the date", "GET", 200, later, hour, true},
		{"the same date", "GET", 200, "If-Modified-Since: " + at(-time.Hour), hour, true},
		{"an older date", "GET", 200, "If-Modified-Since: " + at(-2*time.Hour), hour, false},
		{"a date in another form", "GET", 200, "If-Modified-Since: Tuesday, 24-Nov-26 12:00:00 GMT", hour, true},
		{"a date that can't be read", "GET", 200, "If-Modified-Since: now", hour, false},
		{"two dates", "GET", 200, later + "\n" + later, hour, false},
		{"Date in place of Last-Modified", "GET", 200, later, "Date: " + at(0), true},
		{"Date, later", "GET", 200, later, "Date: " + at(time.Second), false},
		{"neither", "GET", 200, later, "X: y", false},
	} {
		t.Run(row.name, func(t *testing.T) {
			req := &httpcache.Request{Method: row.method, Header: head(splitLines(row.request)...)}
			if got := httpcache.NotModified(req, row.status, head(splitLines(row.stored)...), now); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}

// Checklist item 20.
func TestRFC9110Section15_4_5NotModifiedFields(t *testing.T) {
	stored := head("Date: d", `ETag: "a"`, "Cache-Control: c", "Vary: v", "Expires: e", "Content-Location: l",
		"Last-Modified: m",
		"Content-Type: t", "Content-Encoding: gzip", "Content-Language: de", "Content-Range: r", "X-Any: y")
	want := []string{
		"Date: d", `ETag: "a"`, "Cache-Control: c", "Vary: v", "Expires: e", "Content-Location: l",
		"X-Any: y",
	}
	if got := lines(httpcache.NotModifiedHeader(stored)); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	want = []string{"Last-Modified: m"}
	if got := lines(httpcache.NotModifiedHeader(head("Last-Modified: m", "Content-Type: t"))); !slices.Equal(got,
		want) {
		t.Errorf("without ETag: %v, want %v", got, want)
	}
}

// Checklist items 21, 22.
func TestRFC9111Section4_3_1ValidationRequest(t *testing.T) {
	client := head(`If-None-Match: "c"`, "if-modified-since: x", `If-Match: "c"`, "If-Unmodified-Since: x",
		`If-Range: "c"`, "Accept: text/plain")
	httpcache.Unconditional(&client)
	if got := lines(client); !slices.Equal(got, []string{"Accept: text/plain"}) {
		t.Errorf("the client's conditions: %v", got)
	}
	for _, row := range []struct {
		name   string
		stored []string
		want   []string
	}{
		{"both", []string{`ETag: W/"a"`, "Last-Modified: m"}, []string{`If-None-Match: W/"a"`, "If-Modified-Since: m"}},
		{"a tag", []string{`ETag: "a"`}, []string{`If-None-Match: "a"`}},
		{"a date", []string{"Last-Modified: m"}, []string{"If-Modified-Since: m"}},
		{"neither", []string{"Date: d"}, []string{}},
	} {
		h := head()
		httpcache.Validators(&h, head(row.stored...))
		if got := lines(h); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

// Checklist item 21.
func TestRFC9111Section4_3_4SelectingByValidator(t *testing.T) {
	for _, row := range []struct {
		name, stored, confirmation string
		want                       bool
	}{
		{"the same strong tag", `ETag: "a"`, `ETag: "a"`, true},
		{"another strong tag", `ETag: "a"`, `ETag: "b"`, false},
		{"the same weak tag", `ETag: W/"a"`, `ETag: W/"a"`, true},
		{"a weak one for a strong one", `ETag: "a"`, `ETag: W/"a"`, true},
		{"a strong one for a weak one", `ETag: W/"a"`, `ETag: "a"`, false},
		{"a strong one for none", "Last-Modified: m", `ETag: "a"`, false},
		{"the tag decides over the date", "ETag: \"a\"\nLast-Modified: m", "ETag: \"a\"\nLast-Modified: n", true},
		{"the same date", "Last-Modified: m", "Last-Modified: m", true},
		{"another date", "Last-Modified: m", "Last-Modified: n", false},
		{"a date for none", `ETag: "a"`, "Last-Modified: m", false},
		{"none", `ETag: "a"`, "Date: d", true},
		{"a tag without quotes, the same", "ETag: a", "ETag: a", true},
	} {
		if got := httpcache.Validates(head(splitLines(row.stored)...),
			head(splitLines(row.confirmation)...)); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

// Checklist item 21.
func TestRFC9111Section3_2Freshen(t *testing.T) {
	for _, row := range []struct {
		name                       string
		stored, confirmation, want string
	}{
		{"replaced", "Cache-Control: max-age=1", "cache-control: max-age=2", "cache-control: max-age=2"},
		{"added", "A: 1", "B: 2", "A: 1\nB: 2"},
		{"kept", "A: 1\nB: 1", "A: 2", "B: 1\nA: 2"},
		{"all lines of a name", "A: 1\nA: 2\nA: 3", "A: 4\nA: 5", "A: 4\nA: 5"},
		{"Expires and ETag", "Expires: a\nETag: W/\"a\"", "Expires: b\nETag: \"a\"", "Expires: b\nETag: \"a\""},
		{"Content-Location", "Content-Location: /a", "Content-Location: /b", "Content-Location: /b"},
		{"Clear-Site-Data", "Clear-Site-Data: a", "Clear-Site-Data: b", "Clear-Site-Data: b"},
		{"Content-Length is the body's", "Content-Length: 5", "Content-Length: 10", "Content-Length: 5"},
		{"Content-Length isn't added", "A: 1", "Content-Length: 0", "A: 1"},
		{"Content-Encoding is the body's", "Content-Encoding: gzip", "Content-Encoding: br", "Content-Encoding: gzip"},
		{
			"Content-Type is the body's", "Content-Type: text/plain", "Content-Type: text/html",
			"Content-Type: text/plain",
		},
		{"Content-Range is the body's", "A: 1", "Content-Range: bytes 0-1/2", "A: 1"},
		{"a digest of no content isn't the body's", "Content-Digest: a", "Content-Digest: b", "Content-Digest: a"},
		{"a cookie of one validation isn't for all", "A: 1", "Set-Cookie: a=b", "A: 1"},
	} {
		stored, confirmation := append(head("Date: d"), head(splitLines(row.stored)...)...),
			append(head("Date: e"), head(splitLines(row.confirmation)...)...)
		got := httpcache.Freshen(stored, confirmation)
		if got.Get("Date") != "e" {
			t.Errorf("%s: the old Date stays", row.name)
		}
		got.Del("Date")
		if text := strings.Join(lines(got), "\n"); text != row.want {
			t.Errorf("%s: %q, want %q", row.name, text, row.want)
		}
		if stored.Get("Date") != "d" || confirmation.Get("Date") != "e" {
			t.Errorf("%s: an argument has changed", row.name)
		}
	}
	// A response without Date was made when it arrived (RFC 9110 §6.6.1). The Date of another one would make it older.
	if h := httpcache.Freshen(head("Date: d", "A: 1"), head("A: 2")); h.Has("Date") {
		t.Errorf("the Date of the stored response dates the confirmation: %v", h)
	}
}

// Checklist item 24.
func TestRFC9111Section4_3_5HEAD(t *testing.T) {
	const length = 5 << 30
	for _, row := range []struct {
		name, stored, head    string
		confirms, invalidates bool
	}{
		{"the same tag", `ETag: "a"`, `ETag: "a"`, true, false},
		{"another tag", `ETag: "a"`, `ETag: "b"`, false, true},
		{"a tag where there was none", "Last-Modified: m", `ETag: "b"`, false, true},
		{"the same date", "Last-Modified: m", "Last-Modified: m", true, false},
		{"another date", "Last-Modified: m", "Last-Modified: n", false, true},
		{"the same tag, another date", "ETag: \"a\"\nLast-Modified: m", "ETag: \"a\"\nLast-Modified: n", false, true},
		{"no validator", `ETag: "a"`, "Date: d", false, false},
		{"the same length", `ETag: "a"`, "ETag: \"a\"\nContent-Length: 5368709120", true, false},
		{"another length", `ETag: "a"`, "ETag: \"a\"\nContent-Length: 5", false, true},
		{"another large length", `ETag: "a"`, "ETag: \"a\"\nContent-Length: 5368709121", false, true},
		{"a length alone", `ETag: "a"`, "Content-Length: 5368709120", false, false},
		{"another length alone", `ETag: "a"`, "Content-Length: 5", false, true},
		{"a length that can't be read", `ETag: "a"`, "ETag: \"a\"\nContent-Length: x", false, true},
	} {
		confirms, invalidates := httpcache.HeadEffect(head(splitLines(row.stored)...), length,
			head(splitLines(row.head)...))
		if confirms != row.confirms || invalidates != row.invalidates {
			t.Errorf("%s: confirms %v, invalidates %v", row.name, confirms, invalidates)
		}
	}
}

// Checklist item 33.
func TestRFC9111Section4_4Invalidation(t *testing.T) {
	for _, row := range []struct {
		method string
		status int
		want   bool
	}{
		{"GET", 200, false},
		{"HEAD", 200, false},
		{"OPTIONS", 200, false},
		{"TRACE", 200, false},
		{"QUERY", 200, false},
		{"PROPFIND", 207, false},
		{"POST", 200, true},
		{"PUT", 204, true},
		{"DELETE", 202, true},
		{"PATCH", 200, true},
		{"M-SEARCH", 200, true},
		{"get", 200, true},
		{"POST", 199, false},
		{"POST", 302, true},
		{"POST", 399, true},
		{"POST", 400, false},
		{"POST", 500, false},
	} {
		if got := httpcache.Invalidates(row.method, row.status); got != row.want {
			t.Errorf("%s %d: %v", row.method, row.status, got)
		}
	}
	for _, row := range []struct {
		name, target string
		fields       []string
		want         []string
	}{
		{"neither", "https://a/x", nil, nil},
		{"Location", "https://a/x", []string{"Location: https://a/y"}, []string{"https://a/y"}},
		{"Content-Location", "https://a/x", []string{"Content-Location: https://a/y?z"}, []string{"https://a/y?z"}},
		{
			"both", "https://a/x",
			[]string{"Location: /y", "Content-Location: /z"},
			[]string{"https://a/y", "https://a/z"},
		},
		{"relative", "https://a/x/y?q", []string{"Location: ../z"}, []string{"https://a/z"}},
		{"a query alone", "https://a/x", []string{"Location: ?z"}, []string{"https://a/x?z"}},
		{"a fragment doesn't count", "https://a/x", []string{"Location: /y#z"}, []string{"https://a/y"}},
		{"the host has no case", "https://a/x", []string{"Location: HTTPS://A/y"}, []string{"https://a/y"}},
		{
			"the port that is meant anyway", "https://a/x",
			[]string{"Location: https://a:443/y"},
			[]string{"https://a/y"},
		},
		{
			"the port that was meant anyway", "http://a:80/x",
			[]string{"Location: http://a/y"},
			[]string{"http://a:80/y"},
		},
		{
			"who asks is no part of the origin", "https://a/x",
			[]string{"Location: https://me@a/y"},
			[]string{"https://a/y"},
		},
		{"another host", "https://a/x", []string{"Location: https://b/y"}, nil},
		{"another host without scheme", "https://a/x", []string{"Location: //b/y"}, nil},
		{"another scheme", "https://a/x", []string{"Location: http://a/y"}, nil},
		{"another port", "https://a/x", []string{"Location: https://a:444/y"}, nil},
		{"no host", "https://a/x", []string{"Location: mailto:a@a"}, nil},
		{"what can't be read", "https://a/x", []string{"Location: https://a/%zz"}, nil},
	} {
		if got := httpcache.Invalidated(row.target, head(row.fields...)); !slices.Equal(got, row.want) {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

// Checklist items 29, 30, 31: whether the second request gets what was stored for the first.
func TestRFC9111Section4_1Vary(t *testing.T) {
	for _, row := range []struct {
		name, vary, first, second string
		want                      bool
	}{
		{"the same", "A", "A: 1", "A: 1", true},
		{"different", "A", "A: 1", "A: 2", false},
		{"a field that doesn't count", "A", "B: 1", "B: 2", true},
		{"neither has it", "A", "B: 1", "B: 1", true},
		{"only the first has it", "A", "A: 1", "B: 1", false},
		{"only the second has it", "A", "B: 1", "A: 1", false},
		{"empty isn't absent", "A", "A: ", "B: 1", false},
		{"the name has no case", "a", "A: 1", "a: 1", true},
		{"the value has", "A", "A: x", "A: X", false},
		{"two fields, one differs", "A, B", "A: 1\nB: 1", "A: 1\nB: 2", false},
		{"two fields on two lines, one differs", "A\nVary: B", "A: 1\nB: 1", "A: 1\nB: 2", false},
		{"the order of fields doesn't count", "A, B", "A: 1\nB: 2", "B: 2\nA: 1", true},
		{"the value of one isn't that of the other", "A, B", "A: 1", "B: 1", false},
		{"lines are combined", "A", "A: 1\nA: 2", "A: 1, 2", true},
		{"space around commas", "A", "A: 1,2", "A: 1 ,\t2", true},
		{"the order of lines counts", "A", "A: 1\nA: 2", "A: 2\nA: 1", false},
		{"a comma in quotes is no comma", "A", `A: "1, 2"`, `A: "1,2"`, false},
		{"combined quotes", "A", "A: \"1\nA: 2\"", `A: "1,2"`, false},
		{"an empty element may mean something", "A", "A: 1,,2", "A: 1,2", false},
		{"a space may mean something", "A", "A: 1 2", "A: 1  2", false},
		{"a cookie stays as it is", "Cookie", "Cookie: a=1,b=2", "Cookie: a=1, b=2", false},
		{"a User-Agent stays as it is", "User-Agent", "User-Agent: a,b", "User-Agent: a, b", false},
		{
			"codings in any order", "Accept-Encoding", "Accept-Encoding: gzip, br", "Accept-Encoding: br;q=0.5,GZIP",
			true,
		},
		{"codings that differ", "Accept-Encoding", "Accept-Encoding: gzip", "Accept-Encoding: br", false},
		{
			"languages by weight", "Accept-Language", "Accept-Language: de;q=0.5, en", "Accept-Language: EN, de;q=0.9",
			true,
		},
		{"languages in another order", "Accept-Language", "Accept-Language: de, en", "Accept-Language: en, de", false},
		{"a language refused", "Accept-Language", "Accept-Language: *, de;q=0", "Accept-Language: *", false},
		{"a weight that can't be read", "Accept-Language", "Accept-Language: de;q=2, en", "Accept-Language: en", false},
		{
			"a parameter that is no weight", "Accept-Language", "Accept-Language: de;x=1, en", "Accept-Language: en",
			false,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			names := httpcache.VaryNames(head(splitLines("Vary: " + row.vary)...))
			variant := func(request string) string {
				return string(httpcache.AppendVariant(nil, names, head(splitLines(request)...)))
			}
			if got := variant(row.first) == variant(row.second); got != row.want {
				t.Errorf("%q and %q: %v, want %v", variant(row.first), variant(row.second), got, row.want)
			}
		})
	}
}

// Checklist items 29, 31.
func TestRFC9110Section12_5_5VaryField(t *testing.T) {
	for _, row := range []struct {
		name, vary string
		want       []string
		reason     httpcache.Reason
	}{
		{"names", "B, a ,b", []string{"a", "b"}, ""},
		{"empty", "", nil, ""},
		{"empty elements", ", a,", []string{"a"}, ""},
		{"any", "*", []string{"*"}, httpcache.ReasonVaryAny},
		{"any, last", "a, *", []string{"*"}, httpcache.ReasonVaryAny},
		{"any, first", "*, a", []string{"*"}, httpcache.ReasonVaryAny},
		{"any, on another line", "a\nVary: *", []string{"*"}, httpcache.ReasonVaryAny},
		{"any, among empty elements", ",*,", []string{"*"}, httpcache.ReasonVaryAny},
		{"what is no name could be any", "a; b", []string{"*"}, httpcache.ReasonVaryAny},
		{"quotes are no name", `"a"`, []string{"*"}, httpcache.ReasonVaryAny},
		{"as many variants as clients", "a, cookie", []string{"a", "cookie"}, httpcache.ReasonVaryTooMany},
		{"as many variants as programs", "User-Agent", []string{"user-agent"}, httpcache.ReasonVaryTooMany},
	} {
		fields := append(splitLines("Vary: "+row.vary), "Cache-Control: max-age=60")
		if got := httpcache.VaryNames(head(fields...)); !slices.Equal(got, row.want) {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
		if _, got := get(&httpcache.Rules{}, 200, fields...); got != row.reason {
			t.Errorf("%s: %q, want %q", row.name, got, row.reason)
		}
	}
	if _, got := get(&httpcache.Rules{Vary: []string{"COOKIE"}}, 200, "Vary: Cookie",
		"Cache-Control: max-age=60"); got != "" {
		t.Errorf("a route that names Cookie: %q", got)
	}
}
