package httpcache_test

import (
	"testing"
	"time"

	"millrace/kvcache/httpcache"
	"millrace/node"
)

// A composed response may be cached no more than the most restricted of its parts.
func TestComposeIsNoFresherThanItsParts(t *testing.T) {
	fields := func(pairs ...string) (h node.Header) {
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	for name, tc := range map[string]struct {
		parts  []node.Header
		ttl    time.Duration
		forOne bool
		want   node.Header
	}{
		"nothing said":      {parts: []node.Header{nil, nil}},
		"nothing said, ttl": {parts: []node.Header{nil, nil}, ttl: time.Hour},
		"ttl, for one": {
			parts: []node.Header{nil}, ttl: time.Hour, forOne: true,
			want: fields("own", "private"),
		},
		"said, for one": {
			parts: []node.Header{fields("Cache-Control", "max-age=60")}, ttl: time.Hour,
			forOne: true, want: fields("Cache-Control", "max-age=60", "own", "max-age=60"),
		},
		"least": {parts: []node.Header{
			fields("Cache-Control", "max-age=60"),
			fields("Cache-Control", "max-age=30"),
		}, want: fields("Cache-Control", "max-age=30", "own", "max-age=30")},
		"age": {
			parts: []node.Header{fields("Cache-Control", "max-age=60", "Age", "50")},
			want:  fields("Cache-Control", "max-age=10", "own", "max-age=10"),
		},
		"stale": {
			parts: []node.Header{fields("Cache-Control", "max-age=60", "Age", "70")},
			want:  fields("Cache-Control", "max-age=0", "own", "max-age=0"),
		},
		"one is silent": {parts: []node.Header{fields("Cache-Control", "max-age=60"), nil}},
		"one is silent, ttl": {
			parts: []node.Header{fields("Cache-Control", "max-age=60"), nil}, ttl: time.Hour,
			want: fields("own", "max-age=60"),
		},
		"one is longer than": {parts: []node.Header{fields("Cache-Control", "max-age=60"), nil}, ttl: time.Second},
		"no-store": {parts: []node.Header{
			fields("Cache-Control", "max-age=60"),
			fields("Cache-Control", "no-store"),
		}, want: fields("Cache-Control", "no-store", "own", "no-store")},
		"private": {
			parts: []node.Header{fields("Cache-Control", "private, max-age=5")},
			want:  fields("Cache-Control", "private, max-age=5", "own", "private, max-age=5"),
		},
		"a field is private": {
			parts: []node.Header{fields("Cache-Control", `private="X-A", max-age=5`)},
			want:  fields("Cache-Control", "private, max-age=5", "own", "private, max-age=5"),
		},
		"cookie": {
			parts: []node.Header{fields("Set-Cookie", "a=b")}, ttl: time.Hour,
			want: fields("Cache-Control", "private", "own", "private"),
		},
		"no-cache": {
			parts: []node.Header{fields("Cache-Control", "no-cache")},
			want:  fields("Cache-Control", "no-cache", "own", "no-cache"),
		},
		"shared": {
			parts: []node.Header{fields("Cache-Control", "max-age=1, s-maxage=9")},
			want:  fields("Cache-Control", "max-age=1, public", "own", "max-age=9, public, proxy-revalidate"),
		},
		"shared by one of two": {parts: []node.Header{
			fields("Cache-Control", "max-age=5, public"),
			fields("Cache-Control", "max-age=9"),
		}, want: fields("Cache-Control", "max-age=5", "own", "max-age=5")},
		"targeted": {parts: []node.Header{fields("Cache-Control", "max-age=5", "CDN-Cache-Control",
			"private")}, want: fields("Cache-Control", "max-age=5", "own", "private")},
		"vary": {
			parts: []node.Header{fields("Vary", "X-B, X-A"), fields("Vary", "x-a, X-C")},
			want:  fields("Vary", "x-a, x-b, x-c"),
		},
		"vary on anything": {
			parts: []node.Header{fields("Vary", "*"), fields("Vary", "X-A")},
			want:  fields("Vary", "*, x-a"),
		},
		"tags": {
			parts: []node.Header{fields("Cache-Tag", "a, b"), fields("xkey", "c", "Age", "1")},
			want:  fields("Cache-Tag", "a, b", "xkey", "c"),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := httpcache.Compose(tc.parts, time.Now(), tc.ttl, tc.forOne)
			for _, field := range []string{"Cache-Control", "Vary", "Cache-Tag", "xkey"} {
				if got.Get(field) != tc.want.Get(field) {
					t.Errorf("%s: %q, want %q", field, got.Get(field), tc.want.Get(field))
				}
			}
			if own := got.Get(node.TargetedField); own != tc.want.Get("own") {
				t.Errorf("for this cache: %q, want %q", own, tc.want.Get("own"))
			}
			if tc.want.Get("Vary") == "*, x-a" && httpcache.VaryNames(got)[0] != "*" {
				t.Error("a star among names isn't one")
			}
		})
	}
}
