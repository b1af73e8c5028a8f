package httpcache_test

import (
	"io"
	"mime"
	"mime/multipart"
	"slices"
	"strings"
	"testing"
	"time"

	"millrace/kvcache/httpcache"
)

// Checklist item 13: strict dates.
func TestRFC9110Section5_6_7Dates(t *testing.T) {
	six := time.Date(1994, time.November, 6, 8, 49, 37, 0, time.UTC)
	for _, row := range []struct {
		name, text string
		want       time.Time // zero: invalid
	}{
		{"the preferred form", "Sun, 06 Nov 1994 08:49:37 GMT", six},
		{"the form of RFC 850", "Sunday, 06-Nov-94 08:49:37 GMT", six},
		{"the form of asctime", "Sun Nov  6 08:49:37 1994", six},
		{"asctime with two digits", "Sun Nov 16 08:49:37 1994", six.AddDate(0, 0, 10)},
		{
			"two digits, 50 years ahead", "Tuesday, 24-Nov-76 12:00:00 GMT",
			time.Date(2076, time.November, 24, 12, 0, 0, 0, time.UTC),
		},
		{
			"two digits, more than 50 years ahead", "Tuesday, 24-Nov-76 12:00:01 GMT",
			time.Date(1976, time.November, 24, 12, 0, 1, 0, time.UTC),
		},
		{
			"two digits, 44 years ahead", "Monday, 24-Nov-70 12:00:00 GMT",
			time.Date(2070, time.November, 24, 12, 0, 0, 0, time.UTC),
		},
		{"a leap day", "Thursday, 29-Feb-96 00:00:00 GMT", time.Date(1996, time.February, 29, 0, 0, 0, 0, time.UTC)},
		{"no leap day", "Sun, 29 Feb 2026 00:00:00 GMT", time.Time{}},
		{"no leap day in two digits", "Sunday, 29-Feb-26 00:00:00 GMT", time.Time{}},
		{"the day in capitals", "SUN, 06 Nov 1994 08:49:37 GMT", six},
		{"the day in small letters, asctime", "sun Nov  6 08:49:37 1994", six},
		{"the day in capitals, RFC 850", "SUNDAY, 06-Nov-94 08:49:37 GMT", six},
		{"the month in capitals", "Sun, 06 NOV 1994 08:49:37 GMT", six},
		{"the month in small letters, RFC 850", "Sunday, 06-nov-94 08:49:37 GMT", six},
		{"the month in other case, asctime", "Sun nOV  6 08:49:37 1994", six},
		{"the zone in other case", "Sun, 06 Nov 1994 08:49:37 gMT", six},
		{"the zone in other case, RFC 850", "Sunday, 06-Nov-94 08:49:37 gmt", six},
		{"all in other case", "sUN, 06 nOv 1994 08:49:37 gmt", six},
		{"another zone in other case", "Sun, 06 Nov 1994 08:49:37 utc", time.Time{}},
		{"a letter that only folds to one", "Sun, 06 Nov 1994 08:49:37 \u212aMT", time.Time{}},
		{"a long s", "\u017fun, 06 Nov 1994 08:49:37 GMT", time.Time{}},
		{"another zone", "Sun, 06 Nov 1994 08:49:37 UTC", time.Time{}},
		{"an offset", "Sun, 06 Nov 1994 08:49:37 +0000", time.Time{}},
		{"another zone, RFC 850", "Sunday, 06-Nov-94 08:49:37 CET", time.Time{}},
		{"no zone", "Sun, 06 Nov 1994 08:49:37", time.Time{}},
		{"two digits in the preferred form", "Sun, 06 Nov 94 08:49:37 GMT", time.Time{}},
		{"four digits in the form of RFC 850", "Sunday, 06-Nov-1994 08:49:37 GMT", time.Time{}},
		{"dashes in the preferred form", "Sun, 06-Nov-1994 08:49:37 GMT", time.Time{}},
		{"a short day, RFC 850", "Sun, 06-Nov-94 08:49:37 GMT", time.Time{}},
		{"no such day", "Son, 06 Nov 1994 08:49:37 GMT", time.Time{}},
		{"no comma", "Sun 06 Nov 1994 08:49:37 GMT", time.Time{}},
		{"two spaces", "Sun,  06 Nov 1994 08:49:37 GMT", time.Time{}},
		{"a day of one digit", "Sun, 6 Nov 1994 08:49:37 GMT", time.Time{}},
		{"an hour of one digit", "Sun, 06 Nov 1994 8:49:37 GMT", time.Time{}},
		{"a zero in asctime", "Sun Nov 06 08:49:37 1994", time.Time{}},
		{"dots in the time", "Sun, 06 Nov 1994 08.49.37 GMT", time.Time{}},
		{"a fraction", "Sun, 06 Nov 1994 08:49:37.5 GMT", time.Time{}},
		{"no seconds", "Sun, 06 Nov 1994 08:49 GMT", time.Time{}},
		{"hour 24", "Sun, 06 Nov 1994 24:00:00 GMT", time.Time{}},
		{"day 0", "Sun, 00 Nov 1994 08:49:37 GMT", time.Time{}},
		{"text behind", "Sun, 06 Nov 1994 08:49:37 GMT; x", time.Time{}},
		{"a number", "784111777", time.Time{}},
		{"nothing", "", time.Time{}},
		{"another format", "1994-11-06T08:49:37Z", time.Time{}},
	} {
		got, ok := httpcache.ParseDate(row.text, now)
		if ok != !row.want.IsZero() || ok && !got.Equal(row.want) {
			t.Errorf("%s: %v %v, want %v", row.name, got, ok, row.want)
		}
	}
	if got := httpcache.FormatDate(six.In(time.FixedZone("", 3600))); got != "Sun, 06 Nov 1994 08:49:37 GMT" {
		t.Error(got)
	}
}

