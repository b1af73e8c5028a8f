package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	"millrace/edge/site"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
	rules "millrace/node/site"
)

// siteFiles are the files of the tests' site.
var siteFiles = edgetest.Folder{
	"/index.html": "<p>home", "/about.html": "<p>about", "/404.html": "<p>none", "/app.js": strings.Repeat("js", 900),
	"/app.js br": "brotli", "/app.js gzip": "gzip", "/empty": "", "/large.bin": strings.Repeat("0123456789", 7_000),
	"/assets/a-1a2b3c4d.js": "hashed", "/plain": "a file, not the origin's",
}

// publish makes a site of the files, with rules.
func publish(t *testing.T, o rules.Options) *edgetest.Sites {
	t.Helper()
	s := edgetest.NewSites(t)
	s.Publish("www", s.Deploy(t, siteFiles, o, func(m *rules.Manifest) {
		m.Headers = []rules.HeaderRule{
			{Line: 1, Path: "/*", Set: []rules.HeaderField{{Name: "X-Frame-Options", Value: "DENY"}}},
			{Line: 3, Path: "/a*", Set: []rules.HeaderField{{Name: "Cache-Control", Value: "max-age=60"}}},
		}
		m.Redirects = []rules.Redirect{
			{Line: 1, From: "/old/*", To: "/:splat", Status: 301},
			{Line: 2, From: "/app/*", To: "/about", Status: 200},
			{Line: 3, From: "/empty", To: "/about", Status: 302, Force: true},
		}
	}))
	return s
}

// The short way and the chain answer requests to sites with the same bytes, too.
func TestShortWayOfSitesAnswersAsTheChain(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 2))
	var quick, never atomic.Int64
	r := edgetest.Start(t, edgetest.Cached(nil))
	for path, a := range shortAnswers() {
		r.On(path, a)
	}
	s := publish(t, rules.Options{SPA: "/index.html"})
	var routes []node.Route
	for i := range 8 {
		routes = append(routes, shortSiteRoute(rng, i))
	}
	start := func(short *exchange.Short) *edgetest.Rig {
		e := edgetest.Start(t, edgetest.Config{
			Beside: r, Limits: &edgetest.LimitsConfig{Apart: true}, Routes: routes, Sites: s,
		})
		e.Insert("clientAddr", policyOf(short))
		return e
	}
	short := start(&exchange.Short{Done: func(*exchange.Exchange, *mesh.Response) { quick.Add(1) }})
	full := start(nil)
	full.Insert("test", policyOf(&exchange.Short{Done: func(*exchange.Exchange, *mesh.Response) { never.Add(1) }}))
	a, b := talkTo(t, short), talkTo(t, full)
	const requests = 300
	for range requests {
		request, method := shortSiteRequest(rng)
		b.say(t, request, method)
		a.say(t, request, method)
		compareShort(t, a, b, request, method, func() bool {
			return short.CacheFetches() == 0 && full.CacheFetches() == 0
		})
	}
	t.Logf("%d of %d requests took the short way", quick.Load(), 2*requests)
	if quick.Load() < requests/10 || never.Load() > 0 {
		t.Errorf("%d requests took the short way, and %d past a policy that has none", quick.Load(), never.Load())
	}
}

// shortSiteRoute is a route of the host r0.test and so on.
func shortSiteRoute(rng *rand.Rand, i int) node.Route {
	some := func() bool { return rng.IntN(2) == 0 }
	r := edgetest.SiteRoute("/*", "site:www")
	if some() {
		r = edgetest.SiteRoute("/*", "site:empty", "site:www", "service:origin")
		if some() {
			r.Cache = edgetest.CachedRoute("/*", nil).Cache
		}
	}
	r.Name, r.Host = fmt.Sprintf("r%d", i), node.Host(fmt.Sprintf("r%d.test", i))
	if some() {
		r.Rewrite = &node.Rewrite{Response: node.Edits{Set: map[string]string{"X-Set": "1"}, Remove: []string{"Vary"}}}
	}
	if some() {
		r.Limit = shortLimits(rng)
	}
	return r
}

