package site_test

import (
	"context"
	"io"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	esite "millrace/edge/site"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
	"millrace/node/site"
)

// echo answers as the origin of a route, with the method and the body.
func echo(t *testing.T, r *edgetest.Rig) {
	t.Helper()
	r.Service(t, "s", func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		body := "app " + q.Method + " " + q.Target + " " + string(q.Body)
		return &mesh.Response{
			Status: 200,
			Body:   []byte(body),
			Header: edgetest.Fields("Cache-Control", "max-age=60"),
		}, nil
	})
}

// Sites are asked in their order, each for what it has itself; the origin gets everything else, other methods with
// their bodies included.
func TestTryInOrder(t *testing.T) {
	route := edgetest.SiteRoute("/*", "site:www", "site:old", "site:empty", "service:s")
	r, s := start(t, edgetest.Folder{"/a": "new a", "/404.html": "none"}, site.Options{SPA: "/404.html"},
		func(c *edgetest.Config) { c.Routes = []node.Route{route} })
	s.Publish("old", s.Deploy(t, edgetest.Folder{"/a": "old a", "/b": "old b", "/c.html": "c"}, site.Options{}))
	echo(t, r)
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/a", "", "new a"},
		{"GET", "/b", "", "old b"},
		{"GET", "/c", "", "c"},
		{"GET", "/d?x=y", "", "app GET /d?x=y "},
		{"POST", "/a", "hello", "app POST /a hello"},
		{"OPTIONS", "/a", "", "app OPTIONS /a "},
		{"GET", "/a//", "", "app GET /a// "},
	} {
		resp, body := r.Do(t, c.method, c.path, c.body, "Accept", "text/html", "Accept-Encoding", "identity")
		if resp.StatusCode != 200 || body != c.want {
			t.Errorf("%s %s: got %d %q, want %q", c.method, c.path, resp.StatusCode, body, c.want)
		}
	}
	if resp, _ := askOnce(t, r, "GET", "/c.html"); resp.StatusCode != 307 || resp.Header.Get("Location") != "/c" {
		t.Errorf("got %d %v", resp.StatusCode, resp.Header)
	}
}

// If all are sites, the last one that is published falls back.
func TestTryOfSitesOnly(t *testing.T) {
	route := edgetest.SiteRoute("/*", "site:www", "site:old", "site:empty")
	r, s := start(t, edgetest.Folder{"/a": "new a", "/404.html": "new 404"}, site.Options{},
		func(c *edgetest.Config) { c.Routes = []node.Route{route} })
	s.Publish("old", s.Deploy(t, edgetest.Folder{"/b": "old b", "/404.html": "old 404"}, site.Options{}))
	for path, want := range map[string]string{"/a": "new a", "/b": "old b", "/c": "old 404"} {
		if _, body := ask(t, r, "GET", path); body != want {
			t.Errorf("%s: got %q", path, body)
		}
	}
	if resp, _ := ask(t, r, "POST", "/a"); resp.StatusCode != 405 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// What the sites of a route don't have may come from its cache, on the short way, too.
func TestCacheBehindSites(t *testing.T) {
	route := edgetest.CachedRoute("/*", nil)
	route.Try, route.To = []node.Target{{Kind: node.KindSite, Name: "www"}, route.To}, node.Target{}
	r, _ := start(t, edgetest.Folder{"/a.txt": "file"}, site.Options{}, func(c *edgetest.Config) {
		c.Routes, c.Cache = []node.Route{route}, &edgetest.CacheConfig{}
	})
	r.On("/api", edgetest.Always(200, "data", "Cache-Control", "max-age=60"))
	r.Get(t, "/api")
	before := r.CacheStats()[0].Hits
	for range 3 {
		r.Get(t, "/api").WantHit(t, "api", "data")
		if resp, body := ask(t, r, "GET", "/a.txt"); body != "file" ||
			!strings.HasSuffix(resp.Header.Get("Cache-Status"), "detail=site") {
			t.Errorf("got %q %v", body, resp.Header)
		}
	}
	nodetest.Eventually(
		t,
		"three hits of the cache are counted",
		func() bool { return r.CacheStats()[0].Hits-before == 3 },
	)
}

// Pages that are open keep their files: hashed ones of earlier and of staged deploys are served, pages of those aren't.
func TestFilesOfOtherDeploys(t *testing.T) {
	old := edgetest.Folder{
		"/index.html":             "old",
		"/assets/app-aaaa1111.js": "old js",
		"/page.html":              "old page",
		"/x.js":                   "x",
	}
	r, s := start(t, old, site.Options{})
	next := s.Deploy(t, edgetest.Folder{"/index.html": "new", "/assets/app-bbbb2222.js": "new js"}, site.Options{})
	at := s.Named("www")
	at.Set(esite.State{Live: at.State().Live, Others: []*esite.Deploy{next}})
	check := func(what string, want map[string]string) {
		t.Helper()
		for path, content := range want {
			resp, body := ask(t, r, "GET", path)
			if (content == "") != (resp.StatusCode == 404) || (content != "" && body != content) {
				t.Errorf("%s: %s: got %d %q", what, path, resp.StatusCode, body)
			}
		}
	}
	check(
		"staged",
		map[string]string{"/": "old", "/assets/app-bbbb2222.js": "new js", "/assets/app-aaaa1111.js": "old js"},
	)
	s.Publish("www", next)
	check("live", map[string]string{
		"/": "new", "/assets/app-bbbb2222.js": "new js", "/assets/app-aaaa1111.js": "old js", "/page": "", "/x.js": "",
	})
	resp, _ := ask(t, r, "GET", "/assets/app-aaaa1111.js")
	if resp.Header.Get("Cache-Control") != "public, max-age=31536000, immutable" ||
		resp.Header.Get("Millrace-Deploy") == next.ID.String()[:20] {
		t.Errorf("got %v", resp.Header)
	}
}

// Each answer is of one deploy while another one becomes live.
func TestFlip(t *testing.T) {
	r, s := start(t, edgetest.Folder{"/index.html": "1"}, site.Options{})
	one := s.Named("www").State().Live
	two := s.Deploy(t, edgetest.Folder{"/index.html": "2", "/more.txt": "x"}, site.Options{})
	deployOf := map[string]string{"1": one.ID.String()[:20], "2": two.ID.String()[:20]}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := range 200 {
			live := []*esite.Deploy{one, two}[i%2]
			s.Named("www").Set(esite.State{Live: live})
			askQuietly(r)
		}
	}()
	for range 200 {
		resp, body := askOnce(t, r, "GET", "/")
		if resp.StatusCode != 200 || deployOf[body] != resp.Header.Get("Millrace-Deploy") {
			t.Fatalf("got %d %q %v", resp.StatusCode, body, resp.Header)
		}
	}
	<-ended
}

