package cache_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"millrace/edge/edgetest"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// A range of a stale whole is a validation of the whole: what is confirmed is kept, all of it, and no byte of it is
// sent again (RFC 9111 §4.3.3).
func TestRangeOfAStaleWholeValidatesIt(t *testing.T) {
	for name, size := range map[string]int{"small": 20, "in chunks": 1 << 20} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		body := edgetest.Text(size)
		var sum atomic.Int64
		current := &edgetest.Representation{Body: body, Header: []string{"ETag", `"1"`, "Cache-Control", "max-age=600"}}
		current.Streams = size > edgetest.OverMessage
		r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
			resp := current.Answer(req, n)
			if n == 1 {
				resp.Header.Add("Age", "700")
			}
			sum.Add(int64(len(resp.Body)) + resp.Length)
			return resp
		})
		r.Get(t, "/a")
		nodetest.Eventually(t, "it is stored", func() bool { return r.Has("/a") })
		sent := sum.Load()
		s := r.Get(t, "/a", "Range", "bytes=0-0")
		if s.StatusCode != 206 || s.Text != body[:1] || s.Fwd != "stale" || s.FwdStatus != 304 {
			t.Errorf("%s: the range: %s", name, s)
		}
		r.Get(t, "/a").WantHit(t, name+": the whole afterwards", body)
		if s := r.Get(t, "/a", "Range", "bytes=-5"); !s.Hit || s.Text != body[size-5:] {
			t.Errorf("%s: another range: %s", name, s)
		}
		if again := sum.Load() - sent; r.Count("/a") != 2 || again != 0 {
			t.Errorf("%s: the origin was asked %d times, and sent %d bytes again", name, r.Count("/a"), again)
		}
		if h := r.Last("/a").Header; h.Get("If-None-Match") != `"1"` || h.Get("Range") != "bytes=0-0" {
			t.Errorf("%s: the origin was asked with %v", name, h)
		}
	}
}

// The same from an origin that answers the range though it is confirmed, from one whose representation has changed, and
// from one that says nothing about it (RFC 9111 §4.3.3).
func TestRangeOfAStaleWholeIsAnsweredAsTheOriginSays(t *testing.T) {
	old := func(etag string) edgetest.Answer {
		h := []string{"Cache-Control", "max-age=10, stale-while-revalidate=1, stale-if-error=600", "Age", "20"}
		if etag != "" {
			h = append(h, "ETag", etag)
		}
		return edgetest.Always(200, digits, h...)
	}
	part := func(body string, header ...string) edgetest.Answer {
		return edgetest.Always(
			206,
			body,
			append(header, "Cache-Control", "max-age=600", "Content-Range", "bytes 2-4/20")...)
	}
	changed := edgetest.Always(200, strings.ToUpper(digits), "ETag", `"2"`, "Cache-Control", "max-age=600")
	for name, c := range map[string]struct {
		first, second edgetest.Answer
		body          string // of the range
		whole         bool   // the whole is fresh again
		kept          bool   // the whole is there, if only for the origin's errors
	}{
		"confirmed by a strong tag":  {old(`"1"`), part("234", "ETag", `"1"`), "234", true, true},
		"another tag":                {old(`"1"`), part("cde", "ETag", `"2"`), "cde", false, false},
		"a weak tag proves nothing":  {old(`W/"1"`), part("234", "ETag", `W/"1"`), "234", false, true},
		"no tag":                     {old(`"1"`), part("234"), "234", false, true},
		"no validator at all":        {old(""), part("234"), "234", false, true},
		"an error of the origin":     {old(`"1"`), edgetest.Always(503, "down"), "234", false, true},
		"a range that isn't there":   {old(`"1"`), edgetest.Always(416, "", "Content-Range", "bytes */2"), "", false, true},
		"a whole in place of a part": {old(`"1"`), changed, "234", false, false},
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		r.On("/a", edgetest.InTurn(c.first, c.second, edgetest.Always(503, "down")))
		r.Get(t, "/a")
		if s := r.Get(t, "/a", "Range", "bytes=2-4"); s.Text != c.body {
			t.Errorf("%s: the range: %s", name, s)
		}
		s := r.Get(t, "/a")
		if c.whole && !s.Hit || c.kept && (s.StatusCode != 200 || s.Text != digits) || !c.kept && s.Text == digits {
			t.Errorf("%s: the whole: %s", name, s)
		}
	}
}

