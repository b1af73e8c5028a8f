package httpcache_test

import (
	"slices"
	"testing"
	"time"

	"millrace/kvcache/httpcache"
)

// Checklist item 13. Each row is a response that would be fresh for a minute, if it weren't for what the row says.
func TestRFC9111Section5_2Grammar(t *testing.T) {
	const (
		fresh   = "fresh"
		stale   = "stale" // kept, and validated before each use
		noStore = string(httpcache.ReasonNoStore)
		private = string(httpcache.ReasonPrivate)
	)
	for _, row := range []struct{ name, control, want string }{
		{"a token", "max-age=60", fresh},
		{"a quoted string", `max-age="60"`, fresh},
		{"a quoted pair", `max-age="6\0"`, fresh},
		{"no case", "MaX-aGe=60", fresh},
		{"empty elements", ",, max-age=60 ,\t,", fresh},
		{"an unknown directive", "foo, max-age=60, bar=baz", fresh},
		{"single quotes", "max-age='60'", stale},
		{"no argument", "max-age", stale},
		{"an empty argument", "max-age=", stale},
		{"empty quotes", `max-age=""`, stale},
		{"negative", "max-age=-60", stale},
		{"signed", "max-age=+60", stale},
		{"a fraction", "max-age=60.0", stale},
		{"an exponent", "max-age=6e1", stale},
		{"letters behind", "max-age=60s", stale},
		{"letters before", "max-age=s60", stale},
		{"a space before the equals sign", "max-age =60", stale},
		{"a space after the equals sign", "max-age= 60", stale},
		{"text behind the quotes", `max-age="60"0`, stale},
		{"quotes that don't end", `max-age="60`, stale},
		{"a quoted pair that doesn't end", `max-age="60\`, stale},
		{"two arguments", "max-age=60=60", stale},
		{"a semicolon", "max-age=60; public", stale},
		{"in the quotes of another directive", `foo="max-age=60", max-age=0`, stale},
		{"in the quotes of another directive, later", `max-age=0, foo="bar, max-age=60"`, stale},
		{"behind an escaped quote", `foo="\", max-age=60", max-age=0`, stale},
		{"quotes open before", `foo="bar, max-age=60`, stale},
		{"quotes open on another line", "foo=\"bar\nCache-Control: max-age=60", stale},
		{"no-store in the quotes of another directive", `foo="no-store", max-age=60`, fresh},
		{"no-store in open quotes", `max-age=60, foo="bar, no-store`, noStore},
		{"no-store in other case", "max-age=60, No-Store", noStore},
		{"no-store with an argument", "max-age=60, no-store=1", noStore},
		{"no-store on another line", "max-age=60\nCache-Control: no-store", noStore},
		{"no-store before a semicolon", "no-store; max-age=60", noStore},
		{"no-store behind a semicolon", "public; no-store, max-age=60", noStore},
		{"no-store behind a space", "max-age=60, public no-store", noStore},
		{"private before a semicolon", "private; max-age=60", private},
		{"private in braces", "max-age=60, {private}", private},
		{"garbage", "max-age=60, @%&", stale},
		{"private", "max-age=60, private", private},
		{"private with a field", `max-age=60, private="x-a"`, fresh},
		{"private with a field as a token", "max-age=60, private=x-a", fresh},
		{"private with no field", `max-age=60, private=""`, private},
		{"private with what is no field", `max-age=60, private="x a"`, private},
		{"private with quotes that don't end", `max-age=60, private="x-a`, private},
		{"private twice, once for all", `max-age=60, private="x-a", private`, private},
		{"no-cache", "max-age=60, no-cache", stale},
		{"no-cache with a field", `max-age=60, no-cache="x-a, x-b"`, fresh},
		{"no-cache with what is no field", `max-age=60, no-cache="x-a;"`, stale},
		{"no-cache in single quotes names a field of that name", "max-age=60, no-cache='x-a'", fresh},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, reason := get(&httpcache.Rules{}, 200, append(splitLines("Cache-Control: "+row.control), `ETag: "a"`)...)
			got := string(reason)
			if reason == "" {
				got = map[httpcache.Use]string{
					httpcache.UseFresh:    fresh,
					httpcache.UseValidate: stale,
				}[s.Judge(nil, now, false)]
			}
			if got != row.want {
				t.Errorf("%s, want %s", got, row.want)
			}
		})
	}
}

