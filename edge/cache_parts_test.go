package edge_test

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// representation is what an origin has at a moment, of which it answers single ranges, If-Range and If-None-Match.
type representation struct {
	body    string
	header  []string // validators and Cache-Control
	streams bool
}

func (c *representation) answer(req *mesh.Request, _ int) *mesh.Response {
	h := fields(c.header...)
	etag := h.Get("ETag")
	if v := req.Header.Get("If-None-Match"); v != "" && v == etag {
		return &mesh.Response{Status: 304, Header: h}
	}
	first, last := int64(0), int64(len(c.body)-1)
	spec, ok := strings.CutPrefix(req.Header.Get("Range"), "bytes=")
	if cond := req.Header.Get("If-Range"); cond != "" && cond != etag && cond != h.Get("Last-Modified") {
		ok = false
	}
	status := 200
	if a, b, _ := strings.Cut(spec, "-"); ok && !strings.Contains(spec, ",") {
		status = 206
		n, _ := strconv.ParseInt(b, 10, 64)
		switch {
		case a == "":
			first = last + 1 - n
		case b == "":
			first, _ = strconv.ParseInt(a, 10, 64)
		default:
			first, _ = strconv.ParseInt(a, 10, 64)
			last = min(last, n)
		}
		h.Add("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(c.body)))
	}
	part := c.body[first : last+1]
	resp := &mesh.Response{Status: status, Header: h, Body: []byte(part)}
	if c.streams {
		stream(resp)
	}
	return resp
}

// stream makes a response's body come as a stream of known length.
func stream(resp *mesh.Response) {
	resp.Stream, resp.Length = mesh.NewBody(bytes.NewReader(resp.Body)), int64(len(resp.Body))
	resp.Body = nil
}

// questions are what an origin was asked for: of each request its Range, and If-Range behind a comma if there is one.
type questions struct {
	mu   sync.Mutex
	list []string
}

func (q *questions) of(f answer) answer {
	return func(req *mesh.Request, n int) *mesh.Response {
		text := req.Header.Get("Range")
		if cond := req.Header.Get("If-Range"); cond != "" {
			text += "," + cond
		}
		q.mu.Lock()
		q.list = append(q.list, text)
		q.mu.Unlock()
		return f(req, n)
	}
}

func (q *questions) all() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Clone(q.list)
}

// A range of a stale whole is a validation of the whole: what is confirmed is kept, all of it, and no byte of it is
// sent again.
func TestCacheRFC9111Section433RangeOfStaleWhole(t *testing.T) {
	for name, size := range map[string]int{"small": 20, "in chunks": 1 << 20} {
		r := startCache(t, nil)
		body := text(size)
		var sum atomic.Int64
		current := &representation{body: body, header: []string{"ETag", `"1"`, "Cache-Control", "max-age=600"}}
		current.streams = size > piece
		r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
			resp := current.answer(req, n)
			if n == 1 {
				resp.Header.Add("Age", "700")
			}
			sum.Add(int64(len(resp.Body)) + resp.Length)
			return resp
		})
		r.get(t, "/a")
		nodetest.Eventually(t, "it is stored", func() bool { return r.has("/a") })
		sent := sum.Load()
		s := r.get(t, "/a", "Range", "bytes=0-0")
		if s.StatusCode != 206 || s.body != body[:1] || s.fwd != "stale" || s.status != 304 {
			t.Errorf("%s: the range: %s", name, s)
		}
		r.get(t, "/a").wantHit(t, name+": the whole afterwards", body)
		if s := r.get(t, "/a", "Range", "bytes=-5"); !s.hit || s.body != body[size-5:] {
			t.Errorf("%s: another range: %s", name, s)
		}
		if again := sum.Load() - sent; r.count("/a") != 2 || again != 0 {
			t.Errorf("%s: the origin was asked %d times, and sent %d bytes again", name, r.count("/a"), again)
		}
		if h := r.last("/a").Header; h.Get("If-None-Match") != `"1"` || h.Get("Range") != "bytes=0-0" {
			t.Errorf("%s: the origin was asked with %v", name, h)
		}
	}
}

