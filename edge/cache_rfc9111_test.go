package edge_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// What is stored comes back as it was, with the age that it has (RFC 9111 §4.2.3, §5.1) and the freshness that is left
// (RFC 9211 §2.3).
func TestCacheRFC9111Section51Age(t *testing.T) {
	r := startCache(t, nil)
	date := httpDate(100 * time.Second)
	r.on("/a", always(200, "one %d", "Cache-Control", "max-age=600", "Date", date, "Age", "70", "X-Own", "1", "X-Own",
		"2", "ETag", `"v"`))
	first := r.get(t, "/a")
	first.wantFwd(t, "the first", "uri-miss", "one 1")
	if !first.stored || first.Header.Get("Age") != "70" {
		t.Errorf("the first: %s", first)
	}
	s := r.get(t, "/a")
	s.wantHit(t, "the second", "one 1")
	if age, _ := strconv.Atoi(s.Header.Get("Age")); age < 100 || age > 110 { // the Date says more than the Age
		t.Errorf("Age is %d, want about 100", age)
	}
	if !s.hasTTL || s.ttl > 500 || s.ttl < 490 {
		t.Errorf("ttl is %d, want about 500", s.ttl)
	}
	if s.Header.Get("Date") != date || len(s.Header.Values("X-Own")) != 2 || s.Header.Get("Etag") != `"v"` {
		t.Errorf("the fields of a hit: %v", s.Header)
	}
	r.on("/old", always(200, "old", "Cache-Control", "max-age=600", "Age", "200"))
	r.get(t, "/old")
	if age, _ := strconv.Atoi(r.get(t, "/old").Header.Get("Age")); age < 200 || age > 210 {
		t.Errorf("Age is %d, want about 200", age)
	}
	if r.count("/a") != 1 || r.count("/old") != 1 {
		t.Errorf("the origin was asked %d and %d times", r.count("/a"), r.count("/old"))
	}
}

// Expires counts from Date, never from now, and not where Cache-Control has its say (RFC 9111 §4.2.1, §5.3).
func TestCacheRFC9111Section421Lifetime(t *testing.T) {
	r := startCache(t, nil)
	for i, c := range []struct {
		hit    bool
		header []string
	}{
		{true, []string{"Expires", httpDate(-time.Hour)}},
		{true, []string{"Expires", strings.ToUpper(httpDate(-time.Hour))}}, // letters have no case (RFC 9111 §4.2)
		{true, []string{"Expires", strings.ToLower(httpDate(-time.Hour)), "Date", strings.ToUpper(httpDate(0))}},
		{false, []string{"Expires", httpDate(time.Hour)}},
		{true, []string{"Expires", "0", "Cache-Control", "max-age=60"}},
		{false, []string{"Expires", "0"}},
		{false, []string{"Expires", httpDate(-time.Hour), "Cache-Control", "max-age=0"}},
		{true, []string{"Cache-Control", "max-age=0, s-maxage=60"}},
		{false, []string{"Cache-Control", "max-age=60, s-maxage=0"}},
		{false, []string{"Cache-Control", "max-age=60", "Cache-Control", "no-store"}},
		{false, []string{"Cache-Control", "max-age=60, private"}},
		{true, []string{"Cache-Control", `max-age=60, private="x-secret"`, "X-Secret", "s"}},
		{false, []string{"Cache-Control", "max-age=-1"}},
		{false, []string{"Cache-Control", "max-age=60", "Age", "60"}},
		{false, []string{"Cache-Control", "max-age=60", "Date", httpDate(time.Minute)}},
		{true, []string{"Cache-Control", "MAX-AGE=\"60\""}},
		{false, []string{"Cache-Control", `x="max-age=60"`}},
		{false, nil},
	} {
		path := "/" + strconv.Itoa(i)
		r.on(path, always(200, "%d", c.header...))
		r.get(t, path)
		s := r.get(t, path)
		if s.hit != c.hit || s.Header.Get("X-Secret") != "" && s.hit {
			t.Errorf("%q: got %s, want a hit: %t", c.header, s, c.hit)
		}
	}
}

