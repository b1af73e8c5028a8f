package edge_test

import (
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/mesh"
)

// What people write for a request is what clients make of it before they send it, as the paths of routes are.
func TestExplainTakesWhatPeopleWrite(t *testing.T) {
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
func TestExplainNamesWhatNobodySends(t *testing.T) {
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