// Ranges and HEADs of a stale response that is served while it is fetched anew fetch all of it, as a GET does (RFC 5861
// §3).
func TestRangeOrHeadOfAStaleResponseRefreshesAllOfIt(t *testing.T) {
	for _, c := range []struct {
		method string
		header []string
	}{
		{"GET", []string{"Range", "bytes=0-1"}},
		{"GET", []string{"Range", "bytes=0-1", "If-Range", `"0"`}},
		{"HEAD", nil},
		{"GET", []string{"If-Match", `"x"`}},
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
			h := []string{
				"Cache-Control", "max-age=10, stale-while-revalidate=600", "ETag",
				strconv.Quote(strconv.Itoa(n)),
			}
			if n == 1 {
				h = append(h, "Age", "20")
			}
			body := digits + strconv.Itoa(n)
			if req.Method == "HEAD" {
				body = ""
			}
			return (&edgetest.Representation{Body: body, Header: h}).Answer(req, n)
		})
		r.Get(t, "/a")
		if s := r.Ask(t, c.method, "/a", "", c.header...); !s.Hit {
			t.Errorf("%s %q: %s", c.method, c.header, s)
		}
		nodetest.Eventually(t, "the new one is served", func() bool {
			return r.Get(t, "/a").Header.Get("ETag") == `"2"`
		})
		r.Get(t, "/a").WantHit(t, c.method+" "+strings.Join(c.header, " "), digits+"2")
	}
}

// A single part answers itself and ranges within it, in each form of a range, whether it has a validator or not (RFC
// 9111 §3.3); what isn't in it goes to the origin.
func TestPartAnswersRangesWithinIt(t *testing.T) {
	for name, validator := range map[string][]string{
		"none": nil, "weak": {"ETag", `W/"1"`}, "strong": {"ETag", `"1"`},
		"date": {"Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"},
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		o := &edgetest.Representation{
			Body:   digits,
			Header: append([]string{"Cache-Control", "max-age=600"}, validator...),
		}
		for _, c := range []struct {
			first, then, body string
			hit               bool
		}{
			{"bytes=5-9", "bytes=5-9", "56789", true},
			{"bytes=5-9", "bytes=6-7", "67", true},
			{"bytes=5-9", "bytes=5-5", "5", true},
			{"bytes=5-9", "bytes=5-10", "56789a", false},
			{"bytes=5-9", "bytes=5-", digits[5:], false},
			{"bytes=5-9", "bytes=-3", "hij", false},
			{"bytes=15-", "bytes=17-", "hij", true},
			{"bytes=15-", "bytes=-3", "hij", true},
			{"bytes=15-", "bytes=16-18", "ghi", true},
			{"bytes=15-", "bytes=15-99", "fghij", true},
			{"bytes=-5", "bytes=-5", "fghij", true},
			{"bytes=-5", "bytes=-1", "j", true},
			{"bytes=-5", "bytes=16-", "ghij", true},
			{"bytes=-5", "bytes=-6", "efghij", false},
			{"bytes=0-3", "bytes=0-3", "0123", true},
			{"bytes=0-3", "bytes=2-", digits[2:], false},
		} {
			path := "/" + strings.ReplaceAll(c.first+c.then, "=", "")
			r.On(path, o.Answer)
			if s := r.Get(t, path, "Range", c.first); s.StatusCode != 206 || s.Hit || !s.Stored {
				t.Errorf("%s, %s: %s", name, c.first, s)
			}
			s := r.Get(t, path, "Range", c.then)
			at, got := strings.Index(digits, c.body), s.Header.Get("Content-Range")
			want := fmt.Sprintf("bytes %d-%d/20", at, at+len(c.body)-1)
			if s.StatusCode != 206 || s.Text != c.body || s.Hit != c.hit || got != want {
				t.Errorf("%s, %s then %s: %s, Content-Range %q", name, c.first, c.then, s, got)
			}
		}
	}
}

