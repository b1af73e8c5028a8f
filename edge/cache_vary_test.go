package edge_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/kvcache"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// varying answers with a Vary and with what the request has in the field.
func varying(vary string) answer {
	return func(req *mesh.Request, n int) *mesh.Response {
		return &mesh.Response{Status: 200, Header: fields("Cache-Control", "max-age=600", "Vary", vary, "X-N",
			strconv.Itoa(n)), Body: []byte(req.Header.Get(vary))}
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

// crossOrigin is an origin that names Vary only where the request has an Origin, as many do.
func crossOrigin(req *mesh.Request, n int) *mesh.Response {
	h := fields("Cache-Control", "max-age=600", "ETag", `"1"`)
	if from := req.Header.Get("Origin"); from != "" {
		h = append(h, fields("Vary", "Origin", "Access-Control-Allow-Origin", from)...)
	}
	return &mesh.Response{Status: 200, Header: h, Body: []byte(strconv.Itoa(n))}
}

// readableBy is the origin that may read a response.
func readableBy(s *seen) string { return s.Header.Get("Access-Control-Allow-Origin") }

// A response without Vary neither hides the variants that match exactly, nor stands in for those that aren't there yet
// (RFC 9111 §4.1, last paragraph).
func TestCacheRFC9111Section41WithoutVary(t *testing.T) {
	r := startCache(t, nil)
	nodetest.Eventually(t, "the bucket is there", func() bool { return r.cache.Stats().BucketReady })
	r.on("/a", crossOrigin)
	for i, c := range []struct {
		from, body string
		hit        bool
	}{
		{"https://a", "1", false},
		{"", "2", false},
		{"https://a", "1", true},
		{"", "2", true},
		{"https://b", "3", false},
		{"", "2", true},
		{"https://a", "1", true},
		{"https://b", "3", true},
	} {
		var h []string
		if c.from != "" {
			h = []string{"Origin", c.from}
		}
		s := r.get(t, "/a", h...)
		if s.hit != c.hit || s.body != c.body || readableBy(s) != c.from || (!s.hit && i > 0 && s.fwd != "vary-miss") {
			t.Errorf("request %d from %q: %s, %v", i+1, c.from, s, s.Header)
		}
	}
	r.restart(t, 6) // three responses, and three times what is known of them
	for _, c := range []struct{ from, body string }{{"https://a", "1"}, {"", "2"}, {"https://b", "3"}} {
		var h []string
		if c.from != "" {
			h = []string{"Origin", c.from}
		}
		if s := r.get(t, "/a", h...); !s.hit || s.body != c.body || readableBy(s) != c.from {
			t.Errorf("from the bucket, %q: %s, %v", c.from, s, s.Header)
		}
	}
}

// The same where the request without the field was the first: the origin hasn't said yet that it matters, and is asked
// once by a page of another origin.
func TestCacheRFC9111Section41WithoutVaryFirst(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", crossOrigin)
	r.get(t, "/a")
	if s := r.get(t, "/a", "Origin", "https://a"); s.hit || s.fwd != "vary-miss" || readableBy(s) != "https://a" {
		t.Errorf("with the field: %s, %v", s, s.Header)
	}
	r.get(t, "/a").wantHit(t, "without it", "1")
	r.get(t, "/a", "Origin", "https://a").wantHit(t, "with it again", "2")
	neverVary := map[string][]string{"/all": {"Access-Control-Allow-Origin", "*"}, "/none": nil}
	for path, header := range neverVary {
		r.on(path, always(200, "%d", append(header, "Cache-Control", "max-age=600")...))
		r.get(t, path)
		s := r.get(t, path, "Origin", "https://a")
		if s.hit != (header != nil) {
			t.Errorf("%s: %s", path, s)
		}
		for _, from := range []string{"https://b", "https://a", ""} {
			if s := r.get(t, path, "Origin", from); !s.hit {
				t.Errorf("%s from %q: %s", path, from, s)
			}
		}
		r.get(t, path).wantHit(t, path, map[bool]string{true: "1", false: "2"}[header != nil])
	}
	r.on("/private", inTurn(fresh("all"), always(200, "one", "Cache-Control", "private"), always(503, "down")))
	r.get(t, "/private")
	r.get(t, "/private", "Origin", "https://a").wantFwd(t, "not stored", "vary-miss", "one")
	r.get(t, "/private").wantHit(t, "which drives nothing out", "all")
	r.on("/down", fresh("all"))
	r.get(t, "/down")
	r.away()
	if s := r.get(t, "/down", "Origin", "https://a"); s.StatusCode != 200 || s.body != "all" {
		t.Errorf("without the origin: %s", s)
	}
}

// What was stored as the only response of a URL isn't lost when one comes that varies: it stays the one of requests
// without the field.
func TestCacheRFC9111Section41OnlyResponseStays(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
		if req.Header.Get("If-None-Match") == `"1"` && !req.Header.Has("Origin") {
			return always(304, "", "ETag", `"1"`, "Cache-Control", "max-age=600")(req, n)
		}
		resp := crossOrigin(req, n)
		if n == 1 {
			resp.Header.Add("Age", "700")
		}
		return resp
	})
	r.get(t, "/a")
	r.get(t, "/a", "Origin", "https://a").wantFwd(t, "with the field", "vary-miss", "2")
	if s := r.get(t, "/a"); s.body != "1" || s.status != 304 {
		t.Errorf("without it: %s", s)
	}
	r.get(t, "/a", "Origin", "https://a").wantHit(t, "with the field again", "2")
	r.get(t, "/a").wantHit(t, "without it again", "1")
}