// The same from an origin that answers the range though it is confirmed, from one whose representation has changed, and
// from one that says nothing about it.
func TestCacheRFC9111Section433RangeOfStaleWholeAnswered(t *testing.T) {
	old := func(etag string) answer {
		h := []string{"Cache-Control", "max-age=10, stale-while-revalidate=1, stale-if-error=600", "Age", "20"}
		if etag != "" {
			h = append(h, "ETag", etag)
		}
		return always(200, digits, h...)
	}
	part := func(body string, header ...string) answer {
		return always(206, body, append(header, "Cache-Control", "max-age=600", "Content-Range", "bytes 2-4/20")...)
	}
	changed := always(200, strings.ToUpper(digits), "ETag", `"2"`, "Cache-Control", "max-age=600")
	for name, c := range map[string]struct {
		first, second answer
		body          string // of the range
		whole         bool   // the whole is fresh again
		kept          bool   // the whole is there, if only for the origin's errors
	}{
		"confirmed by a strong tag":  {old(`"1"`), part("234", "ETag", `"1"`), "234", true, true},
		"another tag":                {old(`"1"`), part("cde", "ETag", `"2"`), "cde", false, false},
		"a weak tag proves nothing":  {old(`W/"1"`), part("234", "ETag", `W/"1"`), "234", false, true},
		"no tag":                     {old(`"1"`), part("234"), "234", false, true},
		"no validator at all":        {old(""), part("234"), "234", false, true},
		"an error of the origin":     {old(`"1"`), always(503, "down"), "234", false, true},
		"a range that isn't there":   {old(`"1"`), always(416, "", "Content-Range", "bytes */2"), "", false, true},
		"a whole in place of a part": {old(`"1"`), changed, "234", false, false},
	} {
		r := startCache(t, nil)
		r.on("/a", inTurn(c.first, c.second, always(503, "down")))
		r.get(t, "/a")
		if s := r.get(t, "/a", "Range", "bytes=2-4"); s.body != c.body {
			t.Errorf("%s: the range: %s", name, s)
		}
		s := r.get(t, "/a")
		if c.whole && !s.hit || c.kept && (s.StatusCode != 200 || s.body != digits) || !c.kept && s.body == digits {
			t.Errorf("%s: the whole: %s", name, s)
		}
	}
}

// Ranges and HEADs of a stale response that is served while it is fetched anew fetch all of it, as a GET does.
func TestCacheRFC5861Section3RefreshByRangeOrHead(t *testing.T) {
	for _, c := range []struct {
		method string
		header []string
	}{
		{"GET", []string{"Range", "bytes=0-1"}},
		{"GET", []string{"Range", "bytes=0-1", "If-Range", `"0"`}},
		{"HEAD", nil},
		{"GET", []string{"If-Match", `"x"`}},
	} {
		r := startCache(t, nil)
		r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
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
			return (&representation{body: body, header: h}).answer(req, n)
		})
		r.get(t, "/a")
		if s := r.ask(t, c.method, "/a", "", c.header...); !s.hit {
			t.Errorf("%s %q: %s", c.method, c.header, s)
		}
		nodetest.Eventually(t, "the new one is served", func() bool {
			return r.get(t, "/a").Header.Get("ETag") == `"2"`
		})
		r.get(t, "/a").wantHit(t, c.method+" "+strings.Join(c.header, " "), digits+"2")
	}
}

// A single part answers itself and ranges within it, in each form of a range, whether it has a validator or not (RFC
// 9111 §3.3); what isn't in it goes to the origin.
func TestCacheRFC9111Section33SinglePart(t *testing.T) {
	for name, validator := range map[string][]string{
		"none": nil, "weak": {"ETag", `W/"1"`}, "strong": {"ETag", `"1"`},
		"date": {"Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"},
	} {
		r := startCache(t, nil)
		o := &representation{body: digits, header: append([]string{"Cache-Control", "max-age=600"}, validator...)}
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
			r.on(path, o.answer)
			if s := r.get(t, path, "Range", c.first); s.StatusCode != 206 || s.hit || !s.stored {
				t.Errorf("%s, %s: %s", name, c.first, s)
			}
			s := r.get(t, path, "Range", c.then)
			at, got := strings.Index(digits, c.body), s.Header.Get("Content-Range")
			want := fmt.Sprintf("bytes %d-%d/20", at, at+len(c.body)-1)
			if s.StatusCode != 206 || s.body != c.body || s.hit != c.hit || got != want {
				t.Errorf("%s, %s then %s: %s, Content-Range %q", name, c.first, c.then, s, got)
			}
		}
	}
}