// Without any word of the origin a tenth of the time since Last-Modified counts (§4.2.2), unless the route says
// otherwise.
func TestCacheRFC9111Section422Heuristics(t *testing.T) {
	for _, on := range []bool{true, false} {
		r := startCache(t, func(c *node.Cache) { c.Heuristic = on })
		r.on("/a", always(200, "%d", "Last-Modified", httpDate(10*time.Hour)))
		r.on("/201", always(201, "%d", "Last-Modified", httpDate(10*time.Hour)))
		r.get(t, "/a")
		s := r.get(t, "/a")
		if s.hit != on || (on && (s.ttl < 3500 || s.ttl > 3600)) {
			t.Errorf("heuristics %t: got %s", on, s)
		}
		r.get(t, "/201")
		if s := r.get(t, "/201"); s.hit {
			t.Errorf("a 201 was given a freshness of its own: %s", s)
		}
	}
}

// A response to a request with credentials is for others only if the origin says so (§3.5).
func TestCacheRFC9111Section35Authorization(t *testing.T) {
	r := startCache(t, nil)
	for control, shared := range map[string]bool{
		"max-age=60": false, "max-age=60, public": true, "max-age=60, must-revalidate": true, "s-maxage=60": true,
		"max-age=60, proxy-revalidate": false,
	} {
		path := "/" + strconv.Itoa(len(control))
		r.on(path, always(200, "%d", "Cache-Control", control))
		r.get(t, path, "Authorization", "Bearer a")
		if s := r.get(t, path); s.hit != shared {
			t.Errorf("%s: got %s", control, s)
		}
	}
	r.on("/ttl", always(200, "%d", "Cache-Control", "max-age=60"))
	for i := range 3 {
		r.get(t, "/ttl", "Authorization", "Bearer "+strconv.Itoa(i)).wantFwd(t, "credentials", "uri-miss",
			strconv.Itoa(i+1))
	}
}

// A HEAD is answered from the stored GET, and one that the cache can't answer freshens it or makes it invalid (§4.3.5).
func TestCacheRFC9111Section435Head(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", always(200, "body", "Cache-Control", "max-age=60", "ETag", `"1"`))
	r.get(t, "/a")
	s := r.ask(t, "HEAD", "/a", "")
	if !s.hit || s.ContentLength != 4 || s.body != "" || s.Header.Get("Etag") != `"1"` {
		t.Errorf("HEAD from a stored GET: %s, length %d", s, s.ContentLength)
	}
	r.ask(t, "HEAD", "/b", "").wantFwd(t, "HEAD of nothing", "uri-miss", "")
	head := func(etag, control string) answer {
		return func(req *mesh.Request, n int) *mesh.Response {
			resp := &mesh.Response{Status: 200, Header: fields("ETag", `"1"`, "Cache-Control", "max-age=60", "Age",
				"100"), Body: []byte("body " + strconv.Itoa(n))}
			if req.Method == "HEAD" {
				resp.Body, resp.Header = nil, fields("ETag", etag, "Cache-Control", control, "Content-Length", "6")
			}
			return resp
		}
	}
	r.on("/fresh", head(`"1"`, "max-age=60"))
	r.get(t, "/fresh")
	r.ask(t, "HEAD", "/fresh", "").wantFwd(t, "HEAD of what is stale", "stale", "")
	r.get(t, "/fresh").wantHit(t, "GET after a HEAD that confirms", "body 1")
	r.on("/gone", head(`"2"`, "max-age=60"))
	r.get(t, "/gone")
	r.ask(t, "HEAD", "/gone", "")
	r.get(t, "/gone")
	if got := r.last("/gone").Header.Get("If-None-Match"); got != "" {
		t.Errorf("what a HEAD has made invalid is validated with %s", got)
	}
}

