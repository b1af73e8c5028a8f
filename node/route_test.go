package node_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"millrace/node"
	"millrace/node/nodetest"
)

func TestRouteID(t *testing.T) {
	for _, tc := range []struct {
		route node.Route
		want  string
	}{
		{node.Route{Name: "given", Path: pattern(t, "/a")}, "given"},
		{node.Route{Path: pattern(t, "/")}, "root"},
		{node.Route{Path: pattern(t, "/*")}, "all"},
		{node.Route{Path: pattern(t, "/api/*")}, "api-all"},
		{
			node.Route{Path: pattern(t, "/Orders/{id}"), Host: "api.example.com", Methods: []node.Method{"GET"}},
			"get-api_example_com-orders-id",
		},
		{node.Route{Path: pattern(t, "/a//b~c"), Methods: []node.Method{"GET", "M-SEARCH"}}, "get-m-search-a-b_c"},
		{
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"X-B": "é 1", "X-A": ""}}},
			"a-x-a_-x-b___1",
		},
		{node.Route{Path: pattern(t, "/"+strings.Repeat("long", 30))}, strings.Repeat("long", 16)},
	} {
		got := tc.route.ID()
		if got != tc.want {
			t.Errorf("%s has the ID %q, want %q", tc.route.Path, got, tc.want)
		}
		if err := node.CheckName(got); err != nil {
			t.Errorf("the ID of %s: %v", tc.route.Path, err)
		}
	}
}

func TestMatchesMethod(t *testing.T) {
	for _, tc := range []struct {
		methods []node.Method
		method  string
		want    bool
	}{
		{nil, "PATCH", true},
		{[]node.Method{"GET"}, "GET", true},
		{[]node.Method{"GET"}, "HEAD", true},
		{[]node.Method{"HEAD"}, "GET", false},
		{[]node.Method{"POST", "PUT"}, "PUT", true},
		{[]node.Method{"POST"}, "post", false},
	} {
		if got := (node.Route{Methods: tc.methods}).MatchesMethod(tc.method); got != tc.want {
			t.Errorf("%q matches %s: %t", tc.methods, tc.method, got)
		}
	}
}

func TestHost(t *testing.T) {
	for input, want := range map[string]string{
		"Example.COM": "", "localhost": "", "10.0.0.1": "", "[::1]": "", "a_b": "",
		"": "is not a host", "http://a": "is not a host", "a:80": "is not a host", "[::1]:80": "is not a host",
		"a b": "is not a host",
		"::1": "is not a host", "é.com": "is not a host", "*.a.com": "no host may yet", "*": "leave host out for any",
		strings.Repeat("a", 254): "is not a host",
	} {
		var h node.Host
		err := h.UnmarshalText([]byte(input))
		nodetest.WantError(t, input, err, want)
		if err == nil && string(h) != strings.ToLower(input) {
			t.Errorf("%q became %q", input, h)
		}
	}
}

func TestMethod(t *testing.T) {
	for input, want := range map[string]string{
		"GET": "", "M-SEARCH": "", "": "upper case", "get": "upper case", "GET ": "upper case",
		"*": "leave methods out for any", "ANY": "leave methods out for any", "CONNECT": "never forwarded",
		"TRACE": "never forwarded",
	} {
		var m node.Method
		nodetest.WantError(t, input, m.UnmarshalText([]byte(input)), want)
	}
}

func TestEncodedSlash(t *testing.T) {
	for input, want := range map[string]string{
		"refuse": "", "keep": "", "kepp": `did you mean "keep"?`,
		"": "is not known",
	} {
		var e node.EncodedSlash
		nodetest.WantError(t, input, e.UnmarshalText([]byte(input)), want)
	}
}