// Parts are put together only if they share a strong validator (RFC 9111 §3.4): an ETag, or a Last-Modified that is
// long ago.
func TestCacheRFC9111Section34Combining(t *testing.T) {
	for name, c := range map[string]struct {
		validator []string
		combines  bool
	}{
		"none": {nil, false}, "weak": {[]string{"ETag", `W/"1"`}, false}, "strong": {[]string{"ETag", `"1"`}, true},
		"a date long ago": {[]string{"Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"}, true},
		"a date just now": {[]string{"Last-Modified", httpDate(0), "Date", httpDate(0)}, false},
		"weak and a date": {[]string{"ETag", `W/"1"`, "Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT"}, false},
	} {
		r := startCache(t, nil)
		var asked questions
		o := &representation{body: digits, header: append([]string{"Cache-Control", "max-age=600"}, c.validator...)}
		r.on("/a", asked.of(o.answer))
		r.get(t, "/a", "Range", "bytes=0-4")
		r.get(t, "/a", "Range", "bytes=5-9")
		if s := r.get(t, "/a", "Range", "bytes=3-7"); s.body != "34567" || s.hit != c.combines {
			t.Errorf("%s: across both: %s", name, s)
		}
		s := r.get(t, "/a")
		if s.StatusCode != 200 || s.body != digits || s.fwd != "partial" || s.Header.Get("Content-Range") != "" {
			t.Errorf("%s: the whole: %s", name, s)
		}
		list := asked.all()
		last := list[len(list)-1]
		if c.combines && (len(list) != 3 || !strings.HasPrefix(last, "bytes=10-,")) || !c.combines && last != "" {
			t.Errorf("%s: the origin was asked for %q", name, list)
		}
		r.get(t, "/a").wantHit(t, name+": the whole again", digits)
	}
}

// What is missing of a stored part is asked for with a range, even if only the origin's answer can tell whether it
// helps.
func TestCacheRFC9111Section33Completes(t *testing.T) {
	const n = 1 << 20
	body := text(n)
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
		r := startCache(t, nil)
		var asked questions
		h := []string{"Cache-Control", "max-age=600"}
		if c.etag != "" {
			h = append(h, "ETag", c.etag)
		}
		o := &representation{body: body, header: h}
		r.on("/a", asked.of(func(req *mesh.Request, n int) *mesh.Response {
			resp := o.answer(req, n)
			if (c.streams || len(resp.Body) > piece) && len(resp.Body) > 1000 {
				stream(resp)
			}
			return resp
		}))
		r.get(t, "/a", "Range", c.first)
		s := r.get(t, "/a")
		whole := s.StatusCode == 200 && s.body == body && s.ContentLength == n && s.Header.Get("Content-Range") == ""
		if !whole || s.broken != nil {
			t.Errorf("%s: the whole: %s, %v", name, s, s.broken)
		}
		list := asked.all()
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
			s := r.get(t, "/a")
			return s.hit && s.body == body
		})
	}
}

// An origin whose representation has changed, or that knows no ranges, completes a part with one request that gives the
// whole, in whatever form it comes; its body streams to the client without a second request.
func TestCacheRFC9111Section33CompletesWithWhole(t *testing.T) {
	upper := strings.ToUpper(digits)
	first := &representation{body: digits, header: []string{"Cache-Control", "max-age=600", "ETag", `"1"`}}
	for name, second := range map[string]answer{
		"whole":          always(200, upper, "Cache-Control", "max-age=600", "ETag", `"2"`),
		"streams":        streamed(upper, 20, "Cache-Control", "max-age=600"),
		"without length": streamed(upper, -1, "Cache-Control", "max-age=600"),
	} {
		r := startCache(t, nil)
		r.on("/a", inTurn(first.answer, second))
		r.get(t, "/a", "Range", "bytes=0-4")
		if s := r.get(t, "/a"); s.StatusCode != 200 || s.body != upper || s.broken != nil {
			t.Errorf("%s: %s", name, s)
		}
		if n := r.count("/a"); n != 2 {
			t.Errorf("%s: the origin was asked %d times", name, n)
		}
	}
}

// Two fetches are needed where a part can't be completed by what came: the second one streams as it comes, once.
func TestCacheRFC9111Section33CompletesInVain(t *testing.T) {
	r := startCache(t, nil)
	const n = 1 << 20
	r.on("/a", inTurn(
		(&representation{body: text(n), header: []string{"Cache-Control", "max-age=600", "ETag", `"1"`}}).answer,
		always(206, "x", "Cache-Control", "max-age=600", "ETag", `"2"`, "Content-Range", "bytes 100-100/2000"),
		streamed(text(n), n, "Cache-Control", "max-age=600", "ETag", `"2"`),
	))
	r.get(t, "/a", "Range", "bytes=0-99")
	if s := r.get(t, "/a"); s.StatusCode != 200 || s.body != text(n) || s.broken != nil {
		t.Errorf("the whole: %s, %v", s, s.broken)
	}
	if got := r.count("/a"); got != 3 {
		t.Errorf("the origin was asked %d times, want 3", got)
	}
}

