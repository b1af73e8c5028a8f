package cache_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// What is stored comes back as it was, with the age that it has (RFC 9111 §4.2.3, §5.1) and the freshness that is left
// (RFC 9211 §2.3).
func TestHitTellsItsAgeAndFreshness(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	date := edgetest.HTTPDate(100 * time.Second)
	r.On(
		"/a",
		edgetest.Always(200, "one %d", "Cache-Control", "max-age=600", "Date", date, "Age", "70", "X-Own", "1", "X-Own",
			"2", "ETag", `"v"`),
	)
	first := r.Get(t, "/a")
	first.WantFwd(t, "the first", "uri-miss", "one 1")
	if !first.Stored || first.Header.Get("Age") != "70" {
		t.Errorf("the first: %s", first)
	}
	s := r.Get(t, "/a")
	s.WantHit(t, "the second", "one 1")
	if age, _ := strconv.Atoi(s.Header.Get("Age")); age < 100 || age > 110 { // the Date says more than the Age
		t.Errorf("Age is %d, want about 100", age)
	}
	if !s.HasTTL || s.TTL > 500 || s.TTL < 490 {
		t.Errorf("ttl is %d, want about 500", s.TTL)
	}
	if s.Header.Get("Date") != date || len(s.Header.Values("X-Own")) != 2 || s.Header.Get("Etag") != `"v"` {
		t.Errorf("the fields of a hit: %v", s.Header)
	}
	r.On("/old", edgetest.Always(200, "old", "Cache-Control", "max-age=600", "Age", "200"))
	r.Get(t, "/old")
	if age, _ := strconv.Atoi(r.Get(t, "/old").Header.Get("Age")); age < 200 || age > 210 {
		t.Errorf("Age is %d, want about 200", age)
	}
	if r.Count("/a") != 1 || r.Count("/old") != 1 {
		t.Errorf("the origin was asked %d and %d times", r.Count("/a"), r.Count("/old"))
	}
}

// Expires counts from Date, never from now, and not where Cache-Control has its say (RFC 9111 §4.2.1, §5.3).
func TestExpiresCountsFromDate(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	date := edgetest.HTTPDate
	for i, c := range []struct {
		hit    bool
		header []string
	}{
		{true, []string{"Expires", date(-time.Hour)}},
		{true, []string{"Expires", strings.ToUpper(date(-time.Hour))}}, // letters have no case (RFC 9111 §4.2)
		{true, []string{"Expires", strings.ToLower(date(-time.Hour)), "Date", strings.ToUpper(date(0))}},
		{false, []string{"Expires", date(time.Hour)}},
		{true, []string{"Expires", "0", "Cache-Control", "max-age=60"}},
		{false, []string{"Expires", "0"}},
		{false, []string{"Expires", date(-time.Hour), "Cache-Control", "max-age=0"}},
		{true, []string{"Cache-Control", "max-age=0, s-maxage=60"}},
		{false, []string{"Cache-Control", "max-age=60, s-maxage=0"}},
		{false, []string{"Cache-Control", "max-age=60", "Cache-Control", "no-store"}},
		{false, []string{"Cache-Control", "max-age=60, private"}},
		{true, []string{"Cache-Control", `max-age=60, private="x-secret"`, "X-Secret", "s"}},
		{false, []string{"Cache-Control", "max-age=-1"}},
		{false, []string{"Cache-Control", "max-age=60", "Age", "60"}},
		{false, []string{"Cache-Control", "max-age=60", "Date", date(time.Minute)}},
		{true, []string{"Cache-Control", "MAX-AGE=\"60\""}},
		{false, []string{"Cache-Control", `x="max-age=60"`}},
		{false, nil},
	} {
		path := "/" + strconv.Itoa(i)
		r.On(path, edgetest.Always(200, "%d", c.header...))
		r.Get(t, path)
		s := r.Get(t, path)
		if s.Hit != c.hit || s.Header.Get("X-Secret") != "" && s.Hit {
			t.Errorf("%q: got %s, want a hit: %t", c.header, s, c.hit)
		}
	}
}

// Without any word of the origin a tenth of the time since Last-Modified counts (RFC 9111 §4.2.2), unless the route
// says otherwise.
func TestHeuristicFreshnessIsATenthOfTheAge(t *testing.T) {
	for _, on := range []bool{true, false} {
		r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Heuristic = on }))
		r.On("/a", edgetest.Always(200, "%d", "Last-Modified", edgetest.HTTPDate(10*time.Hour)))
		r.On("/201", edgetest.Always(201, "%d", "Last-Modified", edgetest.HTTPDate(10*time.Hour)))
		r.Get(t, "/a")
		s := r.Get(t, "/a")
		if s.Hit != on || (on && (s.TTL < 3500 || s.TTL > 3600)) {
			t.Errorf("heuristics %t: got %s", on, s)
		}
		r.Get(t, "/201")
		if s := r.Get(t, "/201"); s.Hit {
			t.Errorf("a 201 was given a freshness of its own: %s", s)
		}
	}
}