// HEAD first doesn't make the next GET an empty body.
func TestCacheRFC9110Section932HeadIsNotStoredAsGet(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.TTL = node.Duration(time.Minute) })
	r.on("/a", func(req *mesh.Request, _ int) *mesh.Response {
		resp := &mesh.Response{Status: 200, Header: fields("Cache-Control", "max-age=60", "ETag", `"1"`)}
		if req.Method == "GET" {
			resp.Body = []byte("body")
		}
		return resp
	})
	r.ask(t, "HEAD", "/a", "")
	r.get(t, "/a").wantFwd(t, "GET after HEAD", "uri-miss", "body")
	r.get(t, "/a").wantHit(t, "the next GET", "body")
}

// Own validation asks with both validators, and a 304 brings the stored fields up to date, but for those of the body
// (§4.3.1, §3.2).
func TestCacheRFC9111Section434Validation(t *testing.T) {
	r := startCache(t, nil)
	modified := httpDate(time.Hour)
	r.on("/a", inTurn(
		always(200, "body", "Cache-Control", "max-age=60", "Age", "100", "ETag", `"1"`, "Last-Modified", modified,
			"X-Version", "1", "X-Only", "first", "Content-Type", "text/plain"),
		always(304, "", "Cache-Control", "max-age=120", "ETag", `"1"`, "X-Version", "2", "Content-Type", "text/html",
			"Content-Length", "99", "X-New", "n"),
	))
	r.get(t, "/a")
	s := r.get(t, "/a", "If-None-Match", `"other"`)
	s.wantFwd(t, "validated", "stale", "body")
	if s.status != 304 || !s.stored {
		t.Errorf("validated: %s", s)
	}
	if h := r.last("/a").Header; h.Get("If-None-Match") != `"1"` || h.Get("If-Modified-Since") != modified ||
		len(h.Values("If-None-Match")) != 1 {
		t.Errorf("the origin was asked with %v", h)
	}
	s = r.get(t, "/a")
	s.wantHit(t, "after the 304", "body")
	for name, want := range map[string]string{
		"X-Version": "2", "X-Only": "first", "X-New": "n",
		"Content-Type": "text/plain", "Content-Length": "4", "Cache-Control": "max-age=120",
	} {
		if got := s.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s after the 304: %q, want %q", name, got, want)
		}
	}
	if s.ttl < 110 || s.ttl > 120 {
		t.Errorf("ttl after the 304: %d", s.ttl)
	}
}

// A 200 in answer to a validation replaces what was stored, and no-cache asks every time (§4.3.3, §5.2.2.4).
func TestCacheRFC9111Section5224NoCache(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
		h := fields("Cache-Control", "no-cache, max-age=60", "ETag", `"`+strconv.Itoa(n/3)+`"`)
		if req.Header.Get("If-None-Match") == h.Get("ETag") {
			return &mesh.Response{Status: 304, Header: h}
		}
		return &mesh.Response{Status: 200, Header: h, Body: []byte("body " + strconv.Itoa(n))}
	})
	for i, want := range []string{"body 1", "body 1", "body 3", "body 3", "body 3", "body 6"} {
		if s := r.get(t, "/a"); s.body != want || s.hit || s.StatusCode != 200 {
			t.Errorf("request %d: %s, want %s from the origin", i+1, s, want)
		}
	}
	if r.count("/a") != 6 {
		t.Errorf("the origin was asked %d times", r.count("/a"))
	}
}

// An unconditional 304 of an origin that errs is never the body of anything.
func TestCacheRFC9111Section433StrayNotModified(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", inTurn(always(200, "body 1", "Cache-Control", "max-age=60", "Age", "90", "ETag", `"1"`),
		always(304, "", "ETag", `"2"`, "Cache-Control", "max-age=60"),
		always(200, "body 3", "Cache-Control", "max-age=60", "ETag", `"2"`)))
	r.get(t, "/a")
	if s := r.get(t, "/a"); s.StatusCode != 200 || s.body != "body 3" {
		t.Errorf("a 304 about something else gave %s", s)
	}
	r.get(t, "/a").wantHit(t, "afterwards", "body 3")
}

