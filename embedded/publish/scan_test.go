package publish_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"millrace/embedded/publish"
	"millrace/node"
	"millrace/node/site"
)

func TestScan(t *testing.T) {
	dir := write(t, map[string]string{
		"index.html": "<h1>Hello</h1>", "a b/ä.txt": "text", ".well-known/security.txt": "Contact", ".hidden/x": "x",
		"big.bin": noise(1, 1_200_000), "empty.txt": "", "two.bin": noise(2, int(2*node.BlobChunk)),
	})
	if err := os.Symlink("../a b", filepath.Join(dir, ".well-known", "link")); err != nil {
		t.Fatal(err)
	}
	f := scan(t, dir, publish.ScanOptions{})
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/.well-known/link/%C3%A4.txt", "/.well-known/security.txt", "/a%20b/%C3%A4.txt", "/big.bin", "/empty.txt",
		"/index.html", "/two.bin",
	}
	if got := paths(f); !slices.Equal(got, want) {
		t.Errorf("paths %v, want %v", got, want)
	}
	if got := texts(f, publish.Skipped); len(got) != 1 || !strings.HasPrefix(got[0], ".hidden: is left out") {
		t.Errorf("skipped: %v", got)
	}
	files := f.Manifest().Files
	for path, size := range map[string]int{"/big.bin": 1_200_000, "/two.bin": int(2 * node.BlobChunk)} {
		b, text := files[path].Blob, []byte(noise(1, 1_200_000))
		if path == "/two.bin" {
			text = []byte(noise(2, size))
		}
		if err := b.Check(); err != nil || b.Digest != node.DigestOf(text) {
			t.Errorf("%s: %v, %+v", path, err, b)
		}
		for i := range b.Parts() {
			at := int64(i) * node.BlobChunk
			if got := node.DigestOf(text[at : at+b.PartSize(i)]); got != b.PartDigest(i) {
				t.Errorf("%s: chunk %d has digest %s, want %s", path, i, b.PartDigest(i), got)
			}
		}
	}
	if b := files["/empty.txt"].Blob; b.Digest != node.DigestOf(nil) || b.Check() != nil {
		t.Errorf("the empty file: %+v", b)
	}
}

// Encode is where a manifest that nodes would refuse fails, so it must take what Scan gives.
func TestScannedManifestIsValid(t *testing.T) {
	f := scan(t, sample(t), publish.ScanOptions{})
	if err := f.Encode(t.Context(), publish.EncodeOptions{}); err != nil {
		t.Fatal(err)
	}
	text, err := site.Encode(f.Manifest())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := site.Decode(text); err != nil {
		t.Fatal(err)
	}
}

func TestScanIncludes(t *testing.T) {
	dir := write(t, map[string]string{
		"index.html": "x", ".htaccess": "x", ".config/a.json": "{}", ".config/b.txt": "x", ".config/deep/c.json": "{}",
		".other/x": "x", "sub/.htaccess": "x", ".env": secretText,
	})
	for _, c := range []struct {
		include []string
		want    []string
	}{
		{nil, []string{"/index.html"}},
		{[]string{".htaccess"}, []string{"/.htaccess", "/index.html", "/sub/.htaccess"}},
		{[]string{".config/*.json"}, []string{"/.config/a.json", "/index.html"}},
		{[]string{"/.config/"}, []string{"/.config/a.json", "/.config/b.txt", "/.config/deep/c.json", "/index.html"}},
		{[]string{".config/*/c.json"}, []string{"/.config/deep/c.json", "/index.html"}},
	} {
		f := scan(t, dir, publish.ScanOptions{Include: c.include})
		if got := paths(f); !slices.Equal(got, c.want) || f.Err() != nil {
			t.Errorf("include %v: %v, want %v (%v)", c.include, got, c.want, f.Err())
		}
	}
	f := scan(t, dir, publish.ScanOptions{Include: []string{".env"}, AllowSecrets: true})
	if got := paths(f); !slices.Contains(got, "/.env") || f.Err() != nil {
		t.Errorf("a secret that is included and allowed: %v, %v", got, f.Err())
	}
	f = scan(t, dir, publish.ScanOptions{AllowSecrets: true})
	if got := paths(f); slices.Contains(got, "/.env") {
		t.Errorf("a secret dotfile that is allowed and not included: %v", got)
	}
}

// A file that changed once while it was read is read again.
func TestScanReadsAgain(t *testing.T) {
	dir := write(t, map[string]string{"index.html": "before"})
	f := scan(t, dir, publish.ScanOptions{}.WhileRead(func(name string, attempt int) {
		if attempt == 0 {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("afterwards"), 0o644); err != nil {
				t.Error(err)
			}
		}
	}))
	if got := f.Manifest().Files["/index.html"].Digest; got != node.DigestOf([]byte("afterwards")) || f.Err() != nil {
		t.Errorf("digest %s, %v", got, f.Err())
	}
}

