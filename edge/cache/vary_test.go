package cache_test

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
func varying(vary string) edgetest.Answer {
	return func(req *mesh.Request, n int) *mesh.Response {
		return &mesh.Response{Status: 200, Header: edgetest.Fields("Cache-Control", "max-age=600", "Vary", vary, "X-N",
			strconv.Itoa(n)), Body: []byte(req.Header.Get(vary))}
	}
}

// What varies is stored for each value of the field, and spellings of one meaning are one value (RFC 9111 §4.1).
func TestVariantsAreStoredByTheMeaningOfTheirFields(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
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
		r.On(path, varying(c.field))
		get := func(value string) *edgetest.Seen {
			if value == "" {
				return r.Get(t, path)
			}
			return r.Get(t, path, c.field, value)
		}
		if s := get(c.first); s.Fwd != "uri-miss" {
			t.Errorf("%s %q: %s", c.field, c.first, s)
		}
		s := get(c.then)
		if s.Hit != c.same || (!c.same && s.Fwd != "vary-miss") {
			t.Errorf("%s %q, then %q: %s", c.field, c.first, c.then, s)
		}
		if s := get(c.first); !s.Hit || s.Header.Get("X-N") != "1" {
			t.Errorf("%s %q again: %s", c.field, c.first, s)
		}
	}
}

// A Vary of * in any line is never reused; fields with a value for each client only where the route says so (RFC 9111
// §4.1).
func TestVaryAnyIsNotReused(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Vary = []string{"User-Agent"} }))
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
		r.On(path, edgetest.Always(200, "%d", append([]string{"Cache-Control", "max-age=60"}, c.lines...)...))
		r.Get(t, path, "User-Agent", "u")
		if s := r.Get(t, path, "User-Agent", "u"); s.Hit != c.hit {
			t.Errorf("%q: %s", c.lines, s)
		}
	}
}

// crossOrigin is an origin that names Vary only where the request has an Origin, as many do.
func crossOrigin(req *mesh.Request, n int) *mesh.Response {
	h := edgetest.Fields("Cache-Control", "max-age=600", "ETag", `"1"`)
	if from := req.Header.Get("Origin"); from != "" {
		h = append(h, edgetest.Fields("Vary", "Origin", "Access-Control-Allow-Origin", from)...)
	}
	return &mesh.Response{Status: 200, Header: h, Body: []byte(strconv.Itoa(n))}
}

// readableBy is the origin that may read a response.
func readableBy(s *edgetest.Seen) string { return s.Header.Get("Access-Control-Allow-Origin") }

// A response without Vary neither hides the variants that match exactly, nor stands in for those that aren't there yet
// (RFC 9111 §4.1, last paragraph).
func TestResponseWithoutVaryLeavesTheVariants(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	nodetest.Eventually(t, "the bucket is there", func() bool { return r.Cache.Stats().BucketReady })
	r.On("/a", crossOrigin)
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
		s := r.Get(t, "/a", h...)
		if s.Hit != c.hit || s.Text != c.body || readableBy(s) != c.from || (!s.Hit && i > 0 && s.Fwd != "vary-miss") {
			t.Errorf("request %d from %q: %s, %v", i+1, c.from, s, s.Header)
		}
	}
	r.Restart(t, 6) // three responses, and three times what is known of them
	for _, c := range []struct{ from, body string }{{"https://a", "1"}, {"", "2"}, {"https://b", "3"}} {
		var h []string
		if c.from != "" {
			h = []string{"Origin", c.from}
		}
		if s := r.Get(t, "/a", h...); !s.Hit || s.Text != c.body || readableBy(s) != c.from {
			t.Errorf("from the bucket, %q: %s, %v", c.from, s, s.Header)
		}
	}
}

// The same where the request without the field was the first: the origin hasn't said yet that it matters, and is asked
// once by a page of another origin (RFC 9111 §4.1).
func TestFirstResponseWithoutVaryIsNotForOtherOrigins(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", crossOrigin)
	r.Get(t, "/a")
	if s := r.Get(t, "/a", "Origin", "https://a"); s.Hit || s.Fwd != "vary-miss" || readableBy(s) != "https://a" {
		t.Errorf("with the field: %s, %v", s, s.Header)
	}
	r.Get(t, "/a").WantHit(t, "without it", "1")
	r.Get(t, "/a", "Origin", "https://a").WantHit(t, "with it again", "2")
	neverVary := map[string][]string{"/all": {"Access-Control-Allow-Origin", "*"}, "/none": nil}
	for path, header := range neverVary {
		r.On(path, edgetest.Always(200, "%d", append(header, "Cache-Control", "max-age=600")...))
		r.Get(t, path)
		s := r.Get(t, path, "Origin", "https://a")
		if s.Hit != (header != nil) {
			t.Errorf("%s: %s", path, s)
		}
		for _, from := range []string{"https://b", "https://a", ""} {
			if s := r.Get(t, path, "Origin", from); !s.Hit {
				t.Errorf("%s from %q: %s", path, from, s)
			}
		}
		r.Get(t, path).WantHit(t, path, map[bool]string{true: "1", false: "2"}[header != nil])
	}
	r.On("/private", edgetest.InTurn(edgetest.Fresh("all"), edgetest.Always(200, "one", "Cache-Control", "private"),
		edgetest.Always(503, "down")))
	r.Get(t, "/private")
	r.Get(t, "/private", "Origin", "https://a").WantFwd(t, "not stored", "vary-miss", "one")
	r.Get(t, "/private").WantHit(t, "which drives nothing out", "all")
	r.On("/down", edgetest.Fresh("all"))
	r.Get(t, "/down")
	r.EndOrigin()
	if s := r.Get(t, "/down", "Origin", "https://a"); s.StatusCode != 200 || s.Text != "all" {
		t.Errorf("without the origin: %s", s)
	}
}