// Checklist items 13, 28, 55.
func TestRFC9111Section5_2_2ResponseDirectives(t *testing.T) {
	for _, row := range []struct {
		name, control string
		flags         httpcache.Flags
	}{
		{"none of them", "max-age=60", 0},
		{"no-cache", "max-age=60, no-cache", httpcache.NoCache | httpcache.NoStale},
		{"must-revalidate", "max-age=60, must-revalidate", httpcache.NoStale},
		{"proxy-revalidate", "max-age=60, proxy-revalidate", httpcache.NoStale},
		{"s-maxage", "s-maxage=60", httpcache.NoStale},
		{"immutable", "max-age=60, immutable", httpcache.Immutable},
		{"an immutable that can't be read", `max-age=60, immutable="`, httpcache.NoCache | httpcache.NoStale},
		{"an immutable with an argument", "max-age=60, immutable=0", 0},
		{"no-transform", "max-age=60, no-transform", httpcache.NoTransform},
		{"max-stale is for requests", "max-age=60, max-stale=60", 0},
	} {
		s, reason := get(&httpcache.Rules{}, 200, "Cache-Control: "+row.control, `ETag: "a"`)
		if want := row.flags | httpcache.HasValidator; reason != "" || s.Flags != want {
			t.Errorf("%s: %b, want %b (%q)", row.name, s.Flags, want, reason)
		}
	}
	c := httpcache.ParseControl(head(`Cache-Control: no-cache="a,b", private=C`, `Cache-Control: no-cache="d"`), false)
	if !slices.Equal(c.NoCacheFields, []string{"a", "b", "d"}) || !slices.Equal(c.PrivateFields, []string{"C"}) ||
		c.NoCache || c.Private {
		t.Errorf("qualified directives: %+v", c)
	}
}

// Checklist item 6.
func TestRFC9111Section5_2_2_3MustUnderstand(t *testing.T) {
	for _, row := range []struct {
		name, control string
		status        int
		want          httpcache.Reason
	}{
		{"alone, a status that is understood", "max-age=60, must-understand", 200, ""},
		{"alone, one that isn't", "max-age=60, must-understand", 299, httpcache.ReasonStatus},
		{"it overrules no-store where the status is understood", "max-age=60, must-understand, no-store", 200, ""},
		{"and only there", "max-age=60, must-understand, no-store", 299, httpcache.ReasonStatus},
		{"it doesn't overrule private", "max-age=60, must-understand, no-store, private", 200, httpcache.ReasonPrivate},
		{
			"with an argument it doesn't overrule no-store", "max-age=60, must-understand=1, no-store", 200,
			httpcache.ReasonNoStore,
		},
		{"with an argument it still restricts", "max-age=60, must-understand=1", 299, httpcache.ReasonStatus},
	} {
		if _, got := get(&httpcache.Rules{}, row.status, "Cache-Control: "+row.control); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

// Checklist item 15: a response that is fresh for 100 s and may be refreshed for 10 s more, by its age.
func TestRFC9111Section5_2_1RequestDirectives(t *testing.T) {
	const fresh, refresh, validate, never = httpcache.UseFresh, httpcache.UseRefresh, httpcache.UseValidate,
		httpcache.UseNever
	for _, row := range []struct {
		name, response, request string
		age                     int
		want                    httpcache.Use
	}{
		{"nothing asked", "", "", 50, fresh},
		{"nothing asked, in the window", "", "", 105, refresh},
		{"max-age: young enough", "", "max-age=50", 50, fresh},
		{"max-age: too old", "", "max-age=50", 51, validate},
		{"max-age: a reload", "", "max-age=0", 1, validate},
		{"max-age: not stale, even in the window", "", "max-age=1000", 105, validate},
		{"max-age that can't be read", "", "max-age=x", 1, validate},
		{"max-age with max-stale: so much older", "", "max-age=50, max-stale=20", 70, fresh},
		{"max-age with max-stale: too old", "", "max-age=50, max-stale=20", 71, validate},
		{"max-age with any max-stale", "", "max-age=50, max-stale", 1000, fresh},
		{"max-age with a max-stale of nothing", "", "max-age=50, max-stale=0", 60, validate},
		{"max-stale: any", "", "max-stale", 100000, fresh},
		{"max-stale: within", "", "max-stale=20", 120, fresh},
		{"max-stale: beyond", "", "max-stale=20", 121, validate},
		{"max-stale twice: the smaller", "", "max-stale, max-stale=20", 121, validate},
		{"max-stale that can't be read", "", "max-stale=x", 111, validate},
		{"max-stale, but must-revalidate", ", must-revalidate", "max-stale=20", 101, validate},
		{"max-stale, but proxy-revalidate", ", proxy-revalidate", "max-stale=20", 101, validate},
		{"max-stale, but s-maxage", ", s-maxage=100", "max-stale=20", 101, validate},
		{"max-stale, but no-cache", ", no-cache", "max-stale=20", 1, validate},
		{"min-fresh: enough is left", "", "min-fresh=50", 50, fresh},
		{"min-fresh: too little", "", "min-fresh=50", 51, validate},
		{"min-fresh twice: the larger", "", "min-fresh=50, min-fresh=10", 51, validate},
		{"min-fresh and max-stale", "", "min-fresh=1, max-stale", 100, validate},
		{"no-cache", "", "no-cache", 1, validate},
		{"no-cache in other case", "", "No-Cache", 1, validate},
		{"no-store doesn't keep from what is stored", "", "no-store", 1, fresh},
		{"only-if-cached: it is", "", "only-if-cached", 50, fresh},
		{"only-if-cached: it is, stale but allowed", "", "only-if-cached", 105, refresh},
		{"only-if-cached: it is too stale", "", "only-if-cached", 111, never},
		{"only-if-cached and no-cache", "", "only-if-cached, no-cache", 1, never},
		{"only-if-cached and max-stale", "", "only-if-cached, max-stale", 1000, fresh},
		{"an unknown directive", "", "foo", 50, fresh},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, reason := get(&httpcache.Rules{}, 200,
				"Cache-Control: max-age=100, stale-while-revalidate=10"+row.response, `ETag: "a"`)
			if reason != "" {
				t.Fatal(reason)
			}
			c := httpcache.ParseControl(head("Cache-Control: "+row.request), true)
			if got := s.Judge(&c, now.Add(time.Duration(row.age)*time.Second), false); got != row.want {
				t.Errorf("%v, want %v", got, row.want)
			}
		})
	}
}

