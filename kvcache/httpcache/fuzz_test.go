package httpcache_test

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/kvcache/httpcache"
	"millrace/node"
)

func FuzzControl(f *testing.F) {
	for _, value := range []string{
		"", "max-age=60", `private="x-a`, `foo="bar, max-age=60`, `max-age="6\0", no-cache="a,b"`, "public; max-age=60",
		"must-understand, no-store", "s-maxage=1;a=(b)", `x="\`,
	} {
		f.Add(value)
	}
	rules := targeted()
	f.Fuzz(func(t *testing.T, value string) {
		storable := func(field, value string) bool {
			h := node.Header{
				{Name: field, Value: value},
				{Name: "ETag", Value: `"a"`},
				{Name: "Expires", Value: at(time.Minute)},
			}
			_, _, reason := rules.Admit(&httpcache.Request{Method: "GET"},
				&httpcache.Response{Status: 200, Header: h, Requested: now, Received: now})
			return reason == ""
		}
		for _, field := range []string{"Cache-Control", "CDN-Cache-Control"} {
			before := storable(field, value)
			for _, with := range []string{value + ", no-store", "no-store, " + value} {
				after := storable(field, with)
				if after && !before {
					t.Errorf("%s: %q is storable, %q isn't", field, with, value)
				}
				if after && field == "Cache-Control" && !strings.Contains(strings.ToLower(value), "must-understand") {
					t.Errorf("%q is storable", with)
				}
			}
		}
		for _, request := range []bool{false, true} {
			c := httpcache.ParseControl(node.Header{
				{Name: "Cache-Control", Value: value},
				{Name: "Pragma", Value: value},
			}, request)
			for _, d := range []time.Duration{
				c.MaxAge, c.SMaxAge, c.StaleWhileRevalidate, c.StaleIfError, c.MaxStale,
				c.MinFresh,
			} {
				if d < 0 && d != httpcache.Absent || d > httpcache.MaxAge*time.Second && d != httpcache.Forever {
					t.Errorf("%q: %+v", value, c)
				}
			}
		}
	})
}

func FuzzDate(f *testing.F) {
	for _, value := range []string{
		"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994", "Thursday, 29-Feb-00 00:00:00 GMT", "sUN, 06 nOv 1994 08:49:37 gmt", "0",
	} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got, ok := httpcache.ParseDate(value, now)
		if !ok {
			return
		}
		for _, layout := range []string{
			"Mon, 02 Jan 2006 15:04:05 GMT", "Monday, 02-Jan-06 15:04:05 GMT",
			"Mon Jan _2 15:04:05 2006",
		} {
			written := got.Format(layout)
			_, want, _ := strings.Cut(written, " ")                               // the day's name needn't match
			if _, have, _ := strings.Cut(value, " "); node.SameName(have, want) { // nor the case of letters
				if again, ok := httpcache.ParseDate(httpcache.FormatDate(got), now); !ok || !again.Equal(got) {
					t.Errorf("%q: %v is read back as %v", value, got, again)
				}
				return
			}
		}
		t.Errorf("%q is read as %v, which nobody would write so", value, got)
	})
}

func FuzzRange(f *testing.F) {
	f.Add("bytes=0-4,-3,7-", int64(10), `"a"`)
	f.Add("bytes=-0", int64(0), "")
	f.Add("bytes 0-4/10", int64(1), at(0))
	f.Add("bytes 0-4/*", int64(1), "")
	f.Fuzz(func(t *testing.T, value string, length int64, condition string) {
		spans, use := httpcache.ParseRange(value, length)
		if (use == httpcache.RangeSome) != (len(spans) > 0) || len(spans) > 16 {
			t.Errorf("%q of %d: %v, %d", value, length, spans, use)
		}
		for _, s := range spans {
			if s.First < 0 || s.Last < s.First || s.Last >= length {
				t.Errorf("%q of %d: %v", value, length, s)
			}
			if again, total, ok := httpcache.ParseContentRange(httpcache.ContentRange(s, length)); length < 1e18 &&
				(!ok || again != s || total != length) {
				t.Errorf("%v of %d is read back as %v of %d", s, length, again, total)
			}
		}
		if len(spans) > 0 && length < 1e17 { // the sum of the lengths doesn't overflow
			httpcache.NewMultipart(spans, length, value, value)
		}
		if s, total, ok := httpcache.ParseContentRange(value); ok && (s.First < 0 || s.Last < s.First ||
			s.Last >= total) {
			t.Errorf("%q: %v of %d", value, s, total)
		}
		if open := httpcache.OpenContentRange(value); open {
			known := strings.TrimSuffix(value, "*") + strings.Repeat("9", 18)
			if _, _, ok := httpcache.ParseContentRange(known); !ok || known == value {
				t.Errorf("%q is open, and %q is no range", value, known)
			}
		}
		h := node.Header{{Name: "If-Range", Value: condition}}
		if httpcache.RangeApplies(h, nil, now) {
			t.Errorf("If-Range: %q matches nothing", condition)
		}
	})
}

func FuzzConditional(f *testing.F) {
	f.Add(`"a", W/"b"`, `"b"`, "https://a:443/x")
	f.Add("*", "", "../y#z")
	f.Add(at(0), at(-time.Hour), "//user@a/")
	f.Fuzz(func(t *testing.T, condition, validator, location string) {
		const target = "https://a/x/y"
		stored := node.Header{{Name: "ETag", Value: validator}, {Name: "Last-Modified", Value: validator}}
		for _, name := range []string{"If-None-Match", "If-Modified-Since"} {
			req := &httpcache.Request{Method: "GET", Header: node.Header{{Name: name, Value: condition}}}
			if httpcache.NotModified(req, 200, node.Header{{Name: "X", Value: validator}}, now) &&
				strings.TrimSpace(condition) != "*" {
				t.Errorf("%s: %q matches what has no validator", name, condition)
			}
			httpcache.NotModified(req, 200, stored, now)
		}
		other := node.Header{{Name: "ETag", Value: condition}, {Name: "Content-Length", Value: condition}}
		if httpcache.SameStrongly(condition, validator) && condition != validator {
			t.Errorf("%q and %q are the same", condition, validator)
		}
		if httpcache.SameRepresentation(stored, other, now) && httpcache.OtherRepresentation(stored, other) {
			t.Errorf("%v and %v are the same and another", stored, other)
		}
		c := httpcache.RangeCondition(stored, now)
		if c != "" && !httpcache.RangeApplies(node.Header{{Name: "If-Range", Value: c}}, stored, now) {
			t.Errorf("If-Range: %s doesn't apply to %v", c, stored)
		}
		httpcache.Validates(stored, other)
		httpcache.HeadEffect(stored, 1, other)
		for _, uri := range httpcache.Invalidated(target, node.Header{{Name: "Location", Value: location}}) {
			if u, err := url.Parse(uri); err != nil || u.Scheme != "https" || u.Host != "a" || u.User != nil ||
				u.Fragment != "" {
				t.Errorf("%q makes %q invalid", location, uri)
			}
		}
		groups := node.Header{
			{Name: "Cache-Groups", Value: location},
			{Name: "Cache-Tag", Value: location},
			{Name: "Cache-Group-Invalidation", Value: location},
		}
		tags := httpcache.Tags(groups, "https://a")
		for _, tag := range httpcache.InvalidatedGroups(groups, "https://a") {
			if !slices.Contains(tags, tag) {
				t.Errorf("%q invalidates %q, which it isn't in", location, tag)
			}
		}
	})
}

func FuzzSearch(f *testing.F) {
	f.Add(`params, except=("a%20b")`, "a+b=1&c")
	f.Add(`key-order, params=("a" "%C3%A9")`, "b&é=1&&a=2&a=1")
	f.Add(`params=("%zz" "\"")`, "%zz=1&%=2")
	f.Fuzz(func(t *testing.T, rule, query string) {
		s, ok := httpcache.ParseNoVarySearch(httpcache.SearchHeader(rule))
		once := s.Reduce("?" + query)
		if twice := s.Reduce(once); twice != once {
			t.Errorf("%s: %q, then %q", rule, once, twice)
		}
		if !ok {
			return
		}
		again, ok := httpcache.ParseNoVarySearch(httpcache.SearchHeader(s.String()))
		if !ok || again.Reduce("?"+query) != once {
			t.Errorf("%s is written as %s", rule, s.String())
		}
	})
}

func FuzzVary(f *testing.F) {
	f.Add("Accept-Encoding, a", "gzip;q=0.5, br", "zstd")
	f.Add("accept-language,cookie", "de, en;q=0", `"a, b"`)
	f.Add("a, *", `"a`, `b"`)
	f.Add("a", "1,,2", "")
	f.Fuzz(func(t *testing.T, vary, a, b string) {
		names := httpcache.VaryNames(node.Header{{Name: "Vary", Value: vary}})
		if !slices.IsSorted(names) || slices.Contains(names, "*") && len(names) > 1 {
			t.Errorf("%q: %q", vary, names)
		}
		for _, name := range names {
			apart := httpcache.AppendVariant(nil, names, node.Header{{Name: name, Value: a}, {Name: name, Value: b}})
			together := httpcache.AppendVariant(nil, names, node.Header{{Name: name, Value: a + ", " + b}})
			if string(apart) != string(together) {
				t.Errorf("%q: two lines are %q, one is %q", name, apart, together)
			}
			if none := httpcache.AppendVariant(nil, names, nil); string(none) == string(apart) {
				t.Errorf("%q: %q is as if it weren't there", name, apart)
			}
		}
		if coding := httpcache.AcceptEncoding([]string{a}); httpcache.AcceptEncoding([]string{coding}) != coding {
			t.Errorf("%q: %q isn't the one spelling", a, coding)
		}
	})
}