// Checklist items 8, 20, 25.
func TestRFC9110Section8_8_3StrongComparison(t *testing.T) {
	for _, row := range []struct {
		name, a, b string
		want       bool
	}{
		{"equal", `"1"`, `"1"`, true},
		{"different", `"1"`, `"2"`, false},
		{"both weak", `W/"1"`, `W/"1"`, false},
		{"one weak", `W/"1"`, `"1"`, false},
		{"empty is a tag", `""`, `""`, true},
		{"no tags", "", "", false},
		{"without quotes", "1", "1", false},
		{"half quotes", `"1`, `"1`, false},
		{"two tags", `"1", "2"`, `"1", "2"`, false},
	} {
		if got := httpcache.SameStrongly(row.a, row.b); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

// Checklist item 25.
func TestRFC9110Section13_1_5IfRange(t *testing.T) {
	old := at(-time.Hour)
	for _, row := range []struct {
		name, request, stored string
		want                  bool
	}{
		{"none", "X: y", `ETag: "a"`, true},
		{"the same tag", `If-Range: "a"`, `ETag: "a"`, true},
		{"another tag", `If-Range: "b"`, `ETag: "a"`, false},
		{"the same weak tag", `If-Range: W/"a"`, `ETag: W/"a"`, false},
		{"a list", `If-Range: "a", "a"`, `ETag: "a"`, false},
		{"any", `If-Range: *`, `ETag: "a"`, false},
		{"the same date, long ago", "If-Range: " + old, "Last-Modified: " + old + "\nDate: " + at(0), true},
		{
			"the same date, just now", "If-Range: " + old,
			"Last-Modified: " + old + "\nDate: " + at(-time.Hour+time.Second), false,
		},
		{"the same date, no Date", "If-Range: " + old, "Last-Modified: " + old, false},
		{"a later date", "If-Range: " + at(0), "Last-Modified: " + old + "\nDate: " + at(0), false},
		{
			"the same time in another form", "If-Range: Tuesday, 24-Nov-26 11:00:00 GMT",
			"Last-Modified: " + old + "\nDate: " + at(0), false,
		},
		{"no date", "If-Range: x", "Last-Modified: x\nDate: " + at(0), false},
		{"empty", "If-Range: ", `ETag: "a"`, false},
		{"two lines", "If-Range: \"a\"\nIf-Range: \"b\"", `ETag: "a"`, false},
	} {
		if got := httpcache.RangeApplies(head(splitLines(row.request)...), head(splitLines(row.stored)...),
			now); got != row.want {
			t.Errorf("%s: %v", row.name, got)
		}
	}
}

// Checklist item 25: what Range asks of ten bytes.
func TestRFC9110Section14_1_2ByteRanges(t *testing.T) {
	const none, some, bad = httpcache.RangeNone, httpcache.RangeSome, httpcache.RangeBad
	type spans = []httpcache.Span
	for _, row := range []struct {
		name, value string
		want        spans
		use         httpcache.RangeUse
	}{
		{"none", "", nil, none},
		{"one", "bytes=2-4", spans{{2, 4}}, some},
		{"one byte", "bytes=0-0", spans{{0, 0}}, some},
		{"all", "bytes=0-9", spans{{0, 9}}, some},
		{"beyond the end", "bytes=8-100", spans{{8, 9}}, some},
		{"open", "bytes=4-", spans{{4, 9}}, some},
		{"a suffix", "bytes=-3", spans{{7, 9}}, some},
		{"a suffix longer than the body", "bytes=-30", spans{{0, 9}}, some},
		{"an empty suffix", "bytes=-0", nil, bad},
		{"behind the end", "bytes=10-", nil, bad},
		{"far behind the end", "bytes=100-200", nil, bad},
		{"several", "bytes=0-1, 4-5,-1", spans{{0, 1}, {4, 5}, {9, 9}}, some},
		{"several in their order", "bytes=8-9,0-1", spans{{8, 9}, {0, 1}}, some},
		{"one of several exists", "bytes=20-30,0-1", spans{{0, 1}}, some},
		{"empty elements", "bytes=,0-1,, 3-4,", spans{{0, 1}, {3, 4}}, some},
		{"only empty elements", "bytes=,", nil, none},
		{"nothing", "bytes=", nil, none},
		{"the unit has no case", "BYTES=0-1", spans{{0, 1}}, some},
		{"another unit", "lines=0-1", nil, none},
		{"no unit", "0-1", nil, none},
		{"a space before the equals sign", "bytes =0-1", nil, none},
		{"backwards", "bytes=4-2", nil, none},
		{"one of several is backwards", "bytes=0-1,4-2", nil, none},
		{"a sign", "bytes=+0-1", nil, none},
		{"hexadecimal", "bytes=0x0-1", nil, none},
		{"a space within", "bytes=0 -1", nil, none},
		{"no dash", "bytes=1", nil, none},
		{"two dashes", "bytes=1--2", nil, none},
		{"a dash alone", "bytes=-", nil, none},
		{"letters", "bytes=a-b", nil, none},
		{"two overlap", "bytes=0-4,2-6", spans{{0, 6}}, some},
		{"too many overlap", "bytes=0-,0-,0-,0-", nil, none},
		{"too many", "bytes=" + strings.Repeat("0-0,", 100), nil, none},
	} {
		got, use := httpcache.ParseRange(row.value, 10)
		if use != row.use || !slices.Equal(got, row.want) {
			t.Errorf("%s: %v %d, want %v %d", row.name, got, use, row.want, row.use)
		}
	}
	for _, value := range []string{"bytes=0-", "bytes=-5", "bytes=0-0"} { // some clients always send this
		if got, use := httpcache.ParseRange(value, 0); use != none || got != nil {
			t.Errorf("%s of no bytes: %v %d", value, got, use)
		}
	}
}

// Checklist items 8, 25, 26.
func TestRFC9110Section14_4ContentRange(t *testing.T) {
	for _, row := range []struct {
		name, value string
		want        httpcache.Span
		length      int64
	}{
		{"a part", "bytes 2-4/10", httpcache.Span{First: 2, Last: 4}, 10},
		{"all", "bytes 0-9/10", httpcache.Span{First: 0, Last: 9}, 10},
		{"of unknown length", "bytes 2-4/*", httpcache.Span{}, 0},
		{"of no part", "bytes */10", httpcache.Span{}, 0},
		{"beyond the end", "bytes 2-10/10", httpcache.Span{}, 0},
		{"backwards", "bytes 4-2/10", httpcache.Span{}, 0},
		{"another unit", "lines 2-4/10", httpcache.Span{}, 0},
		{"as in Range", "bytes=2-4/10", httpcache.Span{}, 0},
		{"no length", "bytes 2-4", httpcache.Span{}, 0},
		{"text behind", "bytes 2-4/10 ", httpcache.Span{}, 0},
		{"longer than can be counted", "bytes 2-4/99999999999999999999", httpcache.Span{}, 0},
		{"nothing", "", httpcache.Span{}, 0},
	} {
		got, length, ok := httpcache.ParseContentRange(row.value)
		if ok != (row.length > 0) ||
			ok && (got != row.want || length != row.length || httpcache.ContentRange(got, length) != row.value) {
			t.Errorf("%s: %v %d %v", row.name, got, length, ok)
		}
	}
	if got := httpcache.UnsatisfiedRange(10); got != "bytes */10" {
		t.Error(got)
	}
	if got := (httpcache.Span{First: 2, Last: 4}); got.String() != "bytes=2-4" || got.Len() != 3 {
		t.Error(got, got.Len())
	}
}

// Checklist item 25.
func TestRFC9110Section14_6Multipart(t *testing.T) {
	const body = "abcdefghij"
	for _, kind := range []string{"text/plain; charset=utf-8", ""} {
		spans := []httpcache.Span{{First: 7, Last: 9}, {First: 0, Last: 1}}
		m := httpcache.NewMultipart(spans, 10, kind, "seed")
		var text strings.Builder
		for i, s := range spans {
			text.WriteString(m.Heads[i] + body[s.First:s.Last+1])
		}
		text.WriteString(m.Close)
		if int64(text.Len()) != m.Length {
			t.Errorf("%d bytes, want %d", text.Len(), m.Length)
		}
		media, params, err := mime.ParseMediaType(m.ContentType)
		if err != nil || media != "multipart/byteranges" || strings.Contains(body, params["boundary"]) {
			t.Fatal(media, params, err)
		}
		r := multipart.NewReader(strings.NewReader(text.String()), params["boundary"])
		for _, s := range spans {
			part, err := r.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(part)
			if err != nil || string(b) != body[s.First:s.Last+1] || part.Header.Get("Content-Type") != kind ||
				part.Header.Get("Content-Range") != httpcache.ContentRange(s, 10) {
				t.Errorf("%v: %q %v %v", s, b, part.Header, err)
			}
		}
		if _, err := r.NextRawPart(); err != io.EOF {
			t.Errorf("behind the last part: %v", err)
		}
	}
	if a, b := httpcache.NewMultipart(nil, 0, "", "a"),
		httpcache.NewMultipart(nil, 0, "", "b"); a.ContentType == b.ContentType {
		t.Error("the boundary doesn't depend on the seed")
	}
}

// Checklist items 30, 55.
func TestRFC9110Section12_5_3AcceptEncoding(t *testing.T) {
	for _, row := range []struct{ name, value, want string }{
		{"one", "gzip", "gzip"},
		{"all", "gzip, deflate, br, zstd", "zstd, br, gzip"},
		{"weights", "gzip;q=1.0, br;q=0.001", "br, gzip"},
		{"refused", "gzip, br;q=0", "gzip"},
		{"refused with zeros", "gzip, br;q=0.000", "gzip"},
		{"refused in capitals", "gzip, br ; Q=0", "gzip"},
		{"the old name", "x-gzip", "gzip"},
		{"none that is known", "deflate", "identity"},
		{"identity", "identity", "identity"},
		{"empty", "", "identity"},
		{"any", "*", "identity"},
		{"identity refused stays as it is", "gzip, Identity;q=0", "gzip,identity;q=0"},
		{"any refused stays as it is", "gzip,*;q=0", "gzip,*;q=0"},
		{"a weight that can't be read refuses", "gzip;q=x, br", "br"},
		{"a weight beyond one refuses", "gzip;q=1.1, br", "br"},
		{"a weight of four digits refuses", "gzip;q=0.1234, br", "br"},
		{"a parameter that is no weight refuses", "gzip;x=1;q=0, br", "br"},
	} {
		if got := httpcache.AcceptEncoding([]string{row.value}); got != row.want {
			t.Errorf("%s: %q, want %q", row.name, got, row.want)
		}
	}
}

// Overlapping spans become one, at the position of the first of them (§15.3.7.2): no byte is sent twice.
func TestRFC9110Section15_3_7_2Coalesced(t *testing.T) {
	for value, want := range map[string]string{
		"bytes=0-,0-,0-":        "0-99",
		"bytes=50-59,0-9,5-55":  "0-59",
		"bytes=5-6,0-1,90-,0-2": "5-6 0-2 90-99",
		"bytes=0-9,10-19":       "0-9 10-19",
		"bytes=9-9,0-8,-5":      "9-9 0-8 95-99",
		"bytes=20-29,0-9,-90":   "10-99 0-9",
	} {
		spans, use := httpcache.ParseRange(value, 100)
		var got []string
		for _, s := range spans {
			got = append(got, strings.TrimPrefix(s.String(), "bytes="))
		}
		if text := strings.Join(got, " "); use != httpcache.RangeSome || text != want {
			t.Errorf("%s: %s, want %s", value, text, want)
		}
	}
}