// Checklist item 15: §5.2.1.5.
func TestRFC9111Section5_2_1_5RequestNoStore(t *testing.T) {
	req := &httpcache.Request{Method: "GET", Header: head("Cache-Control: no-store")}
	for _, row := range []struct {
		rules httpcache.Rules
		want  httpcache.Reason
	}{
		{httpcache.Rules{RequestDirectives: true}, httpcache.ReasonRequest},
		{httpcache.Rules{}, ""},
	} {
		if _, _, got := row.rules.Admit(req, response(200, "Cache-Control: max-age=60")); got != row.want {
			t.Errorf("%v: %q, want %q", row.rules.RequestDirectives, got, row.want)
		}
	}
}

// Checklist item 15.
func TestRFC9111Section5_4Pragma(t *testing.T) {
	for _, row := range []struct {
		name    string
		fields  []string
		request bool
		want    bool
	}{
		{"in a request", []string{"Pragma: no-cache"}, true, true},
		{"in other case, among others", []string{"Pragma: foo, No-Cache"}, true, true},
		{
			"beside Cache-Control it doesn't count",
			[]string{"Pragma: no-cache", "Cache-Control: max-age=60"},
			true,
			false,
		},
		{"in a response it says nothing", []string{"Pragma: no-cache"}, false, false},
		{"something else", []string{"Pragma: foo"}, true, false},
	} {
		if c := httpcache.ParseControl(head(row.fields...), row.request); c.NoCache != row.want {
			t.Errorf("%s: %v, want %v", row.name, c.NoCache, row.want)
		}
	}
}

// Checklist item 16. RFC 8246 §2: a proxy skips validation unless the client signals that it is necessary, as by
// no-cache.
func TestRFC8246Section2Immutable(t *testing.T) {
	const fresh, validate = httpcache.UseFresh, httpcache.UseValidate
	for _, row := range []struct {
		name    string
		request []string
		age     int
		want    httpcache.Use
	}{
		{"a reload while it is fresh", []string{"Cache-Control: max-age=0"}, 50, fresh},
		{"a reload when it isn't", []string{"Cache-Control: max-age=0"}, 100, validate},
		{"a forced reload", []string{"Cache-Control: no-cache"}, 50, validate},
		{"an old forced reload", []string{"Pragma: no-cache"}, 50, validate},
		{"both", []string{"Cache-Control: max-age=0, no-cache"}, 50, validate},
		{"a limit of age that isn't a reload", []string{"Cache-Control: max-age=10"}, 50, validate},
		{"a reload that wants it fresh for longer", []string{"Cache-Control: max-age=0, min-fresh=60"}, 50, validate},
	} {
		s, _ := get(&httpcache.Rules{}, 200, "Cache-Control: max-age=100, immutable", `ETag: "a"`)
		c := httpcache.ParseControl(head(row.request...), true)
		if got := s.Judge(&c, now.Add(time.Duration(row.age)*time.Second), false); got != row.want {
			t.Errorf("%s: %v, want %v", row.name, got, row.want)
		}
	}
}