// shortSiteRequest is a request to the sites.
func shortSiteRequest(rng *rand.Rand) (request, method string) {
	request, method = shortRequest(rng)
	if rng.IntN(4) == 0 {
		return request, method
	}
	paths := strings.Fields("/ /index.html /about /about.html /app.js /empty /large.bin /assets/a-1a2b3c4d.js /none " +
		"/old/x /app/x /users/7?q=1 /plain //")
	line, rest, _ := strings.Cut(request, "\r\n")
	words := strings.Fields(line)
	words[1] = paths[rng.IntN(len(paths))]
	host := fmt.Sprintf("Host: r%d.test", rng.IntN(8))
	_, rest, _ = strings.Cut(rest, "\r\n")
	if rng.IntN(3) == 0 {
		host += "\r\nAccept: text/html"
	}
	return strings.Join(words, " ") + "\r\n" + host + "\r\n" + rest, method
}

// A panic on the short way of a file costs nothing and leaves no file open, before the response and behind it.
func TestPanicOnTheShortWayOfAFile(t *testing.T) {
	for _, behind := range []bool{false, true} {
		s := publish(t, rules.Options{})
		f := s.Content(node.DigestOf([]byte(siteFiles["/large.bin"])))
		r := edgetest.Start(t, edgetest.Config{Routes: []node.Route{edgetest.SiteRoute("/*", "site:www")}, Sites: s})
		var panics atomic.Int64
		panicOnce := func(*exchange.Exchange, *mesh.Response) {
			if panics.Add(1) == 1 {
				panic("secret")
			}
		}
		short := &exchange.Short{Leave: panicOnce}
		if behind {
			short = &exchange.Short{Done: panicOnce}
		}
		r.Insert("clientAddr", policyOf(short))
		c := talkTo(t, r)
		for range 3 {
			got := c.say(t, "GET /large.bin HTTP/1.1\r\nHost: example.test\r\n\r\n", "GET")
			if !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.HasSuffix(got, siteFiles["/large.bin"]) {
				t.Errorf("got %.60s and so on", got)
			}
		}
		nodetest.Eventually(t, "the file is closed", func() bool { return f.Open.Load() == 0 && panics.Load() >= 2 })
	}
}

// A limit counts requests for files, and one of places holds its place as long as a file is sent.
func TestLimitsOfFiles(t *testing.T) {
	s := publish(t, rules.Options{})
	route := edgetest.SiteRoute("/*", "site:www")
	route.Name, route.Limit = "r", []node.Limit{edgetest.InFlight(1)}
	counted := edgetest.SiteRoute("/assets/*", "site:www")
	counted.Name, counted.Limit = "c", []node.Limit{edgetest.Per("3/1h")}
	cfg := edgetest.Limited(route, counted)
	cfg.Sites = s
	r := edgetest.Start(t, cfg)
	large := siteFiles["/large.bin"]
	for range 5 { // one after another each gets the place
		if resp, body := r.Do(t, "GET", "/large.bin", ""); resp.StatusCode != 200 || body != large {
			t.Errorf("got %d, %d bytes", resp.StatusCode, len(body))
		}
	}
	var got []int
	for range 4 {
		resp, _ := r.Do(t, "GET", "/assets/a-1a2b3c4d.js", "")
		got = append(got, resp.StatusCode)
	}
	if !slices.Equal(got, []int{200, 200, 200, 429}) {
		t.Errorf("got %v", got)
	}
}

// Responses of sites are logged, counted and told as others are: with the bytes that went out.
func TestFilesAreObserved(t *testing.T) {
	s := publish(t, rules.Options{})
	r := edgetest.Start(t, edgetest.Config{
		Routes: []node.Route{edgetest.SiteRoute("/*", "site:www")}, Sites: s,
		Edge: func(e *node.Edge) { e.AccessLog = true },
	})
	for range 2 {
		r.Do(t, "GET", "/large.bin", "")
		r.Do(t, "GET", "/app.js", "", "Accept-Encoding", "identity")
		r.Do(t, "GET", "/large.bin", "", "Range", "bytes=0-99")
		r.Do(t, "HEAD", "/app.js", "")
	}
	nodetest.Eventually(
		t,
		"all are logged",
		func() bool { return strings.Count(r.Log.String(), `"msg":"request"`) == 8 },
	)
	log := r.Log.String()
	for _, want := range []string{`"bytes_out":70000,`, `"bytes_out":1800,`, `"bytes_out":100,`, `"bytes_out":0,`} {
		if strings.Count(log, want) != 2 {
			t.Errorf("%s is logged %d times", want, strings.Count(log, want))
		}
	}
	if strings.Count(log, `"cache":"hit"`) != 8 || strings.Count(log, `"target":"site:www"`) != 8 {
		t.Errorf("logged: %s", log)
	}
	if st := r.Stats(); len(st) == 0 || st[0].Classes[2] != 8 {
		t.Errorf("counted: %+v", st)
	}
}

