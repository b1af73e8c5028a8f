package site_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/site"
)

// withRules returns a manifest of files with the rules of _redirects and _headers, which have no mistakes.
func withRules(tb testing.TB, redirects, headers string, paths ...string) *site.Manifest {
	tb.Helper()
	m := manifest(paths...)
	var wrong, more []site.Mistake
	m.Redirects, wrong = site.ParseRedirects("_redirects", []byte(redirects))
	m.Headers, more = site.ParseHeaders("_headers", []byte(headers))
	if all := append(wrong, more...); site.Wrong(all) {
		tb.Fatalf("%v", all)
	}
	return m
}

func TestParseRedirects(t *testing.T) {
	text := "\ufeff# moved\r\n\r\n/old /new\r\n" +
		"/news/:year/*  /blog/:year/:splat  301!  # all of it\n" +
		"\t/caf\u00e9 https://EXAMPLE.com:443/caf\u00e9?a=b#c 308\n" +
		"/app/* /app/index.html 200\n/en/* /en/404.html 404\n/p%41th/%2A /x%2b\n"
	rules, wrong := site.ParseRedirects("_redirects", []byte(text))
	if len(wrong) > 0 {
		t.Errorf("%v", wrong)
	}
	want := []site.Redirect{
		{Line: 3, From: "/old", To: "/new", Status: 302},
		{Line: 4, From: "/news/:year/*", To: "/blog/:year/:splat", Status: 301, Force: true},
		{Line: 5, From: "/caf%C3%A9", To: "https://example.com/caf%C3%A9?a=b#c", Status: 308},
		{Line: 6, From: "/app/*", To: "/app/index.html", Status: 200},
		{Line: 7, From: "/en/*", To: "/en/404.html", Status: 404},
		{Line: 8, From: "/pAth/%2A", To: "/x%2B", Status: 302},
	}
	if !slices.Equal(rules, want) {
		t.Errorf("got  %+v\nwant %+v", rules, want)
	}
	indexOf(t, site.Options{}, withRules(t, text, "")) // and Decode takes them
}

func TestParseRedirectsMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"/a":                              `1:1: the rule has no target (write: /from /to [status])`,
		"  a /b":                          `1:3: "a" doesn't begin with /`,
		"https://x.org/a /b":              `1:1: it is a URL, and rules are for paths`,
		"/a?x=1 /b":                       `1:1: it has a query (rules see no query`,
		"/a#b /b":                         `1:1: a # begins a fragment`,
		"/a/*/b/* /b":                     `1:1: it has two *`,
		"/a/*/:b /b":                      `1:1: a placeholder follows the *`,
		"/a/:b* /b":                       `1:1: a placeholder and the * are in one segment`,
		"/a/:b/:b /b":                     `1:1: it has the placeholder :b twice`,
		"/a/:splat /b":                    `1:1: :splat is what the * matched`,
		"/a%2fb /b":                       `1:1: no file has a path with %2F`,
		"/a/../b /b":                      `1:1: path holds . or .. segments`,
		"/a\\b /b":                        `1:1: character '\\' can't be in a path`,
		"/é /b b 301":                     `1:7: "b" is no status`,
		"/é id=:id /b 301":                `1:4: the parameter id is a condition`,
		"/a /b 302 Country=de":            `1:11: the condition Country isn't known here`,
		"/a /b Language=de":               `1:7: the condition Language isn't known here`,
		"/a /b 200 Role=admin":            `1:11: the condition Role isn't known here`,
		"/a /b 410":                       `1:7: status 410 isn't one of a rule (use 301`,
		"/a /b 301 x":                     `1:11: nothing may follow the status: "x"`,
		"/a //evil.com":                   `1:4: the target begins with two slashes, which is another host`,
		"/a javascript:alert(1)":          `1:4: the target "javascript:alert(1)" is neither a path nor a URL`,
		"/a ftp://x/":                     `1:4: the target "ftp://x/" is neither`,
		"/a/* https://:splat/":            `1:6: the target has the host ":splat", which is none`,
		"/a/* https://x.org:splat":        `1:6: the target has the host`,
		"/a/:b https://:b.x.org/":         `1:7: the target has the host`,
		"/a https://u@x.org/":             `1:4: the target has the host`,
		"/a /b/:c":                        `1:4: the target has the placeholder :c, and the rule's path hasn't`,
		"/a /b/:splat":                    `1:4: the target has :splat, and the rule's path has no *`,
		"/a/* /b/*":                       `1:6: the target has a *, which stands for nothing there (write :splat)`,
		"/a /b/../c":                      `1:4: path holds . or .. segments`,
		"/a https://x.org/ 200":           `1:4: status 200 sends a file of the site, and the target is a URL (use a route`,
		"/a /b?c 404":                     `1:4: status 404 sends a file of the site, which has no query`,
		"/a /a":                           `1:4: the rule leads to itself`,
		"/a /b\n\n/a /c":                  `3:1: no request reaches this rule: line 1 matches all that it does`,
		"/a/* /b\n/a/:x/c /c":             `2:1: no request reaches this rule: line 1`,
		"/a /b\n/a /c 301!":               "",
		"/a/:x /b\n/a/* /c":               "",
		"/* /index.html 200\n/a.js /b.js": "",
		"/* /index.html 200\n/a /b":       `2:1: no request reaches this rule: line 1`,
		"/a/c* /b\n/a/* /c\n/a/*.png /d":  `3:1: no request reaches this rule: line 2`,
	} {
		_, wrong := site.ParseRedirects("_redirects", []byte(text))
		switch {
		case want == "" && len(wrong) > 0:
			t.Errorf("%q: %v", text, wrong)
		case want != "" && (len(wrong) != 1 || !strings.Contains(wrong[0].String(), "_redirects:"+want)):
			t.Errorf("%q has %q, want %q", text, wrong, want)
		}
	}
}