// askQuietly asks past the network.
func askQuietly(r *edgetest.Rig) {
	x := &exchange.Exchange{}
	x.Method, x.Target, x.Header, x.Scheme = "GET", "/", edgetest.Fields("Host", "h"), "http"
	resp := r.Serve(context.Background(), x)
	if resp.Stream != nil {
		_, _ = io.Copy(io.Discard, mesh.NewReader(resp.Stream))
	}
}

// A preview has a host of its own, by its name and the digits of its deploy; nobody lists or keeps it.
func TestPreviews(t *testing.T) {
	s := edgetest.NewSites(t)
	s.SetPreview("www", "*.preview.test")
	s.Publish("www", s.Deploy(t, www, site.Options{}))
	d := s.Deploy(
		t,
		edgetest.Folder{"/index.html": "draft", "/404.html": "none", "/large.bin": digits(100_000)},
		site.Options{},
	)
	at := s.Named("www")
	at.Set(esite.State{Live: at.State().Live, Previews: map[string]*esite.Deploy{"my-draft": d}})
	r := edgetest.Start(t, edgetest.Config{Routes: []node.Route{
		edgetest.SiteRoute("/files/*", "site:www"), edgetest.SiteRoute("/api/*", "site:www", "service:s"),
	}, Sites: s})
	id := d.ID.String()[:20]
	for _, c := range []struct {
		host, path string
		status     int
		body       string
	}{
		{"my-draft-" + id + ".preview.test", "/", 200, "draft"},
		{"MY-DRAFT-" + id + ".preview.test:80", "/", 200, "draft"},
		{"my-draft-" + id + ".preview.test", "/x", 404, "none"},
		{"my-draft-" + id + ".preview.test", "/large.bin", 200, ""},
		{"my-draft-" + id + ".preview.test", "/index.html", 307, ""},
		{"my-draft-" + strings.Repeat("0", 20) + ".preview.test", "/", 404, ""},
		{"my-draft.preview.test", "/", 404, ""},
		{"other-" + id + ".preview.test", "/", 404, ""},
		{"a.my-draft-" + id + ".preview.test", "/", 404, ""},
		{"-" + id + ".preview.test", "/", 404, ""},
		{"preview.test", "/", 404, ""},
	} {
		resp, body := r.Raw(t, "GET "+c.path+" HTTP/1.1\r\nHost: "+c.host+"\r\nConnection: close\r\n\r\n")
		if resp.StatusCode != c.status || (c.body != "" && body != c.body) {
			t.Errorf("%s%s: got %d %q", c.host, c.path, resp.StatusCode, body)
		}
		hidden := resp.Header.Get("X-Robots-Tag") == "noindex" && resp.Header.Get("Cache-Control") == "no-store"
		if resp.Header.Get("Millrace-Deploy") != "" && !hidden {
			t.Errorf("%s%s: %v", c.host, c.path, resp.Header)
		}
	}
}
