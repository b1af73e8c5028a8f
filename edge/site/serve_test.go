package site_test

import (
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/site"
)

// A file is sent with the fields that every file has, on both ways the same.
func TestFieldsOfAFile(t *testing.T) {
	r, s := start(t, www, site.Options{})
	id := s.Named("www").State().Live.ID.String()[:20]
	for path, want := range map[string]map[string]string{
		"/":      {"Content-Type": "text/html; charset=utf-8", "Vary": ""},
		"/about": {"Cache-Control": "public, max-age=0, must-revalidate"},
		"/assets/app-4e1b2c3d.js": {
			"Content-Type": "text/javascript; charset=utf-8", "Cache-Control": "public, max-age=31536000, immutable",
		},
		"/app.js":    {"Vary": "Accept-Encoding", "Content-Encoding": ""},
		"/large.bin": {"Content-Type": "application/octet-stream", "Vary": ""},
		"/empty.txt": {"Content-Length": "0"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			resp, body := ask(t, r, method, path)
			content := www[map[string]string{"/": "/index.html", "/about": "/about.html"}[path]]
			if content == "" {
				content = www[path]
			}
			if method == http.MethodHead {
				content = ""
			}
			if resp.StatusCode != 200 || body != content {
				t.Errorf("%s %s: got %d %.40q, want %.40q", method, path, resp.StatusCode, body, content)
			}
			for name, value := range want {
				if got := resp.Header.Get(name); got != value {
					t.Errorf("%s %s: %s is %q, want %q", method, path, name, got, value)
				}
			}
			for name, value := range map[string]string{
				"X-Content-Type-Options": "nosniff", "Accept-Ranges": "bytes", "Millrace-Deploy": id,
				"Cache-Status": "Millrace; hit; detail=site", "Last-Modified": "",
			} {
				if got := resp.Header.Get(name); got != value {
					t.Errorf("%s %s: %s is %q, want %q", method, path, name, got, value)
				}
			}
			if tag := resp.Header.Get("ETag"); len(tag) < 18 || strings.HasPrefix(tag, "W/") {
				t.Errorf("%s: ETag %s", path, tag)
			}
			if len(resp.Header.Values("Vary")) > 1 || resp.ContentLength < 0 {
				t.Errorf("%s: Vary %q, length %d", path, resp.Header.Values("Vary"), resp.ContentLength)
			}
		}
	}
}

// The coding follows the client's weights; each has an entity tag of its own.
func TestCodings(t *testing.T) {
	r, _ := start(t, www, site.Options{})
	tags := map[string]string{}
	for accept, want := range map[string]string{
		"gzip, deflate, br, zstd": "br", "gzip, zstd": "zstd", "gzip": "gzip", "identity": "",
		"br;q=0.2, gzip;q=0.9": "gzip",
		"br;q=0, *":            "zstd", "identity;q=0": "", "deflate": "",
	} {
		resp, body := ask(t, r, "GET", "/app.js", "Accept-Encoding", accept)
		content := www["/app.js"]
		if want != "" {
			content = www["/app.js "+want]
		}
		if got := resp.Header.Get("Content-Encoding"); got != want || body != content {
			t.Errorf("%s: got %q %q, want %q", accept, got, body, want)
		}
		tag := resp.Header.Get("ETag")
		if known := tags[want]; (known != "" && known != tag) || !strings.HasSuffix(tag, want+`"`) {
			t.Errorf("%s: tags %s, %s", accept, tag, known)
		}
		tags[want] = tag
	}
	if resp, _ := ask(
		t,
		r,
		"GET",
		"/page.css",
		"Accept-Encoding",
		"br, zstd",
	); resp.Header.Get(
		"Content-Encoding",
	) != "" ||
		resp.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("a coding that isn't there: %v", resp.Header)
	}
}

