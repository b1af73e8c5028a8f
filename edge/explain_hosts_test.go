package edge_test

import (
	"strings"
	"testing"

	"millrace/edge/cache"
	"millrace/edge/edgetest"
	"millrace/kvcache"
	"millrace/node"
)

// A path alone is explained for the hosts that clients ask for: those of routes, those seen, the listener's own. What
// the cache has is found under the host that it was asked for, and the query counts.
func TestPathIsExplainedForTheHostsThatClientsAskFor(t *testing.T) {
	host := func(name string) func(*node.Route) {
		return func(r *node.Route) { r.Host, r.Name = node.Host(name), strings.ReplaceAll(name, ".", "-") }
	}
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		one, two := edgetest.CachedRoute("/a", nil, host("one.test")), edgetest.CachedRoute("/a", nil, host("two.test"))
		s.Routes = []node.Route{edgetest.CachedRoute("/*", nil), one, two}
	}))
	for _, path := range []string{"/a", "/b"} {
		r.On(path, edgetest.Fresh("%d"))
	}

	e := r.Explain("GET", "/b?x=1", nil)
	if e.Host != r.Address && e.Host != "one.test" || e.Query != "?x=1" ||
		e.Cache.State != "missing" || strings.Contains(e.Cache.Key, "///") {
		t.Errorf("before any request: %+v, cache %+v", e, e.Cache)
	}
	r.Get(t, "/b?x=1") // of example.test
	e = r.Explain("GET", "/b?x=1", nil)
	if e.Host != "example.test" || e.Cache.State != "fresh" || e.Cache.Key != "http://example.test/b?x=1" {
		t.Errorf("a seen host: %s, cache %+v", e.Host, e.Cache)
	}
	if e = r.Explain("GET", "/b", nil); e.Cache.State != "missing" {
		t.Errorf("another query: %+v", e.Cache)
	}
	if e = r.Explain("GET", "/b?x=1", edgetest.Fields("Host", "other.test")); e.Host != "other.test" ||
		e.Cache.State != "missing" {
		t.Errorf("a host that is named: %s, cache %+v", e.Host, e.Cache)
	}

	e = r.Explain("GET", "/a", nil)
	all := map[string]string{e.Host: e.Route}
	for _, other := range e.Also {
		all[other.Host] = other.Route
	}
	if all["one.test"] != "one-test" || all["two.test"] != "two-test" {
		t.Errorf("routes by host: %v", all)
	}
	const secure = "https://example.test/b?x=1"
	if e = r.Explain("GET", secure, nil); e.Cache.Key != secure || e.Cache.State != "missing" {
		t.Errorf("with https: %+v", e.Cache)
	}
}

// Without anything to tell hosts apart a path is explained once, with a refusal if that is all.
func TestPathIsExplainedOnceForOneHost(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/a")))
	if e := r.Explain("GET", "/a?q=1", nil); e.Host != r.Address || e.Route == "" || len(e.Also) > 0 ||
		e.Query != "?q=1" {
		t.Errorf("explained %+v", e)
	}
	if e := r.Explain("GET", "/none", nil); e.Status != 404 || len(e.Also) > 0 {
		t.Errorf("explained %+v", e)
	}
}

// A path is purged in its canonical form, and in what its route leaves of its query.
func TestPathIsPurgedInItsCanonicalForm(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) { c.Query.Drop, c.Query.Sort = []string{"utm"}, true }))
	for path, want := range map[string][]string{
		"/%61?z=1&a=2&utm=x": {"/a?z=1&a=2&utm=x", "/a?a=2&z=1"}, "/a": {"/a"},
		"a": nil, "": nil, "http://h/a": nil, "/a b": nil, "/a/../b": nil,
	} {
		var got []string
		for _, p := range r.PathPurges(t.Context(), path, true) {
			if p.Reach != kvcache.ReachURL || !p.Soft {
				t.Errorf("%s: %+v", path, p)
			}
			got = append(got, p.Text)
		}
		if strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("%q purges %q, want %q", path, got, want)
		}
	}
	prefix := kvcache.Purge{Reach: kvcache.ReachPrefix, Text: "/a/"}
	if got := cache.PrefixPurges("/%61/", false); len(got) != 1 || got[0] != prefix {
		t.Errorf("a prefix of paths: %+v", got)
	}

	r.On("/a", edgetest.Fresh("%d"))
	r.Get(t, "/a?b=1&a=2&utm=1")
	r.ApplyPurges(t, r.PathPurges(t.Context(), "/a?a=2&b=1&utm=2", false)...)
	if s := r.Get(t, "/a?a=2&b=1"); s.Hit || s.Text != "2" {
		t.Errorf("after the purge of its path: %s", s)
	}
}
