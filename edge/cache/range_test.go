package cache_test

import (
	"bufio"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

const digits = "0123456789abcdefghij"

// ranged is an origin that knows single ranges of a body, and If-Range.
func ranged(body, etag string) edgetest.Answer {
	return func(req *mesh.Request, _ int) *mesh.Response {
		h := edgetest.Fields("Cache-Control", "max-age=600", "ETag", etag, "Content-Type", "text/plain")
		spec, ok := strings.CutPrefix(req.Header.Get("Range"), "bytes=")
		if cond := req.Header.Get("If-Range"); !ok || (cond != "" && cond != etag) {
			return &mesh.Response{Status: 200, Header: h, Body: []byte(body)}
		}
		a, b, _ := strings.Cut(spec, "-")
		first, _ := strconv.Atoi(a)
		last, err := strconv.Atoi(b)
		if err != nil || last >= len(body) {
			last = len(body) - 1
		}
		if a == "" {
			n, _ := strconv.Atoi(b)
			first, last = len(body)-n, len(body)-1
		}
		h.Add("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, len(body)))
		return &mesh.Response{Status: 206, Header: h, Body: []byte(body[first : last+1])}
	}
}

// Ranges of a stored whole: single, suffix, open, several, none that exists, and those that are to be ignored (RFC 9110
// §14).
func TestRangesOfAWholeAreCutOutOfIt(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", ranged(digits, `"1"`))
	r.Get(t, "/a")
	for _, c := range []struct {
		value, body, contentRange string
		status                    int
	}{
		{"bytes=0-3", "0123", "bytes 0-3/20", 206},
		{"bytes=18-", "ij", "bytes 18-19/20", 206},
		{"bytes=-3", "hij", "bytes 17-19/20", 206},
		{"bytes=-99", digits, "bytes 0-19/20", 206},
		{"bytes=0-", digits, "bytes 0-19/20", 206},
		{"bytes=19-99", "j", "bytes 19-19/20", 206},
		{"BYTES=0-0", "0", "bytes 0-0/20", 206},
		{"bytes=20-", "", "bytes */20", 416},
		{"bytes=-0", "", "bytes */20", 416},
		{"bytes=30-40,50-", "", "bytes */20", 416},
		{"bytes=5-3", digits, "", 200},
		{"bytes=x", digits, "", 200},
		{"bytes=", digits, "", 200},
		{"bytes=0-0,99-", "0", "bytes 0-0/20", 206},
	} {
		s := r.Get(t, "/a", "Range", c.value)
		if s.StatusCode != c.status || s.Text != c.body || s.Header.Get("Content-Range") != c.contentRange || !s.Hit ||
			s.ContentLength != int64(len(c.body)) {
			t.Errorf("%s: %s, Content-Range %q", c.value, s, s.Header.Get("Content-Range"))
		}
		if c.status == 206 && (s.Header.Get("ETag") != `"1"` || s.Header.Get("Content-Type") != "text/plain") {
			t.Errorf("%s: %v", c.value, s.Header)
		}
	}
	if s := r.Ask(t, "HEAD", "/a", "", "Range", "bytes=0-3"); s.StatusCode != 200 || s.ContentLength != 20 {
		t.Errorf("HEAD with Range (RFC 9110 §14.2: only GET has it): %s", s)
	}
	if r.Count("/a") != 1 {
		t.Errorf("the origin was asked %d times", r.Count("/a"))
	}
}

// Several ranges come as multipart/byteranges (RFC 9110 §14.6), and an attack with very many as the whole (§17.15).
func TestSeveralRangesComeAsMultipart(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", ranged(digits, `"1"`))
	r.Get(t, "/a")
	s := r.Get(t, "/a", "Range", "bytes=0-1, 5-6,-2")
	kind, params, err := mime.ParseMediaType(s.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" || s.StatusCode != 206 || s.Header.Get("Content-Range") != "" ||
		s.ContentLength != int64(len(s.Text)) {
		t.Fatalf("got %s, %v, %v", s, s.Header, err)
	}
	parts := multipart.NewReader(strings.NewReader(s.Text), params["boundary"])
	for _, want := range []struct{ body, at string }{
		{"01", "bytes 0-1/20"},
		{"56", "bytes 5-6/20"},
		{"ij", "bytes 18-19/20"},
	} {
		p, err := parts.NextPart()
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(p)
		if string(b) != want.body || p.Header.Get("Content-Range") != want.at ||
			p.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("a part: %q %v, want %v", b, p.Header, want)
		}
	}
	if _, err := parts.NextPart(); err != io.EOF {
		t.Errorf("after the last part: %v", err)
	}
	if s := r.Get(t, "/a", "Range", "bytes="+strings.Repeat("0-,", 100)+"0-"); s.StatusCode == 206 && len(s.Text) > 40 {
		t.Errorf("overlapping ranges: %d bytes", len(s.Text))
	}
}

// If-Range lets a range count only for the representation that the client has (RFC 9110 §13.1.5).
func TestIfRangeNeedsTheStoredRepresentation(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	modified := "Wed, 01 Jan 2020 00:00:00 GMT"
	r.On("/a", edgetest.Always(200, digits, "Cache-Control", "max-age=600", "ETag", `"1"`, "Last-Modified", modified))
	r.On("/weak", edgetest.Always(200, digits, "Cache-Control", "max-age=600", "ETag", `W/"1"`))
	r.Get(t, "/a")
	r.Get(t, "/weak")
	for _, c := range []struct {
		path, cond string
		status     int
	}{
		{"/a", `"1"`, 206},
		{"/a", `"2"`, 200},
		{"/a", `W/"1"`, 200},
		{"/a", modified, 206},
		{"/a", "Wed, 01 Jan 2020 00:00:01 GMT", 200},
		{"/a", "Tue, 31 Dec 2019 00:00:00 GMT", 200},
		{"/weak", `W/"1"`, 200},
		{"/weak", `"1"`, 200},
		{"/a", "rubbish", 200},
	} {
		s := r.Get(t, c.path, "Range", "bytes=0-3", "If-Range", c.cond)
		if s.StatusCode != c.status || !s.Hit || len(s.Text) != map[int]int{206: 4, 200: 20}[c.status] {
			t.Errorf("%s with If-Range %s: %s", c.path, c.cond, s)
		}
	}
	// §13.2.2: it comes first
	if s := r.Get(t, "/a", "Range", "bytes=0-3", "If-None-Match", `"1"`); s.StatusCode != 304 {
		t.Errorf("Range with If-None-Match: %s", s)
	}
}

// Parts are stored, put together, and completed with Range and If-Range (RFC 9111 §3.3, §3.4).
func TestPartsAreStoredAndCompleted(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", ranged(digits, `"1"`))
	part := func(value, body string, hit bool) {
		t.Helper()
		s := r.Get(t, "/a", "Range", value)
		if s.StatusCode != 206 || s.Text != body || s.Hit != hit {
			t.Errorf("%s: %s, want %q, a hit: %t", value, s, body, hit)
		}
	}
	part("bytes=0-4", "01234", false)
	part("bytes=0-4", "01234", true)
	part("bytes=1-2", "12", true)
	part("bytes=10-14", "abcde", false)
	part("bytes=12-13", "cd", true)
	part("bytes=4-10", "456789a", false) // joins the two
	part("bytes=0-14", "0123456789abcde", true)
	n := r.Count("/a")
	s := r.Get(t, "/a")
	if s.StatusCode != 200 || s.Text != digits || s.Fwd != "partial" || s.Header.Get("Content-Range") != "" ||
		s.ContentLength != 20 {
		t.Errorf("the whole: %s", s)
	}
	if h := r.Last("/a").Header; r.Count("/a") != n+1 || h.Get("Range") != "bytes=15-" || h.Get("If-Range") != `"1"` {
		t.Errorf("the missing part was asked for with %v", h)
	}
	r.Get(t, "/a").WantHit(t, "the whole again", digits)
	part("bytes=17-", "hij", true)
}

// Parts of two representations are never mixed, and one without a strong validator answers what is within it, but is
// put together with none (RFC 9111 §3.4).
func TestPartsOfTwoRepresentationsAreNotMixed(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	upper := strings.ToUpper(digits)
	r.On("/a", edgetest.InTurn(ranged(digits, `"1"`), ranged(upper, `"2"`)))
	r.Get(t, "/a", "Range", "bytes=0-9")
	if s := r.Get(t, "/a"); s.Text != upper || s.StatusCode != 200 {
		t.Errorf("completed with another representation: %s", s)
	}
	r.On("/b", edgetest.InTurn(ranged(digits, `"1"`), ranged(upper, `"2"`)))
	r.Get(t, "/b", "Range", "bytes=10-14")
	r.Get(t, "/b", "Range", "bytes=15-19")
	if s := r.Get(t, "/b", "Range", "bytes=10-19"); s.Text != "ABCDEFGHIJ" {
		t.Errorf("parts of two: %s", s)
	}
	r.On("/weak", ranged(digits, `W/"1"`))
	for i, want := range []string{"bytes=0-4", "bytes=0-4", "bytes=5-9", "bytes=0-9"} {
		first, last := int(want[6]-'0'), int(want[8]-'0')
		if s := r.Get(t, "/weak", "Range", want); s.Hit != (i == 1) || s.Text != digits[first:last+1] {
			t.Errorf("weak, %s: %s", want, s)
		}
	}
	if s := r.Get(t, "/weak"); s.Text != digits {
		t.Errorf("the whole: %s", s)
	}
}

// A range that misses doesn't make its client's condition part of what is stored, and an origin without ranges gives
// the whole (RFC 9110 §14).
func TestConditionOfARangeThatMissesIsNotStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Fresh(digits))
	if s := r.Get(t, "/a", "Range", "bytes=0-1"); s.Text != digits[:2] && s.Text != digits {
		t.Errorf("cold: %s", s)
	}
	if s := r.Get(t, "/a", "Range", "bytes=0-1"); s.StatusCode != 206 || s.Text != "01" || !s.Hit {
		t.Errorf("then: %s", s)
	}
	r.On("/416", func(req *mesh.Request, _ int) *mesh.Response {
		if req.Header.Has("Range") {
			return &mesh.Response{
				Status: 416,
				Header: edgetest.Fields("Content-Range", "bytes */20", "Cache-Control", "max-age=60"),
			}
		}
		return edgetest.Fresh(digits)(req, 1)
	})
	if s := r.Get(t, "/416", "Range", "bytes=90-"); s.StatusCode != 416 {
		t.Errorf("416: %s", s)
	}
	if s := r.Get(t, "/416"); s.StatusCode != 200 || s.Text != digits {
		t.Errorf("after the 416 of another's range: %s", s)
	}
}