func TestRouteCompare(t *testing.T) {
	get := []node.Method{"GET"}
	for _, tc := range []struct {
		what string
		a, b node.Route
		want node.Relation
	}{
		{"same", node.Route{Path: pattern(t, "/a")}, node.Route{Path: pattern(t, "/a")}, node.Equal},
		{
			"host beats path",
			node.Route{Host: "h", Path: pattern(t, "/*")},
			node.Route{Path: pattern(t, "/a")},
			node.Narrower,
		},
		{
			"other hosts",
			node.Route{Host: "h", Path: pattern(t, "/a")},
			node.Route{Host: "i", Path: pattern(t, "/a")},
			node.Disjoint,
		},
		{
			"path beats methods",
			node.Route{Path: pattern(t, "/a")},
			node.Route{Path: pattern(t, "/{x}"), Methods: get},
			node.Narrower,
		},
		{
			"methods beat headers",
			node.Route{Path: pattern(t, "/a"), Methods: get},
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"X": "1"}}},
			node.Narrower,
		},
		{
			"GET holds HEAD",
			node.Route{Path: pattern(t, "/a"), Methods: get},
			node.Route{Path: pattern(t, "/a"), Methods: []node.Method{"HEAD"}},
			node.Wider,
		},
		{
			"methods cross",
			node.Route{Path: pattern(t, "/a"), Methods: []node.Method{"PUT", "POST"}},
			node.Route{Path: pattern(t, "/a"), Methods: []node.Method{"POST", "PATCH"}},
			node.Overlap,
		},
		{
			"headers cross",
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"X": "1"}}},
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"Y": "1"}}},
			node.Overlap,
		},
		{
			"header values differ",
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"X": "1"}}},
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"x": "2"}}},
			node.Disjoint,
		},
		{
			"header names don't differ by case",
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"X": "1"}}},
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"x": "1"}}},
			node.Equal,
		},
		{
			"more headers",
			node.Route{
				Path:  pattern(t, "/a"),
				Match: node.Match{Headers: map[string]string{"X": "1", "Y": "1"}},
			},
			node.Route{Path: pattern(t, "/a"), Match: node.Match{Headers: map[string]string{"x": "1"}}},
			node.Narrower,
		},
	} {
		if got := tc.a.Compare(tc.b); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.what, got, tc.want)
		}
		if got := tc.b.Compare(tc.a); got != mirrored(tc.want) {
			t.Errorf("%s, the other way: got %d, want %d", tc.what, got, mirrored(tc.want))
		}
	}
}

// TestRouteCompareRandom checks against matching sample requests: routes are disjoint exactly when no request matches
// both, equal exactly when the same requests match, and of two others the more specific one is never wider in all.
func TestRouteCompareRandom(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	requests := sampleRequests()
	for range 300 {
		a, b := randomRoute(t, r), randomRoute(t, r)
		both, onlyA, onlyB := false, false, false
		for _, q := range requests {
			inA, inB := q.matches(a), q.matches(b)
			both, onlyA, onlyB = both || (inA && inB), onlyA || (inA && !inB), onlyB || (inB && !inA)
		}
		got, sets := a.Compare(b), relation(both, onlyA, onlyB)
		exact := sets == node.Disjoint || sets == node.Equal || got == node.Disjoint || got == node.Equal
		if (exact && got != sets) || (sets == node.Narrower && got != node.Narrower) ||
			(sets == node.Wider && got != node.Wider) {
			t.Fatalf("%+v to %+v is %d, as sets %d", a, b, got, sets)
		}
		if back := b.Compare(a); back != mirrored(got) {
			t.Fatalf("%+v to %+v is %d, the other way %d", a, b, got, back)
		}
	}
}

type sampleRequest struct{ host, path, method, x, y string }

func (q sampleRequest) matches(r node.Route) bool {
	headers := map[string]string{"x": q.x, "y": q.y}
	for name, value := range r.Match.Headers {
		if headers[strings.ToLower(name)] != value {
			return false
		}
	}
	return (r.Host == "" || string(r.Host) == q.host) && r.MatchesMethod(q.method) && matches(r.Path.String(), q.path)
}

func sampleRequests() []sampleRequest {
	var all []sampleRequest
	for _, path := range allPaths(3) {
		for _, host := range []string{"h", "i", "other"} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT"} {
				for _, x := range []string{"", "1", "2"} {
					all = append(all, sampleRequest{host, path, method, x, ""},
						sampleRequest{host, path, method, x, "1"})
				}
			}
		}
	}
	return all
}

func randomRoute(t *testing.T, r *rand.Rand) node.Route {
	t.Helper()
	route := node.Route{Path: pattern(t, randomPattern(r, 2)), Host: node.Host([]string{"", "", "h", "i"}[r.IntN(4)])}
	for _, m := range []node.Method{"GET", "HEAD", "POST"} {
		if r.IntN(4) == 0 {
			route.Methods = append(route.Methods, m)
		}
	}
	if x := []string{"", "", "1", "2"}[r.IntN(4)]; x != "" {
		route.Match.Headers = map[string]string{[]string{"X", "x"}[r.IntN(2)]: x}
		if r.IntN(2) == 0 {
			route.Match.Headers["Y"] = "1"
		}
	}
	return route
}