// Client conditionals are answered from the store with the fields that a 304 has (RFC 9110 §13.1.2, §13.1.3, §15.4.5).
func TestCacheRFC9110Section13Conditionals(t *testing.T) {
	r := startCache(t, nil)
	modified := httpDate(time.Hour)
	r.on("/a", always(200, "body", "Cache-Control", "max-age=60", "ETag", `"1"`, "Last-Modified", modified,
		"Content-Type", "text/plain", "Content-Location", "/b",
		"Vary", "X-A", "Expires", httpDate(-time.Minute)))
	r.on("/dated", always(200, "body", "Cache-Control", "max-age=60", "Date", httpDate(10*time.Second)))
	r.get(t, "/a")
	r.get(t, "/dated")
	for _, c := range []struct {
		path   string
		status int
		header []string
	}{
		{"/a", 304, []string{"If-None-Match", `"1"`}},
		{"/a", 304, []string{"If-None-Match", `W/"1"`}},
		{"/a", 304, []string{"If-None-Match", `"0", "1"`}},
		{"/a", 304, []string{"If-None-Match", `"0"`, "If-None-Match", `"1"`}},
		{"/a", 304, []string{"If-None-Match", "*"}},
		{"/a", 200, []string{"If-None-Match", `"0"`}},
		{"/a", 200, []string{"If-None-Match", `"0"`, "If-Modified-Since", modified}},
		{"/a", 304, []string{"If-None-Match", `"1"`, "If-Modified-Since", httpDate(2 * time.Hour)}},
		{"/a", 304, []string{"If-Modified-Since", modified}},
		{"/a", 304, []string{"If-Modified-Since", httpDate(0)}},
		{"/a", 200, []string{"If-Modified-Since", httpDate(2 * time.Hour)}},
		{"/a", 200, []string{"If-Modified-Since", "yesterday"}},
		{"/dated", 304, []string{"If-Modified-Since", httpDate(0)}},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			s := r.ask(t, method, c.path, "", c.header...)
			if s.StatusCode != c.status || !s.hit {
				t.Errorf("%s %s %q: %s, want %d", method, c.path, c.header, s, c.status)
			}
			if s.StatusCode != 304 || c.path != "/a" {
				continue
			}
			for _, name := range []string{"ETag", "Cache-Control", "Content-Location", "Date", "Expires", "Vary"} {
				if s.Header.Get(name) == "" {
					t.Errorf("a 304 lacks %s", name)
				}
			}
			if s.Header.Get("Content-Type") != "" || s.Header.Get("Content-Length") != "" || s.body != "" {
				t.Errorf("a 304 has what describes a body: %v", s.Header)
			}
		}
	}
	s := r.get(t, "/a", "If-Match", `"0"`)
	s.wantHit(t, "If-Match is for the origin, and a cache ignores it (RFC 9110 §13.1.1)", "body")
}

// A cold key with a client's own condition: the whole is fetched and stored, and the client gets its 304.
func TestCacheRFC9111Section43ColdConditional(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", func(req *mesh.Request, _ int) *mesh.Response {
		if req.Header.Has("If-None-Match") {
			return &mesh.Response{Status: 304, Header: fields("ETag", `"1"`)}
		}
		return &mesh.Response{
			Status: 200, Header: fields("ETag", `"1"`, "Cache-Control", "max-age=60"),
			Body: []byte("body"),
		}
	})
	if s := r.get(t, "/a", "If-None-Match", `"1"`); s.StatusCode != 304 {
		t.Errorf("cold: %s", s)
	}
	r.get(t, "/a").wantHit(t, "afterwards", "body")
}
