package site_test

import (
	"strings"
	"testing"

	"millrace/node/site"
)

func TestCheckName(t *testing.T) {
	for name, want := range map[string]string{
		"index.html": "/index.html", "a b/ü.css": "/a%20b/%C3%BC.css", "@scope/x+y(1).js": "/@scope/x+y(1).js",
		"u\u0308.txt": "/%C3%BC.txt", "100%/#1?.md": "/100%25/%231%3F.md", "conrad.html": "/conrad.html",
		".well-known/x": "/.well-known/x", "sub/_headers": "/sub/_headers", "...": "/...", "com10": "/com10",
		strings.Repeat("d/", 31) + "f": "/" + strings.Repeat("d/", 31) + "f",
		strings.Repeat("x", 1023):      "/" + strings.Repeat("x", 1023),
	} {
		if got, err := site.CheckName(name); err != nil || got != want {
			t.Errorf("%q has %q, %v; want %q", name, got, err, want)
		}
	}
	for name, want := range map[string]string{
		"": "empty", "/x": "empty", "a//b": "empty", "a/": "empty", ".": "another folder", "a/../b": "another folder",
		`a\b`: "backslash", "a\x00": "control", "a\nb": "control", "a\u0085": "control", "\xff": "UTF-8",
		"CON": "device", "aux.js": "device", "a/lpt1.txt": "device", "COM¹": "device", "nul .x": "device",
		"..;x": "no request", "_headers": "rules", "_redirects": "rules", strings.Repeat("x", 1024): "more than 1024",
		strings.Repeat("d/", 32) + "f": "deep",
	} {
		_, err := site.CheckName(name)
		wantError(t, name, err, want)
	}
}