// Of several responses that match, the most recent counts by its Date (§4.1), whichever came last.
func TestCacheRFC9111Section41MostRecent(t *testing.T) {
	for name, dates := range map[string][2]time.Duration{
		"in their order": {20 * time.Second, 10 * time.Second}, "the other way": {10 * time.Second, 20 * time.Second},
	} {
		r := startCache(t, nil)
		r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
			vary, date := "X-A", dates[0]
			if req.Header.Get("X-A") == "2" {
				vary, date = "X-B", dates[1]
			}
			return always(200, "%d", "Cache-Control", "max-age=600", "Vary", vary, "Date", httpDate(date))(req, n)
		})
		r.get(t, "/a", "X-A", "1", "X-B", "1").wantFwd(t, name, "uri-miss", "1")
		r.get(t, "/a", "X-A", "2", "X-B", "1").wantFwd(t, name, "vary-miss", "2")
		want := map[bool]string{true: "2", false: "1"}[dates[1] < dates[0]]
		r.get(t, "/a", "X-A", "1", "X-B", "1").wantHit(t, name+": both match", want)
		r.get(t, "/a", "X-A", "1", "X-B", "2").wantHit(t, name+": the first matches", "1")
		r.get(t, "/a", "X-A", "3", "X-B", "1").wantHit(t, name+": the second matches", "2")
		r.get(t, "/a", "X-A", "3", "X-B", "3").wantFwd(t, name+": none matches", "vary-miss", "3")
		r.ask(t, "DELETE", "/a", "")
	}
}