// An explanation says which deploy answers with which file, by which rule, and what a path with nothing may mean.
func TestExplainSites(t *testing.T) {
	s := publish(t, rules.Options{})
	id := s.Named("www").State().Live.ID.String()
	r := edgetest.Start(t, edgetest.Config{Routes: []node.Route{
		edgetest.SiteRoute("/*", "site:www"), edgetest.SiteRoute("/try/*", "site:empty", "site:www", "service:s"),
	}, Sites: s})
	r.Do(t, "GET", "/app.js", "", "Accept-Encoding", "br")
	for _, c := range []struct {
		method, path string
		header       mesh.Header
		want         site.Explanation
		near         string
	}{
		{"GET", "/app.js", edgetest.Fields("Accept-Encoding", "br"), site.Explanation{
			Status: 200, File: "/app.js", Coding: "br", Rule: "file", From: "memory", Size: 6,
		}, ""},
		{"GET", "/large.bin", nil, site.Explanation{
			Status: 200, File: "/large.bin", Rule: "file", From: "disk", Size: 70_000,
		}, ""},
		{"GET", "/about.html?a=b", nil, site.Explanation{Status: 307, Location: "/about?a=b", Rule: "clean URL"}, ""},
		{"GET", "/old/x", nil, site.Explanation{Status: 301, Location: "/x", Rule: "_redirects:1"}, ""},
		{"GET", "/app/x", nil, site.Explanation{
			Status: 200, File: "/about.html", Rule: "_redirects:2", From: "disk", Size: 8,
		}, ""},
		{"GET", "/About", nil, site.Explanation{
			Status: 404, File: "/404.html", Rule: "404.html", From: "disk", Size: 7,
		}, "/about"},
		{"POST", "/app.js", nil, site.Explanation{Status: 405, Rule: "only GET and HEAD are for sites"}, ""},
	} {
		e := r.Explain(c.method, "http://h"+c.path, c.header)
		if len(e.Sites) != 1 {
			t.Fatalf("%s: %+v", c.path, e)
		}
		got := e.Sites[0]
		if near := strings.Join(got.Near, " "); near != c.near || (c.want.Status != 405 && got.Deploy != id) {
			t.Errorf("%s: near %q, deploy %s", c.path, near, got.Deploy)
		}
		path, _, _ := strings.Cut(c.path, "?")
		c.want.Site, c.want.Path = "www", path
		got.Near, got.Deploy, got.Codings, got.Type, got.ETag, got.Keeps = nil, "", nil, "", "", ""
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %+v, want %+v", c.path, got, c.want)
		}
	}
	e := r.Explain("GET", "http://h/try/x", nil)
	if len(e.Sites) != 2 || e.Sites[0].Status != 0 || e.Sites[1].Status != 0 || e.Subject == "" ||
		!strings.Contains(e.Sites[0].Rule, "published") {
		t.Errorf("got %+v", e)
	}
}

// A route to a site on a node that serves none is refused, as an error of the node.
func TestNodeWithoutSites(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.SiteRoute("/*", "site:www")))
	if resp, body := r.Do(t, "GET", "/", ""); resp.StatusCode != 503 || !strings.Contains(body, "unavailable") {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
}

// A connection goes on after each kind of response.
func TestSitesKeepTheConnection(t *testing.T) {
	s := publish(t, rules.Options{})
	r := edgetest.Start(t, edgetest.Config{Routes: []node.Route{edgetest.SiteRoute("/*", "site:www")}, Sites: s})
	c := r.Dial(t)
	defer c.Close()
	in := bufio.NewReader(c)
	for _, line := range []string{
		"GET /large.bin", "GET /app.js", "HEAD /large.bin", "GET /none", "GET /about.html", "POST /app.js",
		"GET /large.bin",
	} {
		method, path, _ := strings.Cut(line, " ")
		if _, err := io.WriteString(c, edgetest.RequestHead(method, path, nil)); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.Close {
			t.Errorf("%s: %v, closes: %t", line, err, resp.Close)
		}
		if len(resp.Header.Values("Date")) != 1 || len(resp.Header.Values("X-Request-Id")) != 1 {
			t.Errorf("%s: %v", line, resp.Header)
		}
	}
}