// Parts are put together only if they share a strong validator (RFC 9111 §3.4): an ETag, or a Last-Modified that is
// long ago.
func TestPartsAreCombinedUnderAStrongValidatorOnly(t *testing.T) {
	for name, c := range map[string]struct {
		validator []string
		combines  bool
	}{
		"none": {nil, false}, "weak": {[]string{"ETag", `W/"1"`}, false}, "strong": {[]string{"ETag", `"1"`}, true},
		"a date long ago": {[]string{"Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"}, true},
		"a date just now": {[]string{"Last-Modified", edgetest.HTTPDate(0), "Date", edgetest.HTTPDate(0)}, false},
		"weak and a date": {[]string{"ETag", `W/"1"`, "Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"}, false},
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		var asked edgetest.Questions
		o := &edgetest.Representation{
			Body:   digits,
			Header: append([]string{"Cache-Control", "max-age=600"}, c.validator...),
		}
		r.On("/a", asked.Of(o.Answer))
		r.Get(t, "/a", "Range", "bytes=0-4")
		r.Get(t, "/a", "Range", "bytes=5-9")
		if s := r.Get(t, "/a", "Range", "bytes=3-7"); s.Text != "34567" || s.Hit != c.combines {
			t.Errorf("%s: across both: %s", name, s)
		}
		s := r.Get(t, "/a")
		if s.StatusCode != 200 || s.Text != digits || s.Fwd != "partial" || s.Header.Get("Content-Range") != "" {
			t.Errorf("%s: the whole: %s", name, s)
		}
		list := asked.All()
		last := list[len(list)-1]
		if c.combines && (len(list) != 3 || !strings.HasPrefix(last, "bytes=10-,")) || !c.combines && last != "" {
			t.Errorf("%s: the origin was asked for %q", name, list)
		}
		r.Get(t, "/a").WantHit(t, name+": the whole again", digits)
	}
}

// What is missing of a stored part is asked for with a range, even if only the origin's answer can tell whether it
// helps (RFC 9111 §3.3).
func TestPartIsCompletedWithARange(t *testing.T) {
	const n = 1 << 20
	body := edgetest.Text(n)
	for name, c := range map[string]struct {
		first   string
		etag    string
		streams bool
		want    string // the range that is asked for
	}{
		"the end":               {"bytes=0-99", `"1"`, false, "bytes=100-"},
		"the beginning":         {"bytes=-100", `"1"`, false, "bytes=0-" + strconv.Itoa(n-101)},
		"the end, as it comes":  {"bytes=0-99", `"1"`, true, "bytes=100-"},
		"the rest, as it comes": {"bytes=-100", `"1"`, true, "bytes=0-" + strconv.Itoa(n-101)},
		"no validator":          {"bytes=0-99", "", true, "bytes=100-"},
		"both ends are missing": {"bytes=100-199", `"1"`, true, ""},
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		var asked edgetest.Questions
		h := []string{"Cache-Control", "max-age=600"}
		if c.etag != "" {
			h = append(h, "ETag", c.etag)
		}
		o := &edgetest.Representation{Body: body, Header: h}
		r.On("/a", asked.Of(func(req *mesh.Request, n int) *mesh.Response {
			resp := o.Answer(req, n)
			if (c.streams || len(resp.Body) > edgetest.OverMessage) && len(resp.Body) > 1000 {
				edgetest.StreamBody(resp)
			}
			return resp
		}))
		r.Get(t, "/a", "Range", c.first)
		s := r.Get(t, "/a")
		whole := s.StatusCode == 200 && s.Text == body && s.ContentLength == n && s.Header.Get("Content-Range") == ""
		if !whole || s.Broken != nil {
			t.Errorf("%s: the whole: %s, %v", name, s, s.Broken)
		}
		list := asked.All()
		if c.etag != "" && c.want != "" {
			c.want += "," + c.etag
		}
		if list[1] != c.want {
			t.Errorf("%s: the origin was asked for %q", name, list)
		}
		if want := map[bool]int{true: 2, false: 3}[c.etag != ""]; len(list) != want {
			t.Errorf("%s: the origin was asked %d times, %q", name, len(list), list)
		}
		nodetest.Eventually(t, "the whole is stored", func() bool {
			s := r.Get(t, "/a")
			return s.Hit && s.Text == body
		})
	}
}