// Conditions are met or not in the order of RFC 9110 §13.2.2.
func TestConditions(t *testing.T) {
	r, _ := start(t, www, site.Options{})
	for _, path := range []string{"/small.txt", "/large.bin"} {
		resp, _ := ask(t, r, "GET", path)
		tag := resp.Header.Get("ETag")
		for _, c := range []struct {
			header []string
			status int
		}{
			{[]string{"If-None-Match", tag}, 304},
			{[]string{"If-None-Match", "W/" + tag}, 304},
			{[]string{"If-None-Match", `"x", ` + tag}, 304},
			{[]string{"If-None-Match", "*"}, 304},
			{[]string{"If-None-Match", `"x"`}, 200},
			{[]string{"If-None-Match", ""}, 200},
			{[]string{"If-Modified-Since", "Mon, 07 Nov 2094 08:49:37 GMT"}, 200},
			{[]string{"If-Unmodified-Since", "Mon, 07 Nov 1994 08:49:37 GMT"}, 200},
			{[]string{"If-Match", tag}, 200},
			{[]string{"If-Match", "*"}, 200},
			{[]string{"If-Match", `"x"`}, 412},
			{[]string{"If-Match", "W/" + tag}, 412},
			{[]string{"If-Match", `"x"`, "If-None-Match", tag}, 412},
			{[]string{"If-Match", tag, "If-None-Match", tag}, 304},
			{[]string{"If-None-Match", tag, "Range", "bytes=0-1"}, 304},
			{[]string{"If-None-Match", `"x"`, "Range", "bytes=0-1"}, 206},
			{[]string{"If-Range", tag, "Range", "bytes=0-1"}, 206},
			{[]string{"If-Range", "W/" + tag, "Range", "bytes=0-1"}, 200},
			{[]string{"If-Range", `"x"`, "Range", "bytes=0-1"}, 200},
			{[]string{"If-Range", "Mon, 07 Nov 1994 08:49:37 GMT", "Range", "bytes=0-1"}, 200},
		} {
			for _, method := range []string{"GET", "HEAD"} {
				resp, body := ask(t, r, method, path, c.header...)
				want := c.status
				if method == "HEAD" && want == 206 { // Range is for GET only
					want = 200
				}
				if resp.StatusCode != want || (want > 300 && body != "") {
					t.Errorf("%s %s %q: got %d %.20q, want %d", method, path, c.header, resp.StatusCode, body, want)
				}
				if want == 304 && (resp.Header.Get("ETag") != tag || resp.Header.Get("Cache-Control") == "" ||
					resp.Header.Get("Content-Type") != "" || resp.Header.Get("Content-Length") != "") {
					t.Errorf("%s %s %q: fields of a 304: %v", method, path, c.header, resp.Header)
				}
			}
		}
	}
	// A tag of another coding is another representation's.
	resp, _ := ask(t, r, "GET", "/app.js", "Accept-Encoding", "br")
	if resp, _ := ask(
		t,
		r,
		"GET",
		"/app.js",
		"Accept-Encoding",
		"gzip",
		"If-None-Match",
		resp.Header.Get("ETag"),
	); resp.StatusCode != 200 {
		t.Errorf("got %d", resp.StatusCode)
	}
}

// One range is a 206 of it, several are a multipart body. What can't be read as a range is ignored. What lies beyond
// the end is a 416.
func TestRanges(t *testing.T) {
	r, _ := start(t, www, site.Options{})
	for _, path := range []string{"/small.txt", "/large.bin"} {
		content := www[path]
		n := len(content)
		for asked, want := range map[string]struct {
			status int
			spans  [][2]int
		}{
			"bytes=0-0": {206, [][2]int{{0, 0}}}, "bytes=2-4": {206, [][2]int{{2, 4}}},
			"bytes=7-": {206, [][2]int{{7, n - 1}}}, "bytes=-3": {206, [][2]int{{n - 3, n - 1}}},
			"bytes=0-999999": {206, [][2]int{{0, n - 1}}}, "bytes=-999999": {206, [][2]int{{0, n - 1}}},
			"bytes=0-1,4-5": {206, [][2]int{{0, 1}, {4, 5}}}, "bytes=8-9,-2,0-0": {206, nil},
			"bytes=999999-": {416, nil}, "bytes=-0": {416, nil}, "bytes=5-2": {200, nil}, "pages=1-2": {200, nil},
			"bytes=": {200, nil}, "bytes=a-b": {200, nil},
		} {
			resp, body := ask(t, r, "GET", path, "Range", asked)
			if resp.StatusCode != want.status {
				t.Errorf("%s %s: got %d, want %d", path, asked, resp.StatusCode, want.status)
				continue
			}
			switch {
			case want.status == 200 && body != content:
				t.Errorf("%s %s: another body", path, asked)
			case want.status == 416:
				if got := resp.Header.Get("Content-Range"); got != "bytes */"+strconv.Itoa(n) || body != "" ||
					resp.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("%s %s: %v %q", path, asked, resp.Header, body)
				}
			case len(want.spans) == 1:
				a, z := want.spans[0][0], want.spans[0][1]
				field := "bytes " + strconv.Itoa(a) + "-" + strconv.Itoa(z) + "/" + strconv.Itoa(n)
				if body != content[a:z+1] || resp.Header.Get("Content-Range") != field {
					t.Errorf("%s %s: %q %.20q", path, asked, resp.Header.Get("Content-Range"), body)
				}
			default:
				checkParts(t, path+" "+asked, resp, body, content, want.spans)
			}
		}
	}
	if resp, body := ask(t, r, "GET", "/app.js", "Range", "bytes=1-2", "Accept-Encoding", "br"); body != "ro" ||
		resp.Header.Get("Content-Encoding") != "br" {
		t.Errorf("of a coding: %v %q", resp.Header, body)
	}
	if resp, _ := ask(t, r, "GET", "/empty.txt", "Range", "bytes=0-1"); resp.StatusCode != 200 {
		t.Errorf("of an empty file: %d", resp.StatusCode)
	}
}