// A response to a request with credentials is for others only if the origin says so (RFC 9111 §3.5).
func TestResponseToCredentialsIsSharedOnlyIfItSaysSo(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for control, shared := range map[string]bool{
		"max-age=60": false, "max-age=60, public": true, "max-age=60, must-revalidate": true, "s-maxage=60": true,
		"max-age=60, proxy-revalidate": false,
	} {
		path := "/" + strconv.Itoa(len(control))
		r.On(path, edgetest.Always(200, "%d", "Cache-Control", control))
		r.Get(t, path, "Authorization", "Bearer a")
		if s := r.Get(t, path); s.Hit != shared {
			t.Errorf("%s: got %s", control, s)
		}
	}
	r.On("/ttl", edgetest.Always(200, "%d", "Cache-Control", "max-age=60"))
	for i := range 3 {
		r.Get(t, "/ttl", "Authorization", "Bearer "+strconv.Itoa(i)).WantFwd(t, "credentials", "uri-miss",
			strconv.Itoa(i+1))
	}
}

// A HEAD is answered from the stored GET, and one that the cache can't answer freshens it or makes it invalid (RFC 9111
// §4.3.5).
func TestHeadFreshensOrInvalidatesTheStoredGet(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Always(200, "body", "Cache-Control", "max-age=60", "ETag", `"1"`))
	r.Get(t, "/a")
	s := r.Ask(t, "HEAD", "/a", "")
	if !s.Hit || s.ContentLength != 4 || s.Text != "" || s.Header.Get("Etag") != `"1"` {
		t.Errorf("HEAD from a stored GET: %s, length %d", s, s.ContentLength)
	}
	r.Ask(t, "HEAD", "/b", "").WantFwd(t, "HEAD of nothing", "uri-miss", "")
	head := func(etag, control string) edgetest.Answer {
		return func(req *mesh.Request, n int) *mesh.Response {
			resp := &mesh.Response{
				Status: 200,
				Header: edgetest.Fields("ETag", `"1"`, "Cache-Control", "max-age=60", "Age",
					"100"),
				Body: []byte("body " + strconv.Itoa(n)),
			}
			if req.Method == "HEAD" {
				resp.Body, resp.Header = nil, edgetest.Fields("ETag", etag, "Cache-Control", control, "Content-Length",
					"6")
			}
			return resp
		}
	}
	r.On("/fresh", head(`"1"`, "max-age=60"))
	r.Get(t, "/fresh")
	r.Ask(t, "HEAD", "/fresh", "").WantFwd(t, "HEAD of what is stale", "stale", "")
	r.Get(t, "/fresh").WantHit(t, "GET after a HEAD that confirms", "body 1")
	r.On("/gone", head(`"2"`, "max-age=60"))
	r.Get(t, "/gone")
	r.Ask(t, "HEAD", "/gone", "")
	r.Get(t, "/gone")
	if got := r.Last("/gone").Header.Get("If-None-Match"); got != "" {
		t.Errorf("what a HEAD has made invalid is validated with %s", got)
	}
}

// HEAD first doesn't make the next GET an empty body (RFC 9110 §9.3.2).
func TestHeadIsNotStoredAsGet(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.TTL = node.Duration(time.Minute) }))
	r.On("/a", func(req *mesh.Request, _ int) *mesh.Response {
		resp := &mesh.Response{Status: 200, Header: edgetest.Fields("Cache-Control", "max-age=60", "ETag", `"1"`)}
		if req.Method == "GET" {
			resp.Body = []byte("body")
		}
		return resp
	})
	r.Ask(t, "HEAD", "/a", "")
	r.Get(t, "/a").WantFwd(t, "GET after HEAD", "uri-miss", "body")
	r.Get(t, "/a").WantHit(t, "the next GET", "body")
}

// Own validation asks with both validators, and a 304 brings the stored fields up to date, but for those of the body
// (RFC 9111 §3.2, §4.3.1, §4.3.4).
func TestNotModifiedUpdatesTheStoredFields(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	modified := edgetest.HTTPDate(time.Hour)
	r.On("/a", edgetest.InTurn(
		edgetest.Always(200, "body", "Cache-Control", "max-age=60", "Age", "100", "ETag", `"1"`, "Last-Modified",
			modified, "X-Version", "1", "X-Only", "first", "Content-Type", "text/plain"),
		edgetest.Always(304, "", "Cache-Control", "max-age=120", "ETag", `"1"`, "X-Version", "2",
			"Content-Type", "text/html", "Content-Length", "99", "X-New", "n"),
	))
	r.Get(t, "/a")
	s := r.Get(t, "/a", "If-None-Match", `"other"`)
	s.WantFwd(t, "validated", "stale", "body")
	if s.FwdStatus != 304 || !s.Stored {
		t.Errorf("validated: %s", s)
	}
	if h := r.Last("/a").Header; h.Get("If-None-Match") != `"1"` || h.Get("If-Modified-Since") != modified ||
		len(h.Values("If-None-Match")) != 1 {
		t.Errorf("the origin was asked with %v", h)
	}
	s = r.Get(t, "/a")
	s.WantHit(t, "after the 304", "body")
	for name, want := range map[string]string{
		"X-Version": "2", "X-Only": "first", "X-New": "n",
		"Content-Type": "text/plain", "Content-Length": "4", "Cache-Control": "max-age=120",
	} {
		if got := s.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s after the 304: %q, want %q", name, got, want)
		}
	}
	if s.TTL < 110 || s.TTL > 120 {
		t.Errorf("ttl after the 304: %d", s.TTL)
	}
}