// An origin whose representation has changed, or that knows no ranges, completes a part with one request that gives the
// whole, in whatever form it comes; its body streams to the client without a second request (RFC 9111 §3.3).
func TestPartIsCompletedByAWholeInOneRequest(t *testing.T) {
	upper := strings.ToUpper(digits)
	first := &edgetest.Representation{Body: digits, Header: []string{"Cache-Control", "max-age=600", "ETag", `"1"`}}
	for name, second := range map[string]edgetest.Answer{
		"whole":          edgetest.Always(200, upper, "Cache-Control", "max-age=600", "ETag", `"2"`),
		"streams":        edgetest.Streamed(upper, 20, "Cache-Control", "max-age=600"),
		"without length": edgetest.Streamed(upper, -1, "Cache-Control", "max-age=600"),
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		r.On("/a", edgetest.InTurn(first.Answer, second))
		r.Get(t, "/a", "Range", "bytes=0-4")
		if s := r.Get(t, "/a"); s.StatusCode != 200 || s.Text != upper || s.Broken != nil {
			t.Errorf("%s: %s", name, s)
		}
		if n := r.Count("/a"); n != 2 {
			t.Errorf("%s: the origin was asked %d times", name, n)
		}
	}
}

// Two fetches are needed where a part can't be completed by what came: the second one streams as it comes, once (RFC
// 9111 §3.3).
func TestPartThatCanNotBeCompletedTakesTwoFetches(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	const n = 1 << 20
	r.On("/a", edgetest.InTurn(
		(&edgetest.Representation{Body: edgetest.Text(n), Header: []string{"Cache-Control", "max-age=600", "ETag", `"1"`}}).Answer,
		edgetest.Always(206, "x", "Cache-Control", "max-age=600", "ETag", `"2"`, "Content-Range", "bytes 100-100/2000"),
		edgetest.Streamed(edgetest.Text(n), n, "Cache-Control", "max-age=600", "ETag", `"2"`)))
	r.Get(t, "/a", "Range", "bytes=0-99")
	if s := r.Get(t, "/a"); s.StatusCode != 200 || s.Text != edgetest.Text(n) || s.Broken != nil {
		t.Errorf("the whole: %s, %v", s, s.Broken)
	}
	if got := r.Count("/a"); got != 3 {
		t.Errorf("the origin was asked %d times, want 3", got)
	}
}

// What a part is of can't be known where its fields contradict each other or leave it open: it answers the very same
// range, and nothing else (RFC 9110 §14.4).
func TestPartOfWhoKnowsWhatAnswersItsOwnRangeOnly(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for i, c := range []struct {
		contentRange, body string
		stored             bool
	}{
		{"bytes 4-9/10", "01234", true},      // five bytes of six
		{"bytes 5-9/10", "0123456789", true}, // ten of five
		{"bytes 5-9/*", "01234", true},       // of a length that nobody knows
		{"bytes 9-5/10", "01234", false},     // no range
		{"bytes 5-10/10", "012345", false},   // beyond the end
		{"", "01234", false},
	} {
		path := "/" + strconv.Itoa(i)
		h := []string{"Cache-Control", "max-age=600", "ETag", `"1"`}
		if c.contentRange != "" {
			h = append(h, "Content-Range", c.contentRange)
		}
		r.On(path, edgetest.Always(206, c.body, h...))
		for _, hit := range []bool{false, c.stored} {
			s := r.Get(t, path, "Range", "bytes=-5")
			got := s.Header.Get("Content-Range")
			if s.StatusCode != 206 || s.Text != c.body || s.Hit != hit || got != c.contentRange {
				t.Errorf("%s: %s, Content-Range %q, want a hit: %t", c.contentRange, s, got, hit)
			}
		}
		for _, other := range []string{"bytes=6-8", "bytes=-1", "bytes=5-9"} {
			if s := r.Get(t, path, "Range", other); s.Hit {
				t.Errorf("%s answers %s: %s", c.contentRange, other, s)
			}
			r.Get(t, path, "Range", "bytes=-5")
		}
	}
	r.On("/whole",
		edgetest.Always(206, digits, "Cache-Control", "max-age=600", "ETag", `"1"`, "Content-Range", "bytes 0-19/20"))
	for range 2 {
		if s := r.Get(t, "/whole"); s.Hit {
			t.Errorf("a 206 that nobody asked for: %s", s)
		}
	}
}