// checkParts checks a multipart body.
func checkParts(t *testing.T, what string, resp *http.Response, body, content string, spans [][2]int) {
	t.Helper()
	kind, params, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/byteranges" || resp.Header.Get("Content-Range") != "" {
		if spans != nil {
			t.Errorf("%s: %v", what, resp.Header)
		}
		return
	}
	parts := multipart.NewReader(strings.NewReader(body), params["boundary"])
	for _, s := range spans {
		p, err := parts.NextRawPart()
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		got, _ := io.ReadAll(p)
		field := "bytes " + strconv.Itoa(s[0]) + "-" + strconv.Itoa(s[1]) + "/" + strconv.Itoa(len(content))
		if string(got) != content[s[0]:s[1]+1] || p.Header.Get("Content-Range") != field ||
			p.Header.Get("Content-Type") == "" {
			t.Errorf("%s: part %v %q", what, p.Header, got)
		}
	}
	if _, err := parts.NextRawPart(); spans != nil && err != io.EOF {
		t.Errorf("%s: after the last part: %v", what, err)
	}
}

// A site answers GET and HEAD.
func TestOtherMethods(t *testing.T) {
	r, _ := start(t, www, site.Options{})
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		resp, body := ask(t, r, method, "/small.txt")
		if resp.StatusCode != 405 || resp.Header.Get("Allow") != "GET, HEAD" ||
			!strings.Contains(body, "method_not_allowed") {
			t.Errorf("%s: got %d %v %s", method, resp.StatusCode, resp.Header, body)
		}
	}
}

// What isn't there is the nearest 404.html, or a text that tells nothing of the request; neither is kept.
func TestNotFound(t *testing.T) {
	r, _ := start(t, www, site.Options{})
	plain, _ := start(t, edgetest.Folder{"/a.txt": "a"}, site.Options{})
	for _, c := range []struct {
		r          *edgetest.Rig
		path, body string
	}{
		{r, "/nothing", "<p>not here"},
		{r, "/docs/nothing", "<p>no such page"},
		{r, "/assets/gone-12345678.js", "<p>not here"},
		{r, "//about", "<p>not here"},
		{plain, "/secret-path", ""},
		{plain, "/", ""},
	} {
		resp, body := ask(t, c.r, "GET", c.path, "If-None-Match", "*", "Range", "bytes=0-1")
		if resp.StatusCode != 404 || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("ETag") != "" ||
			(c.body != "" && body != c.body) || strings.Contains(body, "secret") {
			t.Errorf("%s: got %d %v %q", c.path, resp.StatusCode, resp.Header, body)
		}
		if c.body == "" && resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %v", c.path, resp.Header)
		}
		if resp, body := ask(t, c.r, "HEAD", c.path); resp.StatusCode != 404 || body != "" || resp.ContentLength <= 0 {
			t.Errorf("HEAD %s: %d, %d bytes", c.path, resp.StatusCode, resp.ContentLength)
		}
	}
}

