package site_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/site"
)

func TestTypeOf(t *testing.T) {
	for path, want := range map[string]string{
		"/index.html": "text/html; charset=utf-8", "/A.CSS": "text/css; charset=utf-8",
		"/a.js": "text/javascript; charset=utf-8", "/a.js.map": "application/json",
		"/a.svg":     "image/svg+xml; charset=utf-8",
		"/v1.2/file": "application/octet-stream", "/a.b/c": "application/octet-stream",
		"/x.unknown": "application/octet-stream",
		"/f.woff2":   "font/woff2", "/m.webmanifest": "application/manifest+json", "/v.mp4": "video/mp4",
		"/.html":  "text/html; charset=utf-8",
		"/a.wasm": "application/wasm", "/a.": "application/octet-stream", "/": "application/octet-stream",
	} {
		if got := site.TypeOf(path); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	for kind, want := range map[string]bool{
		"text/html; charset=utf-8": true, "image/svg+xml; charset=utf-8": true, "application/json": true,
		"image/png":  false,
		"font/woff2": false, "video/mp4": false, "application/zip": false, "application/wasm": true, "font/ttf": true,
	} {
		if site.Compressible(kind) != want {
			t.Errorf("%s compressible: %v", kind, !want)
		}
	}
}

func TestHashedNames(t *testing.T) {
	x := index(t, site.Options{Immutable: []string{"/forever/*", "/one.txt"}},
		"/assets/index-DgEPqdaz.js", "/assets/index-D_x-9aBc.css", "/assets/main.8f3b2a1c.chunk.js.map",
		"/static/js/main.8f3b2a1c.js", "/_nuxt/DlAUqK2U.js", "/_next/static/chunks/0123456789abcdef.js",
		"/fonts/a-0123456789abcdef0123.woff2", "/sub/assets/x-1a2b3c4d.png", "/forever/a.txt", "/one.txt",
		"/_app/immutable/chunks/C1d_2x9Z.js", "/build/chunk-K7XQ2ABC.js",

		"/assets/x-deadbeef1.html", "/forever/index.html", "/other/index-DgEPqdaz.js", "/assets/a.js", "/two.txt",
		"/assets/photo-20240131.jpg", "/assets/hero-image-2024.png", "/assets/banner-1280x720.png",
		"/assets/logo-variant2.svg", "/assets/view-HomePage.js", "/assets/jquery-3.7.1.min.js",
		"/_nuxt/builds/latest.json",
		"/assets/my-component-2.js", "/assets/DlAUqK2U.js", "/assets/icon-BtnClose.svg", "/assets/img-HouseOfCards.jpg",
		"/assets/img-Sprint2Board.png", "/static/x-FAQPages.pdf", "/assets/big-2024.png", "/assets/a-IMG20240131.jpg",
		"/assets/icon-ArrowLeft2.svg", "/20240131120000123.txt")
	yes := 0
	for i := range x.Entries() {
		e := &x.Entries()[i]
		want := strings.Contains(" /assets/index-DgEPqdaz.js /assets/index-D_x-9aBc.css "+
			"/assets/main.8f3b2a1c.chunk.js.map "+
			"/static/js/main.8f3b2a1c.js /_nuxt/DlAUqK2U.js /_next/static/chunks/0123456789abcdef.js "+
			"/fonts/a-0123456789abcdef0123.woff2 /sub/assets/x-1a2b3c4d.png /forever/a.txt /one.txt "+
			"/_app/immutable/chunks/C1d_2x9Z.js /build/chunk-K7XQ2ABC.js ", " "+e.Path+" ")
		if e.Immutable != want {
			t.Errorf("%s is immutable: %v", e.Path, e.Immutable)
		}
		if e.Immutable && (!e.Hashed || x.Asset(e.Path) != e) {
			t.Errorf("%s isn't an asset", e.Path)
		}
		if want {
			yes++
		}
		if e.Number != i {
			t.Errorf("%s has number %d, want %d", e.Path, e.Number, i)
		}
	}
	if yes != 12 {
		t.Errorf("%d immutable names in the folder, want 12", yes)
	}
	for path, want := range map[string]bool{
		"/assets/photo-20240131.jpg": true, "/assets/x-deadbeef1.html": false, "/two.txt": false, "/assets/a.js": false,
		"/assets/index-DgEPqdaz.js": true, "/nothing": false, "/forever/index.html": false,
	} {
		if (x.Asset(path) != nil) != want {
			t.Errorf("%s is an asset: %v", path, !want)
		}
	}
}

// Build tools put hashes of 8 characters into names. Nearly all must be known as immutable, and all kept that can be
// told from a word: a chunk that is gone breaks the page that asks for it.
func TestHashedNamesOfTools(t *testing.T) {
	const names = 20_000
	r := rand.New(rand.NewPCG(1, 2))
	for tool, c := range map[string]struct {
		alphabet        string
		immutable, kept float64
	}{
		"base64url": {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", 0.92, 0.995},
		"hex":       {"0123456789abcdef", 0.93, 0.97},
		"base32":    {"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 0.60, 1},
	} {
		m := manifest()
		for range names {
			hash := make([]byte, 8)
			for i := range hash {
				hash[i] = c.alphabet[r.IntN(len(c.alphabet))]
			}
			m.Files["/assets/index-"+string(hash)+".js"] = site.File{
				Blob: node.Blob{Digest: node.DigestOf(hash), Size: 8},
			}
		}
		immutable, kept := 0.0, 0.0
		x := indexOf(t, site.Options{}, m)
		for i := range x.Entries() {
			if x.Entries()[i].Immutable {
				immutable++
			}
			if x.Entries()[i].Hashed {
				kept++
			}
		}
		immutable, kept = immutable/float64(x.Len()), kept/float64(x.Len())
		t.Logf("%s: %.3f immutable, %.3f kept", tool, immutable, kept)
		if immutable < c.immutable || kept < c.kept {
			t.Errorf("%s: %.3f immutable, %.3f kept; want %.3f and %.3f", tool, immutable, kept, c.immutable, c.kept)
		}
	}
}

func TestTagsAndCacheControl(t *testing.T) {
	d := node.DigestOf(nil)
	if a, b := site.ETag(d, site.Identity), site.ETag(d, site.Brotli); a != `"47DEQpj8HBSa-_TI"` || b != `"47DEQpj8HBSa-_TI-br"` {
		t.Errorf("the tags are %s and %s", a, b)
	}
	const forever, ask = "public, max-age=31536000, immutable", "public, max-age=0, must-revalidate"
	x := index(t, site.Options{Immutable: []string{"/a"}}, "/a", "/b")
	a, b := x.Entry("/a"), x.Entry("/b")
	for _, c := range []struct {
		e      *site.Entry
		status int
		want   string
	}{
		{a, 200, forever},
		{a, 206, forever},
		{a, 304, forever},
		{a, 404, "no-store"},
		{a, 416, "no-store"},
		{b, 200, ask},
		{b, 304, ask},
		{b, 404, "no-store"},
		{nil, 404, "no-store"},
		{nil, 307, "no-cache"},
		{nil, 301, "no-cache"},
		{nil, 405, "no-store"},
		{nil, 200, "no-store"},
	} {
		if got := site.CacheControl(c.e, c.status); got != c.want {
			t.Errorf("%v with %d has %s, want %s", c.e, c.status, got, c.want)
		}
	}
}

func TestFallback(t *testing.T) {
	x := index(t, site.Options{SPA: "/index.html"}, "/index.html", "/404.html", "/a/b/404.html", "/a/b/c.html")
	for path, want := range map[string]string{
		"/x": "404 /404.html", "/a/x": "404 /404.html", "/a/b/x": "404 /a/b/404.html",
		"/a/b/c/d/e": "404 /a/b/404.html",
		"/a/b":       "404 /404.html", "/a/b/": "404 /a/b/404.html", "/a/bc/x": "404 /404.html",
		"/" + strings.Repeat("/", 4000): "404 /404.html",
	} {
		if got := show(x.Fallback(path, false)); got != want {
			t.Errorf("%.40s is %s, want %s", path, got, want)
		}
	}
	for path, want := range map[string]string{
		"/x": "200 /index.html", "/a/b/x": "200 /index.html", "/a/b/x.js": "404 /a/b/404.html",
		"/x.html":        "200 /index.html",
		"/user/john.doe": "200 /index.html", "/v1.2": "200 /index.html",
	} {
		if got := show(x.Fallback(path, true)); got != want {
			t.Errorf("%s is %s to a navigation, want %s", path, got, want)
		}
	}
	if got := show(index(t, site.Options{SPA: "/none.html"}, "/a").Fallback("/x", true)); got != "404" {
		t.Errorf("without any page it is %s", got)
	}
}

func TestNear(t *testing.T) {
	x := index(t, site.Options{}, "/About.html", "/docs/guide.html", "/docs/guides.html", "/docs/index.html",
		"/docs/pricing.html", "/img/logo.png", "/img/Logo.PNG")
	for path, want := range map[string]string{
		"/about": "/About", "/about/": "/About", "/About.html": "/About", "/docs/guid": "/docs/guide",
		"/docs/guides2": "/docs/guides /docs/guide",
		"/docs/prising": "/docs/pricing", "/DOCS": "/docs/", "/guide": "/docs/guide",
		"/img/LOGO.png": "/img/Logo.PNG /img/logo.png",
		"/zebra":        "", "/": "",
	} {
		if got := strings.Join(x.Near(path), " "); got != want {
			t.Errorf("near %s is %q, want %q", path, got, want)
		}
	}
}

func TestDiff(t *testing.T) {
	a := withRules(t, "/a /b\n/c /d\n/x/* /y", "/*\n  X: 1\n  Y: 2", "/same", "/gone", "/changed")
	b := withRules(t, "/c /d\n/a /b 301\n/x/* /y!", "/*\n  Y: 2\n  ! X", "/same", "/changed", "/added")
	b.Files["/changed"] = b.Files["/added"]
	same := b.Files["/same"]
	same.Codings = map[site.Coding]node.Blob{site.Brotli: b.Files["/added"].Blob}
	b.Files["/same"] = same
	got := site.Diff(a, b)
	for name, c := range map[string][2]any{
		"added": {got.Added, "/added"}, "changed": {got.Changed, "/changed"}, "gone": {got.Gone, "/gone"},
		"headers added": {got.HeadersAdded, "/* ! X"}, "headers gone": {got.HeadersGone, "/* X: 1"},
		"redirects added": {got.RedirectsAdded, "/a /b 301|/x/* /y! 302"},
		"redirects gone":  {got.RedirectsGone, "/a /b 302|/x/* /y 302"},
	} {
		if list, ok := c[0].([]string); !ok || strings.Join(list, "|") != c[1] {
			t.Errorf("%s: %q, want %q", name, c[0], c[1])
		}
	}
	if d := site.Diff(a, a); !d.Empty() {
		t.Errorf("a differs from itself: %+v", d)
	}
	c := withRules(t, "/c /d\n/a /b\n/x/* /y", "/*\n  X: 1\n  Y: 2", "/same", "/gone", "/changed")
	if d := site.Diff(a, c); d.Empty() || !d.RedirectsMoved || d.HeadersMoved {
		t.Errorf("rules in another order: %+v", d)
	}
}
