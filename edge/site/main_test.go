package site_test

import (
	"net/http"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/nodetest"
	"millrace/node/site"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, nodetest.IgnoreFasthttp()...) }

// digits is a content of n bytes.
func digits(n int) string { return strings.Repeat("0123456789", n/10+1)[:n] }

// www is a site with files of each kind.
var www = edgetest.Folder{
	"/index.html": "<p>home", "/about.html": "<p>about", "/docs/index.html": "<p>docs", "/404.html": "<p>not here",
	"/docs/404.html": "<p>no such page", "/app.js": "plain", "/app.js br": "brotli", "/app.js zstd": "zstd",
	"/app.js gzip": "gzip", "/small.txt": digits(10), "/assets/app-4e1b2c3d.js": "new", "/empty.txt": "",
	"/large.bin": digits(100_000), "/page.css": "a{}", "/page.css gzip": "b{}",
}

// start starts a rig that serves the folder at all paths as the site www.
func start(t *testing.T, folder edgetest.Folder, o site.Options, change ...func(*edgetest.Config)) (
	*edgetest.Rig, *edgetest.Sites,
) {
	t.Helper()
	s := edgetest.NewSites(t)
	if folder != nil {
		s.Publish("www", s.Deploy(t, folder, o))
	}
	cfg := edgetest.Config{Routes: []node.Route{edgetest.SiteRoute("/*", "site:www")}, Sites: s}
	for _, f := range change {
		f(&cfg)
	}
	return edgetest.Start(t, cfg), s
}

// ask sends a GET that follows no redirect, twice, since the second may be answered otherwise: from memory. Both must
// give the same.
func ask(t *testing.T, r *edgetest.Rig, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	one, first := askOnce(t, r, method, path, header...)
	two, second := askOnce(t, r, method, path, header...)
	for _, h := range []http.Header{one.Header, two.Header} {
		h.Del("X-Request-Id")
		h.Del("Date")
	}
	// Ids and boundaries are others each time.
	same := first == second || two.Header.Get("Content-Type") == "application/problem+json" || two.StatusCode == 206
	if one.StatusCode != two.StatusCode || !same || len(one.Header) != len(two.Header) {
		t.Errorf(
			"%s %s: first %d %v %q, then %d %v %q",
			method,
			path,
			one.StatusCode,
			one.Header,
			first,
			two.StatusCode,
			two.Header,
			second,
		)
	}
	return two, second
}

func askOnce(t *testing.T, r *edgetest.Rig, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	c := http.DefaultClient.CheckRedirect
	defer func() { http.DefaultClient.CheckRedirect = c }()
	http.DefaultClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if !strings.Contains(strings.Join(header, " "), "Accept-Encoding") {
		header = append(header, "Accept-Encoding", "identity")
	}
	return r.Do(t, method, path, "", header...)
}