// The page of a single-page application is for navigations, and for nothing that has an extension.
func TestSinglePage(t *testing.T) {
	r, _ := start(t, edgetest.Folder{"/index.html": "app", "/a.js": "js"}, site.Options{SPA: "/index.html"})
	for _, c := range []struct {
		path, field, value string
		status             int
	}{
		{"/users/7", "Accept", "text/html,*/*", 200},
		{"/users/7", "Sec-Fetch-Mode", "navigate", 200},
		{"/users/7", "Accept", "*/*", 404},
		{"/users/7", "Sec-Fetch-Mode", "cors", 404},
		{"/gone.js", "Accept", "text/html", 404},
		{"/users/john.doe", "Accept", "text/html", 200},
	} {
		resp, body := ask(t, r, "GET", c.path, c.field, c.value)
		if resp.StatusCode != c.status || (c.status == 200) != (body == "app") {
			t.Errorf("%s %s: %s: got %d %q", c.path, c.field, c.value, resp.StatusCode, body)
		}
	}
}

// A page that has another URL is moved there, with the query; nobody keeps that.
func TestRedirects(t *testing.T) {
	r, _ := start(t, www, site.Options{})
	for path, want := range map[string]string{
		"/about.html": "/about", "/about/?a=b": "/about?a=b", "/index.html?x": "/?x", "/docs": "/docs/",
		"/docs?": "/docs/",
	} {
		for _, method := range []string{"GET", "HEAD"} {
			resp, _ := ask(t, r, method, path)
			if resp.StatusCode != 307 || resp.Header.Get("Location") != want ||
				resp.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s %s: got %d %v", method, path, resp.StatusCode, resp.Header)
			}
		}
	}
}

// A site below a path has its redirects there, too, and its folder a slash.
func TestSiteBelowAPath(t *testing.T) {
	route := edgetest.SiteRoute("/guide/*", "site:www")
	route.Rewrite = &node.Rewrite{}
	if err := route.Rewrite.Path.UnmarshalText([]byte("/{*}")); err != nil {
		t.Fatal(err)
	}
	r, _ := start(t, www, site.Options{}, func(c *edgetest.Config) { c.Routes = []node.Route{route} })
	for path, want := range map[string]string{
		"/guide/": "200 <p>home", "/guide/docs/": "200 <p>docs", "/guide/about": "200 <p>about",
		"/guide":   "307 /guide/",
		"/guide?a": "307 /guide/?a", "/guide/about.html": "307 /guide/about", "/guide/docs?q": "307 /guide/docs/?q",
		"/guide/docs/x": "404 <p>no such page",
	} {
		resp, body := ask(t, r, "GET", path)
		if loc := resp.Header.Get("Location"); loc != "" {
			body = loc
		}
		if got := strconv.Itoa(resp.StatusCode) + " " + body; got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
}

// A site that was never published is away, and says so.
func TestNothingPublished(t *testing.T) {
	r, s := start(t, nil, site.Options{})
	resp, body := ask(t, r, "GET", "/")
	if resp.StatusCode != 503 || !strings.Contains(body, `"site_empty"`) || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	s.Publish("www", s.Deploy(t, www, site.Options{}))
	if resp, body := ask(t, r, "GET", "/"); resp.StatusCode != 200 || body != "<p>home" {
		t.Errorf("after it was: %d %s", resp.StatusCode, body)
	}
}

// The rules of the route for responses apply on both ways, and to errors.
func TestResponseRulesOfTheRoute(t *testing.T) {
	route := edgetest.SiteRoute("/*", "site:www")
	route.Rewrite = &node.Rewrite{
		Response: node.Edits{Set: map[string]string{"X-Frame-Options": "DENY"}, Remove: []string{"Millrace-Deploy"}},
	}
	r, _ := start(t, www, site.Options{}, func(c *edgetest.Config) { c.Routes = []node.Route{route} })
	for _, path := range []string{"/", "/large.bin", "/nothing", "/about.html"} {
		resp, _ := ask(t, r, "GET", path)
		if resp.Header.Get("X-Frame-Options") != "DENY" || resp.Header.Get("Millrace-Deploy") != "" {
			t.Errorf("%s: %v", path, resp.Header)
		}
	}
}
