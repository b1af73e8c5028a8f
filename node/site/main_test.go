package site_test

import (
	"slices"
	"testing"

	"go.uber.org/goleak"

	"millrace/node"
	"millrace/node/site"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// manifest returns a manifest of files with these paths, each with its path as content.
func manifest(paths ...string) *site.Manifest {
	m := &site.Manifest{Version: site.Version, Files: map[string]site.File{}}
	for _, path := range paths {
		m.Files[path] = site.File{Blob: node.Blob{Digest: node.DigestOf([]byte(path)), Size: int64(len(path))}}
	}
	return m
}

// index returns the index of files with these paths.
func index(tb testing.TB, o site.Options, paths ...string) *site.Index {
	tb.Helper()
	return indexOf(tb, o, manifest(paths...))
}

// indexOf returns the index of a manifest, which it encodes and decodes first.
func indexOf(tb testing.TB, o site.Options, m *site.Manifest) *site.Index {
	tb.Helper()
	text, err := site.Encode(m)
	if err != nil {
		tb.Fatal(err)
	}
	again, err := site.Decode(text)
	if err != nil {
		tb.Fatal(err)
	}
	x, err := site.NewIndex(node.DigestOf(text), again, o)
	if err != nil {
		tb.Fatal(err)
	}
	return x
}

// show writes an answer as the tables of these tests have it: "200 /x.html", "307 to /x", "404", or "-" for none.
func show(a site.Answer) string {
	code := map[int]string{
		200: "200", 301: "301", 302: "302", 303: "303", 307: "307", 308: "308", 404: "404",
	}[a.Status]
	switch {
	case a.Status == 0:
		return "-"
	case a.File != nil:
		return code + " " + a.File.Path
	case a.Location != "":
		return code + " to " + a.Location
	}
	return code
}

// ordered returns a sorted copy.
func ordered(s []string) []string { return slices.Sorted(slices.Values(s)) }