// An origin that names other fields each time makes the cache remember the last few sets of them only.
func TestCacheAttackVarySetsFlood(t *testing.T) {
	r := startCache(t, nil)
	r.on("/a", func(req *mesh.Request, n int) *mesh.Response {
		return always(200, "%d", "Cache-Control", "max-age=600", "Vary", "X-"+strconv.Itoa(n))(req, n)
	})
	for i := 1; i <= 20; i++ {
		h := []string{"X-Any", "1"}
		for j := range i {
			h = append(h, "X-"+strconv.Itoa(j), strconv.Itoa(i))
		}
		if s := r.get(t, "/a", h...); s.StatusCode != 200 {
			t.Errorf("request %d: %s", i, s)
		}
	}
	var v kvcache.View
	var rec httpcache.Record
	has := r.cache.Get([]byte("Ghttp://example.test/a"), &v) && rec.Decode(v.Value) == nil
	if !has || strings.Count(rec.Text, ";") != 3 {
		t.Errorf("known are %q", rec.Text)
	}
	v.Release()
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

// Parameters that the origin says don't count (draft-ietf-httpbis-no-vary-search), and what makes such a response
// invalid.
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
		r.on(path, byMethod(always(200, "%d", "Cache-Control", "max-age=600", "No-Vary-Search", c.rule),
			always(204, "")))
		r.get(t, path+c.first)
		s := r.get(t, path+c.then)
		if s.hit != c.same {
			t.Errorf("%s: %s then %s: %s", c.rule, c.first, c.then, s)
		}
		r.ask(t, "POST", path+c.then, "x") // makes the target invalid (RFC 9111 §4.4)
		r.invalidated(t, c.rule+": after a POST to "+c.then, path+c.then)
	}
}

// Targeted fields stand before Cache-Control and Expires, an invalid one counts as not there, and the cache's own goes
// no further (RFC 9213 §2, §3.1).
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
		if c.header[0] == "CDN-Cache-Control" && c.header[1] != "" &&
			(s.Header.Get("CDN-Cache-Control") != c.header[1] || first.Header.Get("CDN-Cache-Control") != c.header[1]) {
			t.Errorf("%q: CDN-Cache-Control isn't passed on: %v", c.header, s.Header)
		}
	}
	r.on("/own", always(200, "%d", "Millrace-CDN-Cache-Control", "max-age=60", "CDN-Cache-Control", "no-store",
		"Cache-Control", "no-store"))
	r.get(t, "/own")
	if s := r.get(t, "/own"); !s.hit {
		t.Errorf("the cache's own field doesn't count: %s", s)
	}
}

// No-Vary-Search says which parameters don't count, and nothing of what else the key holds: what a proxy tells, the
// route, the body of a QUERY, a range of another unit.
func TestCacheNoVarySearchKeepsTheRestOfTheKey(t *testing.T) {
	r := startCache(t, func(c *node.Cache) { c.Methods = []node.Method{"GET", "QUERY"} }, func(s *cacheSetup) {
		s.edge.TrustedProxies = prefixes("127.0.0.0/8")
		b := cachedRoute("/*", nil, edgetest.Needs("X-Tenant", "b"))
		b.Name = "b"
		s.routes = append(s.routes, b)
	})
	says := func(req *mesh.Request, n int) *mesh.Response {
		body := req.Method + req.Header.Get("X-Forwarded-Prefix") + req.Header.Get("X-Tenant") +
			req.Header.Get("Range") + string(req.Body)
		return always(200, body, "Cache-Control", "max-age=60", "No-Vary-Search", `params=("utm")`)(req, n)
	}
	for i, c := range []struct {
		method, body, want string
		header             []string
	}{
		{"GET", "", "GET//evil.test", []string{"X-Forwarded-Prefix", "//evil.test"}},
		{"GET", "", "GETb", []string{"X-Tenant", "b"}},
		{"GET", "", "GET0-0", []string{"Range", "0-0"}},
		{"QUERY", "select a", "QUERYselect a", nil},
		{"QUERY", "select b", "QUERYselect b", nil},
	} {
		path := "/" + strconv.Itoa(i)
		r.on(path, says)
		if s := r.ask(t, c.method, path+"?x=1&utm=1", c.body, c.header...); s.body != c.want || s.hit {
			t.Errorf("%s: the first: %s", c.want, s)
		}
		if s := r.get(t, path+"?x=1&utm=2"); s.body != "GET" || s.hit {
			t.Errorf("%s: a plain one: %s", c.want, s)
		}
		r.get(t, path+"?x=1").wantHit(t, "a plain one without the parameter", "GET")
		if s := r.ask(t, c.method, path+"?x=1&utm=3", c.body, c.header...); s.body != c.want || s.hit {
			t.Errorf("%s: after the plain one: %s", c.want, s)
		}
	}
}