func TestFindOrder(t *testing.T) {
	redirects := `
/forced.html /elsewhere 301!
/file /lost
/folder/* /moved/:splat
/shop/:id/:what.html /items?id=:id&what=:what#top 301
/docs/* https://docs.example.com/:splat 308
/v1/* /v2/:splat 200
/img/*.png /pictures/:splat.jpg
/self/* /self/x
/missing /nothing.html 200
/missing /found 303
/en/* /en/sorry 404
/* /index.html 200
`
	x := indexOf(t, site.Options{SPA: "/app.html"}, withRules(t, redirects, "", "/index.html", "/file.html",
		"/forced.html",
		"/folder/index.html", "/v2/a.css", "/v2/b/index.html", "/en/sorry.html", "/404.html", "/a@b.txt", "/app.html"))
	for path, want := range map[string]string{
		"/forced.html":       "301 to /elsewhere", // before the file
		"/file":              "200 /file.html",    // before its rule
		"/folder/":           "200 /folder/index.html",
		"/folder":            "307 to /folder/",
		"/folder/x/y":        "302 to /moved/x/y",
		"/shop/a%20b/c.html": "301 to /items?id=a%20b&what=c#top",
		"/shop/a&b/c=.html":  "301 to /items?id=a%26b&what=c%3D#top",
		"/docs":              "308 to https://docs.example.com/",
		"/docs/a/b":          "308 to https://docs.example.com/a/b",
		"/v1/a.css":          "200 /v2/a.css",
		"/v1/b":              "200 /v2/b/index.html",
		"/v1/c":              "200 /index.html", // a rewrite to what isn't there gives way
		"/img/a/b.png":       "302 to /pictures/a/b.jpg",
		"/self/y":            "302 to /self/x",
		"/self/x":            "200 /index.html", // not to itself
		"/missing":           "303 to /found",
		"/en/x":              "-", // 404 is for Fallback
		"/any/page":          "200 /index.html",
		"/users/john.doe":    "200 /index.html",
		"/app-1a2b.js":       "-", // a page is no script
		"/a%40b.txt":         "200 /a@b.txt",
		"/a%2Fb":             "200 /index.html",
		"//":                 "200 /index.html",
	} {
		if got := show(x.Find(path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if a := x.Find("/folder/x"); a.Rule != "_redirects:4" {
		t.Errorf("the rule is %q, want the line", a.Rule)
	}
	if got := show(x.Fallback("/en/x", false)); got != "404 /en/sorry.html" {
		t.Errorf("/en/x falls back to %s", got)
	}
	if got := show(x.Fallback("/app-1a2b.js", true)); got != "404 /404.html" {
		t.Errorf("a script falls back to %s", got)
	}
}

// No request turns a rule's path into another host, or into a second line of the head.
func TestLocationIsSafe(t *testing.T) {
	redirects := `
/go/* /:splat
/q/* /search?q=:splat
/to/:a/* /:a/:splat
/abs/* https://example.com/:splat
/port/* https://example.com:8443/:splat
/bare/* https://example.com/x:splat
/part* /x/:splat
`
	x := indexOf(t, site.Options{}, withRules(t, redirects, ""))
	hostile := []string{
		"//evil.com", "///evil.com", "/evil.com", "%2F%2Fevil.com", "%2f/evil.com", "/%2Fevil.com", "@evil.com",
		":@evil.com",
		"https://evil.com", "https:/evil.com", "%5Cevil.com", "/%5C/evil.com", "%0D%0ASet-Cookie:a=b", "%09//evil.com",
		".", "..", "./..//evil.com", "..;/x", "%2e%2e/x", "javascript:alert(1)", "x%00y", "a&b=c#d", "%23x", "?x",
		strings.Repeat("x", 9<<10), "~any~", ";//evil.com", "\r\nX: y", "\\evil.com", "é",
	}
	answers := 0
	for _, from := range []string{
		"/go", "/q", "/to/x", "/to/", "/abs", "/port", "/bare", "/part", "/part/.",
		"/part.",
	} {
		for _, h := range hostile {
			for _, sep := range []string{"/", ""} {
				path, _, err := node.CanonicalPath(from + sep + h)
				if err != nil {
					continue // the edge refuses it
				}
				a := x.Find(path)
				if a.Location == "" {
					continue
				}
				answers++
				checkLocation(t, path, a.Location)
			}
		}
	}
	if answers < 60 {
		t.Errorf("%d redirects, want more of them", answers)
	}
}

// checkLocation fails for a location that leads to a host which no rule names, or that has a character which no head
// may have.
func checkLocation(t *testing.T, path, location string) {
	t.Helper()
	rest := location
	for _, origin := range []string{"https://example.com:8443", "https://example.com"} {
		if after, ok := strings.CutPrefix(location, origin); ok {
			rest = after
			break
		}
	}
	bad := !strings.HasPrefix(rest, "/") || (rest == location && strings.HasPrefix(rest, "//"))
	for _, c := range []byte(location) {
		bad = bad || c <= ' ' || c >= 0x7f || c == '\\'
	}
	if bad || len(location) > 8<<10 {
		t.Errorf("%.80q leads to %.80q", path, location)
	}
}

func TestAddQuery(t *testing.T) {
	for want, in := range map[string][2]string{
		"/a": {"/a", ""}, "/a?x=1": {"/a", "x=1"}, "/a?y#f": {"/a?y#f", "x=1"}, "/a?x=1#f": {"/a#f", "x=1"},
	} {
		if got := site.AddQuery(in[0], in[1]); got != want {
			t.Errorf("%q and %q give %q, want %q", in[0], in[1], got, want)
		}
	}
}

func TestReview(t *testing.T) {
	for redirects, want := range map[string]string{
		"/a /b\n/b /a":                     "_redirects:1:1: redirects without end: /a, /b, /a, /b, ...",
		"/a/* /a/b/:splat":                 "_redirects:1:1: redirects without end: /a/~a~, /a/b/~a~, /a/b/b/~a~,",
		"/f /g 301!\n/g /f.html":           "_redirects:2:1: redirects without end: /g, /f.html, /f, /g, ...",
		"/x /none.html 200":                "_redirects:1:1: the folder has no file /none.html",
		"/x/* /none/:splat 200":            "",
		"/f /x":                            "_redirects:1:1: the file /f.html is at this path",
		"/f /x 302!":                       "",
		"/a /f\n/f/* /a":                   "",
		"/blog/* /blog\n/old/* /blog/":     "",
		"/a https://a.org\n/b /f.html 301": "",
	} {
		found, err := site.Review(withRules(t, redirects, "", "/f.html", "/blog.html"), site.Options{})
		if err != nil {
			t.Fatal(err)
		}
		all := fmt.Sprint(found)
		if (want == "") != (len(found) == 0) || !strings.Contains(all, want) {
			t.Errorf("%q: %v, want %q", redirects, all, want)
		}
	}
}
