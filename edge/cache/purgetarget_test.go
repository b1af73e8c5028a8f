package cache_test

import (
	"strings"
	"testing"

	"millrace/edge/cache"
)

// A purge means what clients ask for, and is refused with what to write where it would reach nothing.
func TestPurgeTargetMeansWhatClientsAskFor(t *testing.T) {
	for written, want := range map[string]string{
		"/café": "/caf%C3%A9", "/a b?q=é": "/a%20b?q=%C3%A9", "/%61": "/a",
		"http://SHOP.test/café/": "http://SHOP.test/caf%C3%A9/",
		"http://shop.test":       "http://shop.test/", "/M*A*S*H": "/M*A*S*H", "/x%2A": "/x%2A", "/[1]": "/%5B1%5D",
	} {
		if got, err := cache.PurgeTarget(written); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", written, got, err, want)
		}
	}
	for written, want := range map[string]string{
		"/cache/*": "--prefix /cache/)", "/img*": "--prefix /img)",
		"http://shop.test/a/*/b": "--prefix http://shop.test/a/)",
		"/items/{id}":            "--prefix /items/)", "/items?page=*": "--prefix /items?page=)", "/a/../b": "write /b",
		"http://shop.test/a/./b?q": "write http://shop.test/a/b?q", "/x#frag": "write %23", "/100%": "write %25",
		"http://münchen.test/": "write xn--mnchen-3ya.test", "http://shop.test:99999/": "is not a host",
		"ftp://a/b": "neither a path",
		"items":     "neither a path", "": "neither a path", "/a\x01": "can't be in a path",
		"/a?\x01": "can't be in a query",
	} {
		if got, err := cache.PurgeTarget(written); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v, want an error with %q", written, got, err, want)
		}
	}
}

// FuzzPurgeTarget checks that what is made of a text is one that clients may send, and stays as it is.
func FuzzPurgeTarget(f *testing.F) {
	for _, s := range []string{"/café?q=a b", "http://shop.test/x", "/a/../b", "/%zz", "HTTPS://h?x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		once, err := cache.PurgeTarget(s)
		if err != nil {
			return
		}
		if again, err := cache.PurgeTarget(once); err != nil || again != once {
			t.Errorf("%q gives %q, and that %q, %v", s, once, again, err)
		}
		purges := cache.PrefixPurges(once, false)
		if len(purges) == 0 {
			t.Errorf("%q gives %q, which purges nothing", s, once)
		}
	})
}