// A 200 in answer to a validation replaces what was stored, and no-cache asks every time (RFC 9111 §4.3.3, §5.2.2.4).
func TestNoCacheIsValidatedEachTime(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		h := edgetest.Fields("Cache-Control", "no-cache, max-age=60", "ETag", `"`+strconv.Itoa(n/3)+`"`)
		if req.Header.Get("If-None-Match") == h.Get("ETag") {
			return &mesh.Response{Status: 304, Header: h}
		}
		return &mesh.Response{Status: 200, Header: h, Body: []byte("body " + strconv.Itoa(n))}
	})
	for i, want := range []string{"body 1", "body 1", "body 3", "body 3", "body 3", "body 6"} {
		if s := r.Get(t, "/a"); s.Text != want || s.Hit || s.StatusCode != 200 {
			t.Errorf("request %d: %s, want %s from the origin", i+1, s, want)
		}
	}
	if r.Count("/a") != 6 {
		t.Errorf("the origin was asked %d times", r.Count("/a"))
	}
}

// An unconditional 304 of an origin that errs is never the body of anything (RFC 9111 §4.3.3).
func TestStrayNotModifiedIsNotStored(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On(
		"/a",
		edgetest.InTurn(edgetest.Always(200, "body 1", "Cache-Control", "max-age=60", "Age", "90", "ETag", `"1"`),
			edgetest.Always(304, "", "ETag", `"2"`, "Cache-Control", "max-age=60"),
			edgetest.Always(200, "body 3", "Cache-Control", "max-age=60", "ETag", `"2"`)),
	)
	r.Get(t, "/a")
	if s := r.Get(t, "/a"); s.StatusCode != 200 || s.Text != "body 3" {
		t.Errorf("a 304 about something else gave %s", s)
	}
	r.Get(t, "/a").WantHit(t, "afterwards", "body 3")
}

// Client conditionals are answered from the store with the fields that a 304 has (RFC 9110 §13.1.2, §13.1.3, §15.4.5).
func TestConditionalsAreAnsweredFromTheStore(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	modified := edgetest.HTTPDate(time.Hour)
	r.On("/a", edgetest.Always(200, "body", "Cache-Control", "max-age=60", "ETag", `"1"`, "Last-Modified", modified,
		"Content-Type", "text/plain", "Content-Location", "/b",
		"Vary", "X-A", "Expires", edgetest.HTTPDate(-time.Minute)))
	r.On("/dated",
		edgetest.Always(200, "body", "Cache-Control", "max-age=60", "Date", edgetest.HTTPDate(10*time.Second)))
	r.Get(t, "/a")
	r.Get(t, "/dated")
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
		{"/a", 304, []string{"If-None-Match", `"1"`, "If-Modified-Since", edgetest.HTTPDate(2 * time.Hour)}},
		{"/a", 304, []string{"If-Modified-Since", modified}},
		{"/a", 304, []string{"If-Modified-Since", edgetest.HTTPDate(0)}},
		{"/a", 200, []string{"If-Modified-Since", edgetest.HTTPDate(2 * time.Hour)}},
		{"/a", 200, []string{"If-Modified-Since", "yesterday"}},
		{"/dated", 304, []string{"If-Modified-Since", edgetest.HTTPDate(0)}},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			s := r.Ask(t, method, c.path, "", c.header...)
			if s.StatusCode != c.status || !s.Hit {
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
			if s.Header.Get("Content-Type") != "" || s.Header.Get("Content-Length") != "" || s.Text != "" {
				t.Errorf("a 304 has what describes a body: %v", s.Header)
			}
		}
	}
	s := r.Get(t, "/a", "If-Match", `"0"`)
	s.WantHit(t, "If-Match is for the origin, and a cache ignores it (RFC 9110 §13.1.1)", "body")
}

// A cold key with a client's own condition: the whole is fetched and stored, and the client gets its 304 (RFC 9111
// §4.3).
func TestConditionalOfAColdKeyFetchesTheWhole(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", func(req *mesh.Request, _ int) *mesh.Response {
		if req.Header.Has("If-None-Match") {
			return &mesh.Response{Status: 304, Header: edgetest.Fields("ETag", `"1"`)}
		}
		return &mesh.Response{
			Status: 200, Header: edgetest.Fields("ETag", `"1"`, "Cache-Control", "max-age=60"),
			Body: []byte("body"),
		}
	})
	if s := r.Get(t, "/a", "If-None-Match", `"1"`); s.StatusCode != 304 {
		t.Errorf("cold: %s", s)
	}
	r.Get(t, "/a").WantHit(t, "afterwards", "body")
}
