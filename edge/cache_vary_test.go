package edge_test

import (
	"strconv"
	"testing"

	"millrace/mesh"
	"millrace/node"
)

// varying answers with a Vary and with what the request has in the field.
func varying(vary string) answer {
	return func(req *mesh.Request, n int) *mesh.Response {
		return &mesh.Response{Status: 200, Header: fields("Cache-Control", "max-age=600", "Vary", vary, "X-N", strconv.Itoa(n)), Body: []byte(req.Header.Get(vary))}
	}
}

// What varies is stored for each value of the field, and spellings of one meaning are one value (RFC 9111 §4.1).
func TestCacheRFC9111Section41Vary(t *testing.T) {
	r := startCache(t, nil)
	for i, c := range []struct {
		field, first, then string
		same               bool
	}{
		{"X-A", "1", "1", true},
		{"X-A", "1", "2", false},
		{"X-A", "1", "", false},
		{"X-A", "", "1", false},
		{"X-A", "", "", true},
		{"X-A", "1, 2", "1,2", true},
		{"X-A", "a", "A", false},
		{"Accept-Encoding", "gzip, br", "br;q=0.5,gzip", true},
		{"Accept-Encoding", "gzip, deflate, br, zstd", "zstd, br, gzip", true},
		{"Accept-Encoding", "gzip", "br", false},
		{"Accept-Encoding", "gzip;q=0, br", "br", true},
		{"Accept-Encoding", "gzip", "", false},
		{"Accept-Language", "en-US,en;q=0.9", "en-us, en; q=0.8", true},
		{"Accept-Language", "de,en;q=0.9", "en,de;q=0.9", false},
	} {
		path := "/" + strconv.Itoa(i)
		r.on(path, varying(c.field))
		get := func(value string) *seen {
			if value == "" {
				return r.get(t, path)
			}
			return r.get(t, path, c.field, value)
		}
		if s := get(c.first); s.fwd != "uri-miss" {
			t.Errorf("%s %q: %s", c.field, c.first, s)
		}
		s := get(c.then)
		if s.hit != c.same || (!c.same && s.fwd != "vary-miss") {
			t.Errorf("%s %q, then %q: %s", c.field, c.first, c.then, s)
		}
		if s := get(c.first); !s.hit || s.Header.Get("X-N") != "1" {
			t.Errorf("%s %q again: %s", c.field, c.first, s)
		}
	}
}

// A Vary of * in any line is never reused; fields with a value for each client only where the route says so.
func TestCacheRFC9111Section41VaryAny(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Vary = []string{"User-Agent"} })
	for i, c := range []struct {
		lines []string
		hit   bool
	}{
		{[]string{"Vary", "*"}, false},
		{[]string{"Vary", "X-A", "Vary", "X-B, *"}, false},
		{[]string{"Vary", "X-A", "Vary", "x-b"}, true},
		{[]string{"Vary", "Cookie"}, false},
		{[]string{"Vary", "User-Agent"}, true},
	} {
		path := "/" + strconv.Itoa(i)
		r.on(path, always(200, "%d", append([]string{"Cache-Control", "max-age=60"}, c.lines...)...))
		r.get(t, path, "User-Agent", "u")
		if s := r.get(t, path, "User-Agent", "u"); s.hit != c.hit {
			t.Errorf("%q: %s", c.lines, s)
		}
	}
}

// A URL has at most 64 variants: the oldest leave, and no client can fill the memory with them.
func TestCacheAttackVariantFlood(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", varying("X-A"))
	const n = 70
	for i := range n {
		r.get(t, "/a", "X-A", strconv.Itoa(i))
	}
	for i := n - 64; i < n; i++ {
		if s := r.get(t, "/a", "X-A", strconv.Itoa(i)); !s.hit || s.body != strconv.Itoa(i) {
			t.Errorf("variant %d: %s", i, s)
		}
	}
	if s := r.get(t, "/a", "X-A", "0"); s.hit || s.fwd != "vary-miss" {
		t.Errorf("the oldest: %s", s)
	}
}

