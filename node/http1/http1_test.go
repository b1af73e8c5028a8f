package http1_test

import (
	"net/url"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/http1"
)

func TestCanonicalPath(t *testing.T) {
	for in, want := range map[string]string{
		"/": "/", "/a/b": "/a/b", "/a/b/": "/a/b/", "//a//b": "//a//b",
		"/%61dmin": "/admin", "/caf%c3%a9": "/caf%C3%A9", "/a|b": "/a%7Cb", "/a%7cb": "/a%7Cb", "/{x}^": "/%7Bx%7D%5E",
		"/a%20b": "/a%20b", "/~u/a;v=1/b,c": "/~u/a;v=1/b,c", "/a%3Bb": "/a%3Bb", "/a+b": "/a+b",
		"/%41%2D%2e%5f%7E": "/A-._~",
		"/...":             "/...", "/.well-known/x": "/.well-known/x", "/a/..b": "/a/..b", "/100%25": "/100%25",
		"/%252e%252e/x": "/%252e%252e/x",
	} {
		got, slash, err := node.CanonicalPath(in)
		if err != nil || got != want || slash {
			t.Errorf("%s became %s, %t, %v; want %s", in, got, slash, err, want)
		}
	}
	if got, slash, err := node.CanonicalPath("/a%2fb"); err != nil || !slash || got != "/a%2Fb" {
		t.Errorf("encoded slash: %s, %t, %v", got, slash, err)
	}
	for _, in := range []string{
		"/.", "/..", "/a/../b", "/a/./b", "/a/%2e%2e/b", "/%2E/b", "/a/..;/b", "/a%2f..%2fb", "/a/..%3bx/b", "/a%2F.",
		"/a/%2e%2e;x=1/b", "/a%00", "/a%0d%0aX: 1", "/a%5cb", `/a\b`,
		"/a%", "/a%4", "/a%zz", "/%c0%af", "/%ff", "/a b", "/a\"b", "/a<b", "/a`b", "/a\x01", "/a\x7f",
		"/caf\xc3\xa9", "/a%7f",
	} {
		if got, _, err := node.CanonicalPath(in); err == nil {
			t.Errorf("%q was accepted as %q", in, got)
		}
	}
}

// The canonical path is stable, means the same as what was sent, and never holds what targets disagree about.
func FuzzCanonicalPath(f *testing.F) {
	for _, s := range []string{
		"/", "/a|b/%61", "/%2fa", "/a/..;/b", "/a%2f..%2fb", "/a/..%3bx/b", "/a%2F.",
		"/caf%C3%A9//x;y", "/%5c",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		got, slash, err := node.CanonicalPath(path)
		if err != nil {
			return
		}
		again, slashAgain, err := node.CanonicalPath(got)
		if err != nil || again != got || slash != slashAgain {
			t.Fatalf("%q became %q, which becomes %q, %v", path, got, again, err)
		}
		meant, err1 := url.PathUnescape(path)
		means, err2 := url.PathUnescape(got)
		if err1 != nil || err2 != nil || meant != means {
			t.Fatalf("%q means %q, but %q means %q", path, meant, got, means)
		}
		for seg := range strings.SplitSeq(got, "/") {
			if seg == "." || seg == ".." {
				t.Fatalf("%q became %q with a dot segment", path, got)
			}
		}
		if strings.ContainsAny(got, "\\ \r\n\x00?#") {
			t.Fatalf("%q became %q", path, got)
		}
	})
}

func TestSplitTarget(t *testing.T) {
	for _, c := range []struct{ target, authority, path, query string }{
		{"/a?b=c", "", "/a", "?b=c"},
		{"/a", "", "/a", ""},
		{"/a?", "", "/a", "?"},
		{"/?f={a|b}^c'", "", "/", "?f={a|b}^c'"},
		{"http://h:80/a?b", "h:80", "/a", "?b"},
		{"HTTP://h", "h", "/", ""},
		{"https://h?x", "h", "/", "?x"},
		{"//evil/x", "", "//evil/x", ""},
	} {
		authority, path, query, err := http1.SplitTarget(c.target)
		if err != nil || authority != c.authority || path != c.path || query != c.query {
			t.Errorf("%s: %q %q %q, %v", c.target, authority, path, query, err)
		}
	}
	for _, target := range []string{
		"", "a", "*", "@evil/x", "gopher://h/x", "http:///x", "/a?b c", "/a?b#c",
		"/a?\x80",
	} {
		if _, _, _, err := http1.SplitTarget(target); err == nil {
			t.Errorf("%q was accepted", target)
		}
	}
}

func TestCanonicalAuthority(t *testing.T) {
	for s, want := range map[string]string{
		"a.test": "a.test", "a.test:8080": "a.test:8080", "127.0.0.1:1": "127.0.0.1:1", "[::1]": "[::1]",
		"[::1]:80": "[::1]", "xn--a": "xn--a", "A_b": "a_b", "": "", "a.test.": "a.test",
		"A.test.:0080": "a.test", "a.test:443": "a.test:443", "a.test:": "a.test", "[FE80::A]:8080": "[fe80::a]:8080",
		"a.test:08080": "a.test:8080",
	} {
		got, err := http1.CanonicalAuthority(s, "http")
		if err != nil || got != want {
			t.Errorf("%q became %q, %v, want %q", s, got, err, want)
		}
		if again, err := http1.CanonicalAuthority(got, "http"); err != nil || again != got {
			t.Errorf("%q became %q, %v, the second time", got, again, err)
		}
	}
	if got, _ := http1.CanonicalAuthority("a.test:443", "https"); got != "a.test" {
		t.Errorf("https: %q", got)
	}
	for _, s := range []string{
		"a b", "a/b", "u@a", "a:80x", "a\x00", "[::1", "a:123456", "a:65536", "a:+80", "a,b",
		"a\"b", "é", ".", "..", ".a", "a..b", "a:80:80",
	} {
		if got, err := http1.CanonicalAuthority(s, "http"); err == nil {
			t.Errorf("%q was accepted as %q", s, got)
		}
	}
	const ready = "shop.example:8080"
	if n := testing.AllocsPerRun(100, func() { _, _ = http1.CanonicalAuthority(ready, "http") }); n > 0 {
		t.Errorf("a canonical authority costs %v allocations", n)
	}
}
