package cache_test

import (
	"strings"
	"testing"

	"millrace/edge/cache"
	"millrace/mesh"
)

// Whoever splits at semicolons, or at commas as well, finds the plain value of a cookie and no other.
func FuzzPlainCookie(f *testing.F) {
	for _, line := range []string{
		"lang=en", "lang=en; lang=de", "a=1, lang=en", `a="; lang=en; "`, "Lang=en", "lang",
		"x=lang; lang =1",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		value, has, plain := cache.PlainCookie("lang", mesh.Header{{Name: "Cookie", Value: line}})
		if !plain {
			return
		}
		for _, cut := range []string{";", ";,"} {
			for _, pair := range strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(cut, r) }) {
				name, v, _ := strings.Cut(pair, "=")
				if strings.EqualFold(strings.Trim(name, " \t"), "lang") && (!has || !strings.HasPrefix(value, v)) {
					t.Errorf("%q: %q %t, but also %q", line, value, has, pair)
				}
			}
		}
	})
}
