package site_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/nodetest"
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
		nodetest.WantError(t, name, err, want)
	}
}

// A manifest that lies is refused, whatever it lies about.
func TestDecodeRefuses(t *testing.T) {
	m := withRules(t, "/a /b\n/c /d 301!\n", "/*\n  X-A: b\n  ! X-B\n", "/index.html", "/a%20b.js")
	m.Files["/big.bin"] = site.File{
		Blob:    node.Blob{Digest: node.DigestOf(nil), Size: node.BlobChunk + 1, Chunks: []node.Digest{{1}, {2}}},
		Codings: map[site.Coding]node.Blob{site.Brotli: {Digest: node.DigestOf([]byte("br")), Size: 2}},
	}
	good, err := site.Encode(m)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.Decode(good); err != nil {
		t.Fatal(err)
	}
	digest := node.DigestOf([]byte("br")).String()
	for change, want := range map[[2]string]string{
		{`"version":1`, `"version":2`}:                               "version 2",
		{`"version":1`, `"version":1,"version":1`}:                   "twice",
		{`"version":1,`, ``}:                                         "version 0",
		{`"version"`, ` "version"`}:                                  "one spelling",
		{`"version"`, `"Version"`}:                                   "unknown key",
		{`{"version":1`, `{"x":1,"version":1`}:                       "unknown key",
		{`/index.html"`, `/../index.html"`}:                          "another folder",
		{`/index.html"`, `/%2e%2e/index.html"`}:                      "another folder",
		{`/index.html"`, `/x%5Cindex.html"`}:                         "backslash",
		{`/index.html"`, `/x%00index.html"`}:                         "control",
		{`/index.html"`, `/a%2Fb"`}:                                  "its path is /a/b",
		{`/index.html"`, `//index.html"`}:                            "empty",
		{`/index.html"`, `index.html"`}:                              "begins with /",
		{`/index.html"`, `/%69ndex.html"`}:                           "its path is",
		{`/index.html"`, `/%zz"`}:                                    "invalid URL escape",
		{`/index.html"`, `/NUL.html"`}:                               "device",
		{`/index.html"`, `/_headers"`}:                               "rules",
		{`/index.html"`, `/u\u0308"`}:                                "its path is",
		{`/index.html"`, `/u%CC%88"`}:                                "its path is",
		{`/index.html"`, `/a%20b.js"`}:                               "twice",
		{`"size":11`, `"size":-1`}:                                   "a blob needs a digest, a size",
		{`"size":11`, `"size":5368709121`}:                           "a blob needs",
		{`"size":11`, `"size":11,"x":1`}:                             "one spelling",
		{`"size":11`, `"size":11,"chunks":[]`}:                       "one spelling",
		{`"br":`, `"lzma":`}:                                         "unknown coding",
		{`"br":`, `"":`}:                                             "without a name",
		{digest, strings.ToUpper(digest)}:                            "hexadecimal",
		{digest, node.DigestOf(nil).String()}:                        "two sizes",
		{`"name":"X-A"`, `"name":"Content-Length"`}:                  "can't be set",
		{`"value":"b"`, `"value":"b\r\nX: y"`}:                       "fields can't have",
		{`"unset":["X-B"]`, `"unset":["X-B","Vary"]`}:                "always sent",
		{`"path":"/*"`, `"path":"/*/*"`}:                             "two *",
		{`"path":"/*"`, `"path":"/%41"`}:                             "one spelling",
		{`"to":"/b"`, `"to":"//b"`}:                                  "two slashes",
		{`"to":"/b"`, `"to":"/:splat"`}:                              "no *",
		{`"to":"/b"`, `"to":"https://:splat/"`}:                      "host",
		{`"to":"/b","status":302`, `"to":"/b","status":500`}:         "status 500",
		{`"to":"/b","status":302`, `"to":"https://x/","status":200`}: "the target is a URL",
		{`{"line":2,"from":"/c"`, `{"line":1,"from":"/c"`}:           "isn't behind",
		{`,"force":true`, `,"force":false`}:                          "one spelling",
		{`}]}`, `}]}{}`}:                                             "something follows",
		{`}]}`, `}]`}:                                                "EOF",
	} {
		if !strings.Contains(string(good), change[0]) {
			t.Fatalf("the manifest has no %s: %s", change[0], good)
		}
		bad := strings.Replace(string(good), change[0], change[1], 1)
		_, err := site.Decode([]byte(bad))
		nodetest.WantError(t, change[1], err, want)
		if !errors.Is(err, site.ErrManifest) {
			t.Errorf("%s: %v isn't ErrManifest", change[1], err)
		}
	}
	for _, bad := range []string{"", "null", "[]", "{}", "1", `"x"`, "{", `{"version":1,"files":[]}`, `{"version":1,"files":null}`} {
		if _, err := site.Decode([]byte(bad)); !errors.Is(err, site.ErrManifest) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestDecodeLimits(t *testing.T) {
	var b strings.Builder
	b.WriteString(`{"version":1,"files":{`)
	for i := range site.MaxFiles + 1 {
		fmt.Fprintf(&b, `"/%d":{"digest":"%064x","size":1},`, i, i+1)
	}
	_, err := site.Decode([]byte(b.String()))
	nodetest.WantError(t, "too many files", err, "more than 200000 files")
	_, err = site.Decode([]byte(`{"version":1,"files":{},"headers":[` + strings.Repeat(`{},`, site.MaxRules+1)))
	nodetest.WantError(t, "too many rules", err, "more than 10000 rules")
	_, err = site.Decode(make([]byte, site.MaxManifest+1))
	nodetest.WantError(t, "too long", err, "bytes, more than")
}

// The same files and rules give the same bytes, however the manifest came about.
func TestEncodeIsCanonical(t *testing.T) {
	a := manifest("/b", "/a", "/c&d.js")
	b := manifest("/c&d.js", "/a", "/b")
	b.Headers, b.Redirects = []site.HeaderRule{}, []site.Redirect{}
	for path, f := range b.Files {
		f.Codings, f.Chunks = map[site.Coding]node.Blob{}, []node.Digest{}
		b.Files[path] = f
	}
	x, err := site.Encode(a)
	y, err2 := site.Encode(b)
	if err != nil || err2 != nil || !bytes.Equal(x, y) {
		t.Errorf("%s and %s: %v, %v", x, y, err, err2)
	}
	empty, err := site.Encode(&site.Manifest{Version: site.Version})
	if err != nil || string(empty) != `{"version":1,"files":{}}` {
		t.Errorf("%s, %v", empty, err)
	}
	if _, err := site.Decode(empty); err != nil {
		t.Error(err)
	}
}

func TestBlobs(t *testing.T) {
	m := manifest("/a", "/b")
	m.Files["/c"] = site.File{
		Blob: m.Files["/a"].Blob, Codings: map[site.Coding]node.Blob{site.Gzip: {
			Digest: node.DigestOf([]byte("gz")),
			Size:   2,
		}},
	}
	blobs := m.Blobs()
	if len(blobs) != 3 || bytes.Compare(blobs[0].Digest[:], blobs[1].Digest[:]) >= 0 || m.Bytes() != 6 {
		t.Errorf("%v, %d bytes", blobs, m.Bytes())
	}
	x := indexOf(t, site.Options{}, m)
	if text, err := site.Encode(x.Manifest()); err != nil || x.ID() != node.DigestOf(text) || len(x.Blobs()) != 3 {
		t.Errorf("the index has the id %s and %d blobs, %v", x.ID(), len(x.Blobs()), err)
	}
}

// What the README shows has no mistakes.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(text), "```")
	if len(blocks) != 5 {
		t.Fatalf("%d pieces, want two blocks", len(blocks))
	}
	redirects, wrong := site.ParseRedirects("_redirects", []byte(strings.TrimPrefix(blocks[1], "text\n")))
	headers, more := site.ParseHeaders("_headers", []byte(strings.TrimPrefix(blocks[3], "text\n")))
	if len(redirects) != 6 || len(headers) != 3 || len(wrong)+len(more) > 0 {
		t.Errorf("%d redirects, %d header rules, %v %v", len(redirects), len(headers), wrong, more)
	}
}