// Ranges of a large stored body are given from where they lie: clients that read nothing of their answer hold no copy
// of it, and no byte is given twice.
func TestRangesOfALargeBodyAreNotCopied(t *testing.T) {
	const n, clients = 4 << 20, 8
	r := edgetest.Start(t, edgetest.Cached(nil,
		func(s *edgetest.Config) { s.Cache.Store = func(c *node.CacheStore) { c.Memory = 256 * node.MiB } }))
	r.On("/a", edgetest.Streamed(edgetest.Text(n), n, "Cache-Control", "max-age=600", "ETag", `"1"`))
	r.StoreLarge(t, "/a")
	if s := r.Get(t, "/a", "Range", "bytes=0-,0-,0-"); s.StatusCode != 206 || s.Text != edgetest.Text(n) {
		t.Errorf("the same three times: %s", s)
	}
	s := r.Get(t, "/a", "Range", "bytes=0-2000000,2000002-")
	if s.StatusCode != 206 || s.Broken != nil || int64(len(s.Text)) != s.ContentLength ||
		!strings.Contains(s.Text, edgetest.Text(n)[2000002:]) {
		t.Errorf("two halves: %s, %v", s, s.Broken)
	}
	runtime.GC()
	before := edgetest.Heap()
	for range clients {
		c := r.Dial(t)
		defer c.Close()
		_, _ = io.WriteString(c, edgetest.RequestHead("GET", "/a", []string{"Range", "bytes=0-2000000,2000002-"}))
		if line, err := bufio.NewReaderSize(c, 16).ReadSlice(' '); err != nil { // so it has begun
			t.Errorf("%q, %v", line, err)
		}
	}
	nodetest.Eventually(t, "less than one body is held for all", func() bool {
		runtime.GC()
		return edgetest.Heap()-before < n
	})
}

