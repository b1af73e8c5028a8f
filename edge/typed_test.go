package edge_test

import (
	"strings"
	"testing"

	"millrace/edge/cache"
	"millrace/edge/edgetest"
	"millrace/mesh"
)

// What people write for a request is what clients make of it before they send it, as the paths of routes are.
func TestExplainOfWhatPeopleWrite(t *testing.T) {
	r := edgetest.Start(t,
		edgetest.Routed(edgetest.EchoRoute("/café/{x}"), edgetest.EchoRoute("/a b"), edgetest.EchoRoute("/q")))
	for target, want := range map[string]string{
		"/café/1": "/caf%C3%A9/1", "/caf%c3%a9/1": "/caf%C3%A9/1", "/café/ä ö": "/caf%C3%A9/%C3%A4%20%C3%B6",
		"/a b":                 "/a%20b",
		"http://shop.test/a b": "/a%20b", "/q?q=a b": "/q?q=a%20b", "/q?q=é": "/q?q=%C3%A9", "/q?q=a%20b": "/q?q=a%20b",
		"http://shop.test/q?a=[1]": "/q?a=[1]",
	} {
		e := r.Explain("GET", target, nil)
		if e.Refusal != "" || e.Route == "" || e.Path+e.Query != want {
			t.Errorf("%s: %s%s, route %q, %s", target, e.Path, e.Query, e.Route, e.Refusal)
		}
	}
}

// What no client sends is said once, and what it was about is named.
func TestExplainOfWhatNobodySends(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*")))
	for target, want := range map[string]string{
		"/x#frag": "a # begins a fragment", "/x?a#b": "a # begins a fragment", "/100%": "a % begins an encoding",
		"/a/../b": "holds . or .. segments", "/a\\b": "can't be in a path", "/caf%C3": "refused percent-encoding",
		"nothing": "neither a path", "http://": "neither a path", "http://a b/": "malformed Host",
	} {
		e := r.Explain("GET", target, nil)
		if e.Status != 400 || strings.Count(e.Refusal, want) != 1 || !strings.HasSuffix(target, e.Path+e.Query) ||
			e.Path == "" {
			t.Errorf("%s: %d %q of %q", target, e.Status, e.Refusal, e.Path+e.Query)
		}
	}
	if e := r.Explain("TRACE", "/x?a=1", mesh.Header{}); e.Status != 405 || e.Path != "/x?a=1" {
		t.Errorf("a method that isn't served: %+v", e)
	}
}

// A purge means what clients ask for, and is refused with what to write where it would reach nothing.
func TestPurgeTarget(t *testing.T) {
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