// A part under the freshness of the route is as fresh as a whole.
func TestRouteTTLIsForPartsToo(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = minute }))
	r.On("/a", (&edgetest.Representation{Body: digits}).Answer)
	r.Get(t, "/a", "Range", "bytes=0-4")
	if s := r.Get(t, "/a", "Range", "bytes=1-3"); !s.Hit || s.Text != "123" {
		t.Errorf("got %s", s)
	}
	if s := r.Ask(t, "HEAD", "/a", "", "Range", "bytes=1-3"); s.Hit {
		t.Errorf("only a GET has ranges (RFC 9110 §14.2): %s", s)
	}
}

// A stale part is validated like a whole (RFC 9111 §4.3.3).
func TestStalePartIsValidated(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	o := &edgetest.Representation{Body: digits, Header: []string{"Cache-Control", "max-age=600", "ETag", `"1"`}}
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		resp := o.Answer(req, n)
		if n == 1 {
			resp.Header.Add("Age", "700")
		}
		return resp
	})
	r.Get(t, "/a", "Range", "bytes=5-9")
	if s := r.Get(t, "/a", "Range", "bytes=6-7"); s.StatusCode != 206 || s.Text != "67" || s.FwdStatus != 304 {
		t.Errorf("a range within: %s", s)
	}
	if s := r.Get(t, "/a", "Range", "bytes=5-9"); !s.Hit || s.Text != "56789" {
		t.Errorf("the part afterwards: %s", s)
	}
}

// Clients that ask for one byte after the other make a node copy no megabytes for each: what isn't worth it isn't added
// to the parts that are stored.
func TestTinyPartsAreNotAddedToStoredOnes(t *testing.T) {
	const n = 4 << 20
	body := edgetest.Text(n)
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/large", ranged(body, `"1"`))
	r.Get(t, "/large", "Range", "bytes=0-399999")
	r.Get(t, "/large", "Range", "bytes=400000-799999").WantFwd(t, "a large part", "partial", body[400000:800000])
	r.Get(t, "/large", "Range", "bytes=0-799999").WantHit(t, "both", body[:800000])
	for range 2 {
		if s := r.Get(t, "/large", "Range", "bytes=900000-900000"); s.Hit || s.Text != body[900000:900001] {
			t.Errorf("a byte: %s", s)
		}
	}
	r.Get(t, "/large", "Range", "bytes=0-799999").WantHit(t, "both, still", body[:800000])
	r.On("/many", ranged(body, `"1"`))
	for i := range httpcache.MaxParts + 10 {
		r.Get(t, "/many", "Range", fmt.Sprintf("bytes=%d-%d", 2*i, 2*i))
	}
	for i, hit := range map[int]bool{0: true, httpcache.MaxParts - 1: true, httpcache.MaxParts: false} {
		if s := r.Get(t, "/many", "Range", fmt.Sprintf("bytes=%d-%d", 2*i, 2*i)); s.Hit != hit ||
			s.Text != body[2*i:2*i+1] {
			t.Errorf("part %d: %s", i, s)
		}
	}
}
