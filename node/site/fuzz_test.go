package site_test

import (
	"bytes"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/site"
)

// What Decode accepts has one encoding, and an index that answers to every path without a panic.
func FuzzDecode(f *testing.F) {
	for _, m := range []*site.Manifest{
		manifest(), manifest("/index.html", "/a%20b.js"),
		withRules(f, "/a/:b/* /c/:splat?x=:b 301!\n/* /index.html 200", "/*\n  X-A: b\n  ! X-B", "/index.html"),
	} {
		text, err := site.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := site.Decode(text)
		if err != nil {
			return
		}
		again, err := site.Encode(m)
		if err != nil || !bytes.Equal(again, text) {
			t.Fatalf("%q encodes as %q, %v", text, again, err)
		}
		x, err := site.NewIndex(node.DigestOf(text), m, site.Options{SPA: "/index.html"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range x.Entries() {
			e := &x.Entries()[i]
			if canonical, slash, err := node.CanonicalPath(e.Path); err != nil || slash || canonical != e.Path {
				t.Errorf("%q is canonically %q, %v, %v", e.Path, canonical, slash, err)
			}
			x.Rules(e, e.URL)
		}
		for i := range m.Redirects {
			x.Find(strings.NewReplacer("*", "~", ":", "~").Replace(m.Redirects[i].From))
		}
	})
}

// Rules that are read are accepted by Decode, and lead nowhere that they don't name.
func FuzzRedirects(f *testing.F) {
	f.Add("/a/:b/* /c/:splat?x=:b#y 301! # z", "/a/b//evil.com")
	f.Add("/* /:splat", "//evil.com")
	f.Add("/é/*.png https://example.com/:splat 308\n/a\t/b\r\n\ufeff/x /y Country=de", "/a/x.png")
	f.Fuzz(func(t *testing.T, text, path string) {
		rules, wrong := site.ParseRedirects("_redirects", []byte(text))
		for _, m := range wrong {
			if m.Line < 1 || m.Column < 1 || m.Text == "" || strings.ContainsAny(m.String(), "\n\r") {
				t.Errorf("%q has the mistake %+v", text, m)
			}
		}
		m := manifest("/index.html")
		m.Redirects = rules
		x := indexOf(t, site.Options{}, m)
		path, _, err := node.CanonicalPath(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return
		}
		a := x.Find(path)
		if strings.HasPrefix(a.Location, "//") || strings.ContainsAny(a.Location, "\r\n\t \\\x00") {
			t.Errorf("%q leads to %q", path, a.Location)
		}
		if a.Location != "" && a.Location[0] != '/' && !strings.HasPrefix(a.Location, "http") {
			t.Errorf("%q leads to %q", path, a.Location)
		}
		if _, err := site.Review(m, site.Options{}); err != nil {
			t.Error(err)
		}
	})
}

// Rules that are read are accepted by Decode, and no value ends its line.
func FuzzHeaders(f *testing.F) {
	f.Add("/*\n  X-A: b\n  ! X-B\n/a/:b/*\n\tLink: </:splat>\n", "/a/b/c")
	f.Add("\ufeff# x\r\n/a*b\r\n  Cache-Control: no-store\r\n", "/axb")
	f.Fuzz(func(t *testing.T, text, path string) {
		rules, wrong := site.ParseHeaders("_headers", []byte(text))
		for _, m := range wrong {
			if m.Line < 1 || m.Column < 1 || m.Text == "" || strings.ContainsAny(m.String(), "\n\r") {
				t.Errorf("%q has the mistake %+v", text, m)
			}
		}
		m := manifest("/index.html")
		m.Headers = rules
		if site.Wrong(wrong) {
			return // what is left of them may be too much for a head
		}
		x := indexOf(t, site.Options{}, m)
		r := x.Rules(nil, path)
		if r == nil {
			return
		}
		for _, field := range r.Set {
			if strings.ContainsAny(field.Name+field.Value, "\r\n\x00") || field.Value == "" || r.Removes(field.Name) {
				t.Errorf("%q gives %+v", text, field)
			}
		}
	})
}

// A name that is accepted has a path that requests can have, and no other name has it.
func FuzzCheckName(f *testing.F) {
	for _, name := range []string{"a b/index.html", "u\u0308", "%2e%2e/x", "..;/x", "aux.js", "a\\b", "@x/+y"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		path, err := site.CheckName(name)
		if err != nil {
			return
		}
		canonical, slash, err := node.CanonicalPath(path)
		if err != nil || slash || canonical != path || strings.Contains(path, "//") || path[0] != '/' {
			t.Errorf("%q has %q, canonically %q, %v, %v", name, path, canonical, slash, err)
		}
		if got := show(index(t, site.Options{Slash: node.SlashKeep}, path).Find(path)); got != "200 "+path {
			t.Errorf("%q is %s", path, got)
		}
	})
}
