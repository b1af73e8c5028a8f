package site_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/site"
)

// folder returns a folder of files whose names get into each other's way.
func folder(r *rand.Rand) []string {
	names := []string{
		"index.html", "index", "a", "a.html", "a.html.html", "404.html", "b.js", "index.html.html", ".html", "x.htm",
		"%C3%BC.html", "a%20b.html", "index.js", "INDEX.HTML", "a.HTML",
	}
	folders := []string{"", "a", "a.html", "index", "index.html", "b", "a/index", "a/a", "index/index", "a.html/a"}
	var paths []string
	seen := map[string]bool{}
	for range 1 + r.IntN(14) {
		path := "/" + names[r.IntN(len(names))]
		if f := folders[r.IntN(len(folders))]; f != "" {
			path = "/" + f + path
		}
		if !seen[path] {
			seen[path] = true
			paths = append(paths, path)
		}
	}
	return paths
}

// In every folder and mode: each file is at its URL, no two files have one URL, and no path redirects more than once.
func TestSlashProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	redirects := 0
	for range 1500 {
		paths := folder(r)
		for _, mode := range slashModes {
			x := index(t, site.Options{Slash: mode}, paths...)
			urls := map[string]string{}
			for i := range x.Entries() {
				e := &x.Entries()[i]
				if got := show(x.Find(e.URL)); got != "200 "+e.Path {
					t.Fatalf("%v, %s: %s has the URL %s, which is %s", paths, mode, e.Path, e.URL, got)
				}
				if other := urls[e.URL]; other != "" {
					t.Fatalf("%v, %s: %s and %s have the URL %s", paths, mode, e.Path, other, e.URL)
				}
				urls[e.URL] = e.Path
				for _, path := range spellings(e.Path) {
					a := x.Find(path)
					if a.Location == "" {
						continue
					}
					redirects++
					if b := x.Find(a.Location); a.Status != 307 || b.File == nil || b.File.URL != a.Location {
						t.Fatalf("%v, %s: %s is %s, which is %s", paths, mode, path, show(a), show(b))
					}
				}
			}
		}
	}
	if redirects < 10_000 {
		t.Errorf("%d redirects, want more of them", redirects)
	}
}

// spellings returns paths that may mean a file.
func spellings(path string) []string {
	all := []string{
		path, path + "/", path + "/index", path + "/index.html", path + ".html", path + "//",
		path + "/index/",
	}
	for _, end := range []string{".html", "/index.html", "index.html", "/index"} {
		if s, ok := strings.CutSuffix(path, end); ok && s != "" {
			all = append(all, s, s+"/", s+"/index", s+"/index.html", s+".html", s+"/index/", s+"//")
		}
	}
	return all
}

// Find never allocates for a file, nor for a page at its URL, whatever rules the site has.
func TestFindAllocatesNothing(t *testing.T) {
	const redirects = "/old/* /new/:splat\n/f /g 301!\n/x/:y/* /z 302!\n/* /index.html 200\n"
	const headers = "/*\n  X-A: b\n/docs/*\n  X-B: c\n/docs/:page\n  X-C: d\n"
	m := withRules(t, redirects, headers, "/index.html", "/docs/guide.html", "/docs/index.html", "/a/b/c.js", "/x")
	for _, mode := range slashModes {
		x := indexOf(t, site.Options{Slash: mode, SPA: "/index.html"}, m)
		for i := range x.Entries() {
			e := &x.Entries()[i]
			if n := testing.AllocsPerRun(100, func() {
				if a := x.Find(e.URL); a.File != e || x.Rules(a.File, e.URL) == nil {
					t.Error("it isn't found")
				}
			}); n > 0 {
				t.Errorf("%s: %s takes %v allocations", mode, e.URL, n)
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			a := x.Fallback("/app/some/page", true)
			if x.Rules(a.File,
				"/app/some/page") == nil || x.Asset("/a/b/c.js") != nil || x.Find("/none.js").Status != 0 {
				t.Error("it isn't right")
			}
		}); n > 0 {
			t.Errorf("%s: what isn't there takes %v allocations", mode, n)
		}
	}
}

// large returns a folder of n files, half of them pages.
func large(n int) *site.Manifest {
	paths := make([]string, 0, n)
	for i := range n / 2 {
		paths = append(paths, fmt.Sprintf("/docs/section-%d/page-%d.html", i%100, i),
			fmt.Sprintf("/assets/chunk-%d.%.8s.js", i, node.DigestOf(fmt.Appendf(nil, "%d", i))))
	}
	return manifest(paths...)
}

func BenchmarkFind(b *testing.B) {
	m := large(100_000)
	var rules strings.Builder
	for i := range site.MaxRules {
		fmt.Fprintf(&rules, "/old/%d/* /new/:splat\n", i)
	}
	ruled := *m
	ruled.Redirects, _ = site.ParseRedirects("_redirects", []byte(rules.String()))
	ruled.Headers, _ = site.ParseHeaders("_headers", []byte("/*\n  X-A: b\n/docs/*\n  X-B: c\n"))
	worst := *m
	rules.Reset()
	for i := range site.MaxRules {
		fmt.Fprintf(&rules, "/:a/*-%d /new/:splat\n", i)
	}
	worst.Redirects, _ = site.ParseRedirects("_redirects", []byte(rules.String()))
	for name, c := range map[string]struct {
		m    *site.Manifest
		path string
	}{
		"File": {m, "/assets/chunk-7.7902699b.js"}, "URL": {m, "/docs/section-7/page-7"}, "Miss": {m, "/docs/none"},
		"RulesURL": {&ruled, "/docs/section-7/page-7"}, "RulesMiss": {&ruled, "/docs/none"},
		"RulesRedirect": {&ruled, "/old/9999/x"}, "WorstMiss": {&worst, "/docs/none"},
	} {
		x, err := site.NewIndex(node.Digest{}, c.m, site.Options{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				a := x.Find(c.path)
				x.Rules(a.File, c.path)
			}
		})
	}
}

func BenchmarkManifest(b *testing.B) {
	m := large(100_000)
	text, err := site.Encode(m)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("Encode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_, _ = site.Encode(m)
		}
	})
	b.Run("Decode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			_, _ = site.Decode(text)
		}
	})
	b.Run("Index", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = site.NewIndex(node.Digest{}, m, site.Options{})
		}
	})
}