// Checklist items 11, 18. Each row is about a response whose Cache-Control says an hour.
func TestRFC9213Section2TargetedFields(t *testing.T) {
	const minute, hour = time.Minute, time.Hour
	for _, row := range []struct {
		name   string
		fields []string
		want   time.Duration
		reason httpcache.Reason
	}{
		{"none", nil, hour, ""},
		{"one", []string{"CDN-Cache-Control: max-age=60"}, minute, ""},
		{
			"the own one first",
			[]string{"CDN-Cache-Control: max-age=9", "Millrace-CDN-Cache-Control: max-age=60"},
			minute, "",
		},
		{"the old name last", []string{"Surrogate-Control: max-age=9", "CDN-Cache-Control: max-age=60"}, minute, ""},
		{"the old name alone", []string{"Surrogate-Control: max-age=60"}, minute, ""},
		{"a longer time", []string{"CDN-Cache-Control: max-age=7200"}, 2 * hour, ""},
		{"Expires doesn't count either", []string{"CDN-Cache-Control: foo", "Expires: " + at(hour)}, 0, ""},
		{
			"nor does no-store of Cache-Control",
			[]string{"CDN-Cache-Control: max-age=60", "Cache-Control: no-store"},
			minute, "",
		},
		{"nor private", []string{"CDN-Cache-Control: max-age=60", "Cache-Control: private"}, minute, ""},
		{"its own no-store does", []string{"CDN-Cache-Control: no-store"}, 0, httpcache.ReasonNoStore},
		{"its own private does", []string{"CDN-Cache-Control: private, max-age=60"}, minute, httpcache.ReasonPrivate},
		{"s-maxage first", []string{"CDN-Cache-Control: max-age=9, s-maxage=60"}, minute, ""},
		{"over two lines", []string{"CDN-Cache-Control: public", "CDN-Cache-Control: max-age=60"}, minute, ""},
		{"parameters are ignored", []string{"CDN-Cache-Control: max-age=60;a=b"}, minute, ""},
		{"the last of one name counts", []string{"CDN-Cache-Control: max-age=9, max-age=60"}, minute, ""},
		{"empty", []string{"CDN-Cache-Control: "}, hour, ""},
		{"not a dictionary", []string{"CDN-Cache-Control: max-age=60, &&&"}, hour, ""},
		{"upper case is not a key", []string{"CDN-Cache-Control: Max-Age=60"}, hour, ""},
		{"a space before the equals sign", []string{"CDN-Cache-Control: max-age =60"}, hour, ""},
		{
			"the first is invalid, the second counts",
			[]string{"Millrace-CDN-Cache-Control: ,", "CDN-Cache-Control: max-age=60"},
			minute, "",
		},
		{"a string is no time", []string{`CDN-Cache-Control: max-age="60"`}, 0, ""},
		{"a token is no time", []string{"CDN-Cache-Control: max-age=a"}, 0, ""},
		{"a decimal is no time", []string{"CDN-Cache-Control: max-age=60.0"}, 0, ""},
		{"a negative number is no time", []string{"CDN-Cache-Control: max-age=-60"}, 0, ""},
		{"true is no time", []string{"CDN-Cache-Control: max-age"}, 0, ""},
		{"false is no time", []string{"CDN-Cache-Control: max-age=?0"}, 0, ""},
		{"a list is no time", []string{"CDN-Cache-Control: max-age=(60)"}, 0, ""},
		{"a large number", []string{"CDN-Cache-Control: max-age=99999999999"}, (1 << 31) * time.Second, ""},
		{"no-store with a value", []string{"CDN-Cache-Control: no-store=1"}, 0, httpcache.ReasonNoStore},
		{"private that names a field", []string{`CDN-Cache-Control: max-age=60, private="x-a"`}, minute, ""},
		{
			"private that names a list",
			[]string{`CDN-Cache-Control: max-age=60, private=("x-a")`},
			minute,
			httpcache.ReasonPrivate,
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, reason := get(targeted(), 200,
				append([]string{"Cache-Control: max-age=3600", `ETag: "a"`}, row.fields...)...)
			if s.Lifetime != row.want || reason != row.reason {
				t.Errorf("%v %q, want %v %q", s.Lifetime, reason, row.want, row.reason)
			}
		})
	}
	if s, _ := get(&httpcache.Rules{}, 200, "Cache-Control: max-age=60",
		"CDN-Cache-Control: max-age=9"); s.Lifetime != time.Minute {
		t.Errorf("a route without targets: %v", s.Lifetime)
	}
	if s, _ := get(targeted(), 200,
		"CDN-Cache-Control: max-age=60, stale-while-revalidate=5, "+
			"stale-if-error=6"); s.StaleWhileRevalidate != 5*time.Second || s.StaleIfError != 6*time.Second {
		t.Errorf("targeted windows: %v %v", s.StaleWhileRevalidate, s.StaleIfError)
	}
}