// Parameters that the origin says don't count (draft-ietf-httpbis-no-vary-search), and what makes such a response invalid.
func TestCacheNoVarySearch(t *testing.T) {
	r := startCache(t, nil)
	for i, c := range []struct {
		rule, first, then string
		same              bool
	}{
		{`params=("utm")`, "?a=1&utm=1", "?a=1&utm=2", true},
		{`params=("utm")`, "?a=1&utm=1", "?a=1", true},
		{`params=("utm")`, "?a=1&utm=1", "?a=2&utm=1", false},
		{`params, except=("a")`, "?a=1&b=1", "?c=1&a=1", true},
		{`params, except=("a")`, "?a=1&b=1", "?a=2&b=1", false},
		{`key-order`, "?a=1&b=1", "?b=1&a=1", true},
		{`key-order`, "?a=1&a=2", "?a=2&a=1", false},
		{`params=("utm")`, "?a=1&utm=1", "?a=1&%75tm=2", true},
		{`params=utm`, "?a=1&utm=1", "?a=1&utm=2", false},
		{`rubbish(`, "?a=1&utm=1", "?a=1&utm=2", false},
	} {
		path := "/" + strconv.Itoa(i)
		r.on(path, byMethod(always(200, "%d", "Cache-Control", "max-age=600", "No-Vary-Search", c.rule), always(204, "")))
		r.get(t, path+c.first)
		s := r.get(t, path+c.then)
		if s.hit != c.same {
			t.Errorf("%s: %s then %s: %s", c.rule, c.first, c.then, s)
		}
		r.ask(t, "POST", path+c.then, "x") // makes the target invalid (RFC 9111 §4.4)
		r.invalidated(t, c.rule+": after a POST to "+c.then, path+c.then)
	}
}

// Targeted fields stand before Cache-Control and Expires, an invalid one counts as not there, and the cache's own goes no further (RFC 9213 §2, §3.1).
func TestCacheRFC9213TargetedFields(t *testing.T) {
	r := startCache(t, nil)
	for i, c := range []struct {
		hit    bool
		header []string
	}{
		{true, []string{"CDN-Cache-Control", "max-age=60", "Cache-Control", "no-store"}},
		{true, []string{"CDN-Cache-Control", "max-age=60", "Cache-Control", "private", "Expires", "0"}},
		{false, []string{"CDN-Cache-Control", "no-store", "Cache-Control", "max-age=60"}},
		{false, []string{"CDN-Cache-Control", "max-age=0", "Cache-Control", "max-age=60", "Expires", httpDate(-1e12)}},
		{true, []string{"CDN-Cache-Control", "max-age=60;p, must-revalidate"}},
		{true, []string{"CDN-Cache-Control", "max-age=, rubbish(", "Cache-Control", "max-age=60"}},
		{true, []string{"CDN-Cache-Control", "", "Cache-Control", "max-age=60"}},
		{true, []string{"Surrogate-Control", "max-age=60", "Cache-Control", "no-store"}},
	} {
		path := "/" + strconv.Itoa(i)
		r.on(path, always(200, "%d", c.header...))
		first, s := r.get(t, path), r.get(t, path)
		if s.hit != c.hit {
			t.Errorf("%q: %s", c.header, s)
		}
		if c.header[0] == "CDN-Cache-Control" && c.header[1] != "" && (s.Header.Get("CDN-Cache-Control") != c.header[1] || first.Header.Get("CDN-Cache-Control") != c.header[1]) {
			t.Errorf("%q: CDN-Cache-Control isn't passed on: %v", c.header, s.Header)
		}
	}
	r.on("/own", always(200, "%d", "Millrace-CDN-Cache-Control", "max-age=60", "CDN-Cache-Control", "no-store", "Cache-Control", "no-store"))
	r.get(t, "/own")
	if s := r.get(t, "/own"); !s.hit {
		t.Errorf("the cache's own field doesn't count: %s", s)
	}
}
