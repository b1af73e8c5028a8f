package node_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"millrace/node"
)

func TestTemplate(t *testing.T) {
	values := map[string]string{
		"{id}": "a%2Fb%3Fc%23d", "{list}": "1,2;v=1@x", "{raw}": "a b", "{two}": "a/b", "{dot}": ".", "{dots}": "..",
		"{empty}": "", "{user.name}": "é &=+", "{user.tags.0.id}": "%2e", "{up}": "..%2Fb", "{win}": "a%5Cb",
		"{semi}": "..;x", "{nul}": "a%00", "{user.deep}": "a/../b",
	}
	value := func(r node.Ref) (string, error) {
		v, ok := values[r.String()]
		if !ok {
			return "", errors.New("unknown")
		}
		return v, nil
	}
	for text, want := range map[string]string{
		"/": "/", "/a/b?c=d": "/a/b?c=d", "/users/{id}": "/users/a%2Fb%3Fc%23d",
		"/u?id={id}&n={user.name}": "/u?id=a%2Fb%3Fc%23d&n=%C3%A9+%26%3D%2B",
		"/café/a b?f[a]=ü":         "/caf%C3%A9/a%20b?f%5Ba%5D=%C3%BC", "/x-{user.tags.0.id}-y": "/x-%252e-y",
		"/l/{list}": "/l/1,2;v=1@x", "/l?l={list}": "/l?l=1%2C2%3Bv%3D1%40x", "/{raw}": "error", "/{two}": "error",
		"/x?a={two}": "error", "/q?a={empty}": "/q?a=", "/q?a={dots}": "/q?a=..",
		"/{dot}": "error", "/a/{dots}/b": "error", "/.{dot}": "error", "/{empty}": "error", "/a/{empty}/b": "error",
		"/{nobody}": "error",
		"/{up}":     "error", "/a{win}": "error", "/{semi}": "error", "/a{nul}": "error", "/{user.deep}": "error",
		"/x?a={up}": "/x?a=..%2Fb",
	} {
		var tpl node.Template
		if err := tpl.UnmarshalText([]byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := tpl.Expand(value); (err != nil) != (want == "error") || (err == nil && got != want) {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
		}
		if again, _ := tpl.MarshalText(); string(again) != text {
			t.Errorf("%s is written as %s", text, again)
		}
	}
	for text, want := range map[string]string{
		"": "doesn't begin with /", "users": "doesn't begin with /", "/50%": "write %25", "/a#b": "begins a fragment",
		"/{a": "is not a reference",
		"/a}": "without its {", "/a/../b": "segments", "/a/%2e%2e/b": "segments", "/a%5Cb": "segments",
		"/.;x": "segments", "/a%00": "segments", "/{}": "is not a reference", "/{a.}": "is not a reference",
		"/{.a}": "is not a reference", "/{A-b.c}": "is not a reference",
	} {
		var tpl node.Template
		if err := tpl.UnmarshalText([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A value never becomes more than the one segment or parameter that it replaces.
func FuzzTemplate(f *testing.F) {
	f.Add("/a/{x}/b", "..")
	f.Add("/a?b={x}&c=d", "&e=f#g")
	f.Add("/{x}{x}", ".")
	f.Add("/a/{*}?b={*}", "c/d%20e")
	f.Add("/{*}", "a?b#c d")
	f.Fuzz(func(t *testing.T, text, value string) {
		var tpl node.Template
		if tpl.UnmarshalText([]byte(text)) != nil {
			return
		}
		const plain = "v"
		with := func(v string) (string, error) { return tpl.Expand(func(node.Ref) (string, error) { return v, nil }) }
		want, err1 := with(plain)
		got, err2 := with(value)
		if err1 != nil || err2 != nil {
			return
		}
		a, err1 := url.ParseRequestURI(want)
		b, err2 := url.ParseRequestURI(got)
		if err1 != nil || err2 != nil {
			if (err1 == nil) != (err2 == nil) {
				t.Fatalf("%q with %q is %q: %v, %v", text, value, got, err1, err2)
			}
			return
		}
		longer, err := tpl.Expand(func(ref node.Ref) (string, error) { // what /* matched may have several segments
			if ref.Param == node.Rest {
				return plain + strings.Repeat("/"+plain, strings.Count(value, "/")), nil
			}
			return plain, nil
		})
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		path, _, _ := strings.Cut(longer, "?")
		more := strings.Count(path, "/") - strings.Count(a.EscapedPath(), "/")
		if strings.Count(a.EscapedPath(), "/")+more != strings.Count(b.EscapedPath(), "/") ||
			strings.Count(a.RawQuery, "&") != strings.Count(b.RawQuery, "&") || strings.Contains(got, "#") {
			t.Errorf("%q with %q is %q", text, value, got)
		}
	})
}

// Accepted texts of Location and Balance are written unchanged, and a redirect leads to the host in its text.
func FuzzLocation(f *testing.F) {
	for _, s := range []string{
		"/a/{b}", "https://example.com/{*}?a={c}", "http://{host}/", "https://[::1]:8443",
		"https://a@b/", "//a", "https:///a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var l, again node.Location
		if l.UnmarshalText([]byte(text)) != nil {
			return
		}
		if err := again.UnmarshalText([]byte(l.String())); err != nil || again.String() != l.String() {
			t.Fatalf("%q is written as %q: %v", text, l.String(), err)
		}
		path, err := l.Path.Expand(func(node.Ref) (string, error) { return "v", nil })
		if err != nil || l.Scheme == "" {
			return
		}
		host := l.Host
		if host == "" {
			host = "client.example"
		}
		u, err := url.Parse(l.Scheme + "://" + host + path)
		if err != nil || u.Host != host || u.User != nil || u.Fragment != "" || u.Scheme != l.Scheme {
			t.Errorf("%q leads to %v: %v", text, u, err)
		}
	})
}