// What a part is of can't be known where its fields contradict each other or leave it open: it answers the very same
// range, and nothing else.
func TestCacheRFC9110Section144PartsAsTheyAre(t *testing.T) {
	r := startCache(t, nil)
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
		r.on(path, always(206, c.body, h...))
		for _, hit := range []bool{false, c.stored} {
			s := r.get(t, path, "Range", "bytes=-5")
			got := s.Header.Get("Content-Range")
			if s.StatusCode != 206 || s.body != c.body || s.hit != hit || got != c.contentRange {
				t.Errorf("%s: %s, Content-Range %q, want a hit: %t", c.contentRange, s, got, hit)
			}
		}
		for _, other := range []string{"bytes=6-8", "bytes=-1", "bytes=5-9"} {
			if s := r.get(t, path, "Range", other); s.hit {
				t.Errorf("%s answers %s: %s", c.contentRange, other, s)
			}
			r.get(t, path, "Range", "bytes=-5")
		}
	}
	r.on("/whole", always(206, digits, "Cache-Control", "max-age=600", "ETag", `"1"`, "Content-Range", "bytes 0-19/20"))
	for range 2 {
		if s := r.get(t, "/whole"); s.hit {
			t.Errorf("a 206 that nobody asked for: %s", s)
		}
	}
}

// A part under the freshness of the route is as fresh as a whole.
func TestCacheRouteTTLOfParts(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = minute })
	r.on("/a", (&representation{body: digits}).answer)
	r.get(t, "/a", "Range", "bytes=0-4")
	if s := r.get(t, "/a", "Range", "bytes=1-3"); !s.hit || s.body != "123" {
		t.Errorf("got %s", s)
	}
	if s := r.ask(t, "HEAD", "/a", "", "Range", "bytes=1-3"); s.hit {
		t.Errorf("only a GET has ranges (RFC 9110 §14.2): %s", s)
	}
}

// A stale part is validated like a whole.
func TestCacheRFC9111Section433StalePart(t *testing.T) {
	r := startCache(t, nil)
	o := &representation{body: digits, header: []string{"Cache-Control", "max-age=600", "ETag", `"1"`}}
	r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
		resp := o.answer(req, n)
		if n == 1 {
			resp.Header.Add("Age", "700")
		}
		return resp
	})
	r.get(t, "/a", "Range", "bytes=5-9")
	if s := r.get(t, "/a", "Range", "bytes=6-7"); s.StatusCode != 206 || s.body != "67" || s.status != 304 {
		t.Errorf("a range within: %s", s)
	}
	if s := r.get(t, "/a", "Range", "bytes=5-9"); !s.hit || s.body != "56789" {
		t.Errorf("the part afterwards: %s", s)
	}
}

// Clients that ask for one byte after the other make a node copy no megabytes for each: what isn't worth it isn't added
// to the parts that are stored.
func TestCacheTinyPartsAreNotAdded(t *testing.T) {
	const n = 4 << 20
	body := text(n)
	r := startCache(t, nil)
	r.on("/large", ranged(body, `"1"`))
	r.get(t, "/large", "Range", "bytes=0-399999")
	r.get(t, "/large", "Range", "bytes=400000-799999").wantFwd(t, "a large part", "partial", body[400000:800000])
	r.get(t, "/large", "Range", "bytes=0-799999").wantHit(t, "both", body[:800000])
	for range 2 {
		if s := r.get(t, "/large", "Range", "bytes=900000-900000"); s.hit || s.body != body[900000:900001] {
			t.Errorf("a byte: %s", s)
		}
	}
	r.get(t, "/large", "Range", "bytes=0-799999").wantHit(t, "both, still", body[:800000])
	r.on("/many", ranged(body, `"1"`))
	for i := range httpcache.MaxParts + 10 {
		r.get(t, "/many", "Range", fmt.Sprintf("bytes=%d-%d", 2*i, 2*i))
	}
	for i, hit := range map[int]bool{0: true, httpcache.MaxParts - 1: true, httpcache.MaxParts: false} {
		if s := r.get(t, "/many", "Range", fmt.Sprintf("bytes=%d-%d", 2*i, 2*i)); s.hit != hit ||
			s.body != body[2*i:2*i+1] {
			t.Errorf("part %d: %s", i, s)
		}
	}
}
