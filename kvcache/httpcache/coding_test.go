package httpcache_test

import (
	"strings"
	"testing"

	"millrace/kvcache/httpcache"
	"millrace/node"
)

// The coding that is sent follows the weights, and where they are equal the order br, zstd, gzip (RFC 9110 §12.5.3).
func TestBestCoding(t *testing.T) {
	all := [httpcache.NumCodings]bool{true, true, true, true}
	gzipOnly := [httpcache.NumCodings]bool{httpcache.CodingGzip: true}
	const br, zstd, gzip, plain = httpcache.CodingBrotli, httpcache.CodingZstd, httpcache.CodingGzip,
		httpcache.CodingIdentity
	for _, c := range []struct {
		accept string
		there  [httpcache.NumCodings]bool
		want   httpcache.Coding
	}{
		{"gzip, deflate, br, zstd", all, br},
		{"gzip, deflate, br, zstd", gzipOnly, gzip},
		{"gzip, zstd", all, zstd},
		{"deflate", all, plain},
		{"", all, plain},
		{"br;q=0, gzip", all, gzip},
		{"br;q=0.5, gzip;q=0.8", all, gzip},
		{"br;q=0.5, zstd;q=0.500", all, br},
		{"br;q=0.1", all, br},
		{"identity, br;q=0.9", all, plain},
		{"identity;q=0.5, br;q=0.5", all, br},
		{"BR , X-GZIP", all, br},
		{"x-gzip", all, gzip},
		{"*", all, br},
		{"*;q=0", all, plain},
		{"*;q=0, zstd", all, zstd},
		{"br;q=0, *;q=0.3", all, zstd},
		{"identity;q=0, gzip;q=0.001", all, gzip},
		{"identity;q=0", all, plain},
		{"br;q=2, gzip;q=x", all, plain},
		{"br; q=1.0", all, br},
		{",, gzip,", all, gzip},
	} {
		h := node.Header{{Name: "accept-encoding", Value: c.accept}}
		w := httpcache.AcceptedCodings(h)
		if got := w.Best(c.there); got != c.want {
			t.Errorf("%q: got %d, want %d", c.accept, got, c.want)
		}
	}
	w := httpcache.AcceptedCodings(nil)
	if got := w.Best(all); got != plain {
		t.Errorf("without the field: got %d", got)
	}
	two := node.Header{{Name: "Accept-Encoding", Value: "gzip"}, {Name: "Accept-Encoding", Value: "br"}}
	if w := httpcache.AcceptedCodings(two); w.Best(all) != br {
		t.Error("the second line is ignored")
	}
	if n := testing.AllocsPerRun(100, func() { _ = httpcache.AcceptedCodings(two) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// If-Match compares strongly with any of its list (RFC 9110 §13.1.1).
func TestMatchFails(t *testing.T) {
	for value, fails := range map[string]bool{
		`"a"`: false, `"b", "a"`: false, `*`: false, `"b"`: true, `W/"a"`: true, ``: true, `a`: true, `"b" , W/"a"`: true,
	} {
		h := node.Header{{Name: "If-Match", Value: value}}
		if got := httpcache.MatchFails(h, `"a"`); got != fails {
			t.Errorf("%s: got %t", value, got)
		}
	}
	if httpcache.MatchFails(nil, `"a"`) {
		t.Error("a request without the field fails")
	}
	two := node.Header{{Name: "If-Match", Value: `"x"`}, {Name: "If-Match", Value: `"a"`}}
	if httpcache.MatchFails(two, `"a"`) {
		t.Error("the second line is ignored")
	}
}

// Whatever a client sends: a coding that it doesn't name isn't sent, unless it says * or nothing fits, and one with
// weight 0 never is, but for the plain form.
func FuzzCodings(f *testing.F) {
	for _, value := range []string{
		"gzip, br;q=0.5", "*;q=0, zstd", "identity;q=0", "br;q=1.0001", ";q=1", "gzip;q=0;q=1",
	} {
		f.Add(value)
	}
	names := []string{"br", "zstd", "gzip", "identity"}
	f.Fuzz(func(t *testing.T, value string) {
		w := httpcache.AcceptedCodings(node.Header{{Name: "Accept-Encoding", Value: value}})
		got := w.Best([httpcache.NumCodings]bool{true, true, true, true})
		if got == httpcache.CodingIdentity {
			return
		}
		lower := strings.ToLower(value)
		if w[got] <= 0 || w[got] > 1000 || (!strings.Contains(lower, names[got]) && !strings.Contains(value, "*")) {
			t.Errorf("%q: got %s with weight %d", value, names[got], w[got])
		}
		for c, weight := range w {
			if weight > w[got] {
				t.Errorf("%q: %s has weight %d, %s %d", value, names[got], w[got], names[c], weight)
			}
		}
	})
}