func TestScanFails(t *testing.T) {
	dir := write(t, map[string]string{"file": "x"})
	for _, at := range []string{filepath.Join(dir, "gone"), filepath.Join(dir, "file")} {
		if _, err := publish.Scan(t.Context(), at, publish.ScanOptions{}); !errors.Is(err, publish.ErrFolder) {
			t.Errorf("%s: %v, want ErrFolder", at, err)
		}
	}
	f := scan(t, t.TempDir(), publish.ScanOptions{})
	if err := f.Err(); !errors.Is(err, publish.ErrFolder) || !strings.Contains(err.Error(), "no files") {
		t.Errorf("an empty folder: %v", err)
	}
	f = scan(t, dir, publish.ScanOptions{})
	if got := texts(f, publish.Warning); len(got) != 1 || !strings.Contains(got[0], "no index.html") {
		t.Errorf("a folder without index.html: %v", got)
	}
}

// Problems are bounded, however many there are.
func TestManyProblems(t *testing.T) {
	files := map[string]string{}
	for i := range 1_100 {
		files["k"+string(rune('a'+i%26))+strings.Repeat("x", i/26)+".pem"] = "x"
	}
	f := scan(t, write(t, files), publish.ScanOptions{})
	got := texts(f, publish.Bad)
	if len(got) != 1_001 || got[1_000] != "and 100 more like these" {
		t.Errorf("%d problems, the last %q", len(got), got[len(got)-1])
	}
}

// Codings that lie beside a file are taken, and stay files of their own.
func TestCodingsBeside(t *testing.T) {
	text := prose(5, 9_000)
	dir := write(t, map[string]string{"index.html": "x", "a.js": text, "a.js.br": encoded(t, ".br", text)})
	f := scan(t, dir, publish.ScanOptions{})
	if err := f.Encode(t.Context(), publish.EncodeOptions{}); err != nil {
		t.Fatal(err)
	}
	files := f.Manifest().Files
	if got, want := files["/a.js"].Codings[site.Brotli].Digest, files["/a.js.br"].Digest; got != want {
		t.Errorf("brotli is %s, want the file beside it %s", got, want)
	}
	if n := len(files["/a.js"].Codings); n != 3 {
		t.Errorf("%d codings, want the others to be made", n)
	}
}

func TestShowBytes(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 bytes", 1023: "1023 bytes", 1024: "1 KiB", 1536: "1.5 KiB", 5 << 30: "5 GiB", 1 << 50: "1 PiB",
	} {
		if got := publish.ShowBytes(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// The files of rules are parsed, never served, and each bad line is named.
func TestRules(t *testing.T) {
	dir := write(t, map[string]string{
		"index.html": "x", "_headers": "/*\n  X-Robots-Tag: noindex\n",
		"_redirects": "/old /new 301\n/new /index.html 200\n", "sub/_headers": "a file like any other",
	})
	f := scan(t, dir, publish.ScanOptions{})
	if err := f.Err(); err != nil {
		t.Fatal(err)
	}
	m := f.Manifest()
	if len(m.Headers) != 1 || len(m.Redirects) != 2 {
		t.Errorf("rules: %+v, %+v", m.Headers, m.Redirects)
	}
	if got := paths(f); !slices.Equal(got, []string{"/index.html", "/sub/_headers"}) {
		t.Errorf("served: %v", got)
	}
	put(t, dir, "_headers", "/*\n  X-Good: 1\n  no colon here\n")
	put(t, dir, "_redirects", "/a /b 301\n\n/c /d 999\n/e /f 301 Country=de\n")
	f = scan(t, dir, publish.ScanOptions{})
	for _, at := range []string{"_headers:3:3: ", "_redirects:3:7: ", "_redirects:4:11: "} {
		if !slices.ContainsFunc(texts(f, publish.Bad), func(s string) bool { return strings.HasPrefix(s, at) }) {
			t.Errorf("no problem at %s: %v", at, texts(f, publish.Bad))
		}
	}
	put(t, dir, "_headers", "")
	put(t, dir, "_redirects", "/a /b 301\n/b /a 301\n/c /gone.html 200\n")
	f = scan(t, dir, publish.ScanOptions{})
	if err := f.Err(); err == nil || !strings.Contains(err.Error(), "without end") ||
		!strings.Contains(err.Error(), "no file /gone.html") {
		t.Errorf("a circle and a rewrite to nothing: %v", err)
	}
}