// A range in another unit is for its origin to answer, which may give a part with status 200: what it gives is stored
// for requests of the same range only, and what is stored whole doesn't answer them.
func TestRangeOfAnotherUnitIsForItsOrigin(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	all := []string{"Cache-Control", "max-age=60"}
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		if v := req.Header.Get("Range"); v != "" && !strings.HasPrefix(v, "bytes=") {
			return edgetest.Always(200, v+req.Header.Get("If-Range"), append(all, "Content-Range", "0-0/*")...)(req, n)
		}
		return edgetest.Always(200, "[1,2,3]", append(all, "Content-Range", "0-2/*")...)(req, n)
	})
	sets := [][]string{
		{"Range", "0-0", "Range-Unit", "items"},
		{"Range", "0-1", "Range-Unit", "items"},
		{"Range", "0-0"},
		{"Range", "items=0-0"},
		{"Range", "items=0-0", "If-Range", `"1"`},
		nil,
	}
	for round, hit := range []bool{false, true} {
		for _, header := range sets {
			want := "[1,2,3]"
			if header != nil {
				want = header[1]
			}
			if len(header) > 2 && header[2] == "If-Range" {
				want += header[3]
			}
			if s := r.Get(t, "/a", header...); s.StatusCode != 200 || s.Text != want || s.Hit != hit {
				t.Errorf("round %d, %q: %s", round, header, s)
			}
		}
	}
	if s := r.Get(t, "/a", "Range", "BYTES=0-1"); !s.Hit || s.StatusCode != 206 || s.Text != "[1" {
		t.Errorf("in bytes: %s", s)
	}
}