// What was stored as the only response of a URL isn't lost when one comes that varies: it stays the one of requests
// without the field (RFC 9111 §4.1).
func TestOnlyResponseStaysWhenOneVaries(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		if req.Header.Get("If-None-Match") == `"1"` && !req.Header.Has("Origin") {
			return edgetest.Always(304, "", "ETag", `"1"`, "Cache-Control", "max-age=600")(req, n)
		}
		resp := crossOrigin(req, n)
		if n == 1 {
			resp.Header.Add("Age", "700")
		}
		return resp
	})
	r.Get(t, "/a")
	r.Get(t, "/a", "Origin", "https://a").WantFwd(t, "with the field", "vary-miss", "2")
	if s := r.Get(t, "/a"); s.Text != "1" || s.FwdStatus != 304 {
		t.Errorf("without it: %s", s)
	}
	r.Get(t, "/a", "Origin", "https://a").WantHit(t, "with the field again", "2")
	r.Get(t, "/a").WantHit(t, "without it again", "1")
}

// Of several responses that match, the most recent counts by its Date (RFC 9111 §4.1), whichever came last.
func TestMostRecentOfMatchingResponsesCounts(t *testing.T) {
	for name, dates := range map[string][2]time.Duration{
		"in their order": {20 * time.Second, 10 * time.Second}, "the other way": {10 * time.Second, 20 * time.Second},
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
			vary, date := "X-A", dates[0]
			if req.Header.Get("X-A") == "2" {
				vary, date = "X-B", dates[1]
			}
			return edgetest.Always(200, "%d", "Cache-Control", "max-age=600", "Vary", vary, "Date",
				edgetest.HTTPDate(date))(req, n)
		})
		r.Get(t, "/a", "X-A", "1", "X-B", "1").WantFwd(t, name, "uri-miss", "1")
		r.Get(t, "/a", "X-A", "2", "X-B", "1").WantFwd(t, name, "vary-miss", "2")
		want := map[bool]string{true: "2", false: "1"}[dates[1] < dates[0]]
		r.Get(t, "/a", "X-A", "1", "X-B", "1").WantHit(t, name+": both match", want)
		r.Get(t, "/a", "X-A", "1", "X-B", "2").WantHit(t, name+": the first matches", "1")
		r.Get(t, "/a", "X-A", "3", "X-B", "1").WantHit(t, name+": the second matches", "2")
		r.Get(t, "/a", "X-A", "3", "X-B", "3").WantFwd(t, name+": none matches", "vary-miss", "3")
		r.Ask(t, "DELETE", "/a", "")
	}
}

// An origin that names other fields each time makes the cache remember the last few sets of them only.
func TestLastFewSetsOfVaryFieldsAreRemembered(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		return edgetest.Always(200, "%d", "Cache-Control", "max-age=600", "Vary", "X-"+strconv.Itoa(n))(req, n)
	})
	for i := 1; i <= 20; i++ {
		h := []string{"X-Any", "1"}
		for j := range i {
			h = append(h, "X-"+strconv.Itoa(j), strconv.Itoa(i))
		}
		if s := r.Get(t, "/a", h...); s.StatusCode != 200 {
			t.Errorf("request %d: %s", i, s)
		}
	}
	var v kvcache.View
	var rec httpcache.Record
	has := r.Cache.Get([]byte("Ghttp://example.test/a"), &v) && rec.Decode(v.Value) == nil
	if !has || strings.Count(rec.Text, ";") != 3 {
		t.Errorf("known are %q", rec.Text)
	}
	v.Release()
}

// A URL has at most 64 variants: the oldest leave, and no client can fill the memory with them.
func TestURLHasAtMost64Variants(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", varying("X-A"))
	const n = 70
	for i := range n {
		r.Get(t, "/a", "X-A", strconv.Itoa(i))
	}
	for i := n - 64; i < n; i++ {
		if s := r.Get(t, "/a", "X-A", strconv.Itoa(i)); !s.Hit || s.Text != strconv.Itoa(i) {
			t.Errorf("variant %d: %s", i, s)
		}
	}
	if s := r.Get(t, "/a", "X-A", "0"); s.Hit || s.Fwd != "vary-miss" {
		t.Errorf("the oldest: %s", s)
	}
}

// Parameters that the origin says don't count (draft-ietf-httpbis-no-vary-search), and what makes such a response
// invalid.
func TestNoVarySearchDropsParametersFromTheKey(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
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
		r.On(path, byMethod(edgetest.Always(200, "%d", "Cache-Control", "max-age=600", "No-Vary-Search", c.rule),
			edgetest.Always(204, "")))
		r.Get(t, path+c.first)
		s := r.Get(t, path+c.then)
		if s.Hit != c.same {
			t.Errorf("%s: %s then %s: %s", c.rule, c.first, c.then, s)
		}
		r.Ask(t, "POST", path+c.then, "x") // makes the target invalid (RFC 9111 §4.4)
		r.Invalidated(t, c.rule+": after a POST to "+c.then, path+c.then)
	}
}

// Targeted fields stand before Cache-Control and Expires, an invalid one counts as not there, and the cache's own goes
// no further (RFC 9213 §2, §3.1).
func TestTargetedFieldsStandBeforeCacheControl(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for i, c := range []struct {
		hit    bool
		header []string
	}{
		{true, []string{"CDN-Cache-Control", "max-age=60", "Cache-Control", "no-store"}},
		{true, []string{"CDN-Cache-Control", "max-age=60", "Cache-Control", "private", "Expires", "0"}},
		{false, []string{"CDN-Cache-Control", "no-store", "Cache-Control", "max-age=60"}},
		{false, []string{
			"CDN-Cache-Control", "max-age=0", "Cache-Control", "max-age=60", "Expires",
			edgetest.HTTPDate(-1e12),
		}},
		{true, []string{"CDN-Cache-Control", "max-age=60;p, must-revalidate"}},
		{true, []string{"CDN-Cache-Control", "max-age=, rubbish(", "Cache-Control", "max-age=60"}},
		{true, []string{"CDN-Cache-Control", "", "Cache-Control", "max-age=60"}},
		{true, []string{"Surrogate-Control", "max-age=60", "Cache-Control", "no-store"}},
	} {
		path := "/" + strconv.Itoa(i)
		r.On(path, edgetest.Always(200, "%d", c.header...))
		first, s := r.Get(t, path), r.Get(t, path)
		if s.Hit != c.hit {
			t.Errorf("%q: %s", c.header, s)
		}
		if c.header[0] == "CDN-Cache-Control" && c.header[1] != "" &&
			(s.Header.Get("CDN-Cache-Control") != c.header[1] || first.Header.Get("CDN-Cache-Control") != c.header[1]) {
			t.Errorf("%q: CDN-Cache-Control isn't passed on: %v", c.header, s.Header)
		}
	}
	r.On("/own", edgetest.Always(200, "%d", "Millrace-CDN-Cache-Control", "max-age=60", "CDN-Cache-Control", "no-store",
		"Cache-Control", "no-store"))
	r.Get(t, "/own")
	if s := r.Get(t, "/own"); !s.Hit {
		t.Errorf("the cache's own field doesn't count: %s", s)
	}
}

// No-Vary-Search says which parameters don't count, and nothing of what else the key holds: what a proxy tells, the
// route, the body of a QUERY, a range of another unit.
func TestNoVarySearchKeepsTheRestOfTheKey(t *testing.T) {
	r := edgetest.Start(
		t,
		edgetest.Cached(func(c *node.Cache) { c.Methods = []node.Method{"GET", "QUERY"} }, func(s *edgetest.Config) {
			s.Edge = func(e *node.Edge) { e.TrustedProxies = edgetest.Prefixes("127.0.0.0/8") }
			b := edgetest.CachedRoute("/*", nil, edgetest.Needs("X-Tenant", "b"))
			b.Name = "b"
			s.Routes = append(s.Routes, b)
		}),
	)
	says := func(req *mesh.Request, n int) *mesh.Response {
		body := req.Method + req.Header.Get("X-Forwarded-Prefix") + req.Header.Get("X-Tenant") +
			req.Header.Get("Range") + string(req.Body)
		return edgetest.Always(200, body, "Cache-Control", "max-age=60", "No-Vary-Search", `params=("utm")`)(req, n)
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
		r.On(path, says)
		if s := r.Ask(t, c.method, path+"?x=1&utm=1", c.body, c.header...); s.Text != c.want || s.Hit {
			t.Errorf("%s: the first: %s", c.want, s)
		}
		if s := r.Get(t, path+"?x=1&utm=2"); s.Text != "GET" || s.Hit {
			t.Errorf("%s: a plain one: %s", c.want, s)
		}
		r.Get(t, path+"?x=1").WantHit(t, "a plain one without the parameter", "GET")
		if s := r.Ask(t, c.method, path+"?x=1&utm=3", c.body, c.header...); s.Text != c.want || s.Hit {
			t.Errorf("%s: after the plain one: %s", c.want, s)
		}
	}
}
