package edge_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// decoded is a value of the configuration, from its text.
func decoded[T any, P interface {
	*T
	UnmarshalText([]byte) error
}](tb testing.TB, text string) (v T) {
	tb.Helper()
	if err := P(&v).UnmarshalText([]byte(text)); err != nil {
		tb.Fatal(err)
	}
	return v
}

// mirror answers with what it was asked.
func mirror(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
	h := mesh.Header{{Name: "Server", Value: "app"}, {Name: "X-Kind", Value: "a"}, {Name: "X-Old", Value: "1"}}
	for _, name := range []string{"X-Set", "X-Add", "X-Gone", "X-Forwarded-Host"} {
		h.Add("Got-"+name, strings.Join(r.Header.Values(name), "|"))
	}
	return &mesh.Response{Status: 200, Header: h, Body: []byte(r.Method + " " + r.Host + r.Target)}, nil
}

func serveMirror(tb testing.TB, r *edgetest.Rig) {
	tb.Helper()
	r.Service(tb, "mirror", mirror)
}

func rewriteRoute(tb testing.TB, path string, w *node.Rewrite) node.Route {
	tb.Helper()
	return node.Route{
		Path: decoded[node.Pattern](tb, path), To: node.Target{Kind: node.KindService, Name: "mirror"},
		Rewrite: w,
	}
}

func TestRewriteMakesThePathOfParameters(t *testing.T) {
	for _, tc := range []struct {
		route, path string
		query       node.Edits
		target      string
		want        string
	}{
		{route: "/api/*", path: "/v2/{*}", target: "/api/a/b?x=1", want: "/v2/a/b?x=1"},
		{route: "/api/*", path: "/v2/{*}", target: "/api", want: "/v2/"},
		{route: "/api/*", path: "/v2/{*}", target: "/api/", want: "/v2/"},
		{route: "/api/*", path: "/{*}", target: "/api/a%20b/c;d", want: "/a%20b/c;d"},
		{route: "/*", path: "/in/{*}", target: "/a", want: "/in/a"},
		{
			route: "/u/{id}/*", path: "/user-{id}/{*}?id={id}", target: "/u/a%3Fb/x?y=2",
			want: "/user-a%3Fb/x?id=a%3Fb&y=2",
		},
		{route: "/u/{id}", path: "/find?q=1", target: "/u/7", want: "/find?q=1"},
		{
			route: "/q", query: node.Edits{
				Remove: []string{"a b"}, Set: map[string]string{"k": "é&"},
				Add: map[string]string{"t": "2"},
			}, target: "/q?a+b=1&k=0&t=1&&c%20d=%2F",
			want: "/q?t=1&&c%20d=%2F&k=%C3%A9%26&t=2",
		},
		{route: "/q", query: node.Edits{Remove: []string{"a"}}, target: "/q?a=1&%61=2", want: "/q"},
		{route: "/q", query: node.Edits{Remove: []string{"b"}}, target: "/q?%zz=1&b", want: "/q?%zz=1"},
		{route: "/q", query: node.Edits{Remove: []string{"b"}}, target: "/q?", want: "/q?"},
		{route: "/q", query: node.Edits{Remove: []string{"b"}}, target: "/q?&&a&", want: "/q?&&a&"},
		{route: "/q", query: node.Edits{Set: map[string]string{"b": "1"}}, target: "/q", want: "/q?b=1"},
		{route: "/u/{id}", path: "/users/{id}", target: "/u/1,2,3", want: "/users/1,2,3"},
		{route: "/u/{id}", path: "/users/{id}", target: "/u/a;v=1", want: "/users/a;v=1"},
		{
			route: "/u/{id}", path: "/users/{id}?id={id}", target: "/u/a%2Bb%40c@d",
			want: "/users/a%2Bb%40c@d?id=a%2Bb%40c%40d",
		},
		{route: "/u/{id}", path: "/users/{id}", target: "/u/%63af%c3%a9%20!", want: "/users/caf%C3%A9%20!"},
	} {
		w := &node.Rewrite{Query: tc.query}
		if tc.path != "" {
			w.Path = decoded[node.Template](t, tc.path)
		}
		r := edgetest.Start(t, edgetest.Routed(rewriteRoute(t, tc.route, w)))
		serveMirror(t, r)
		resp, body := r.Raw(t, "GET "+tc.target+" HTTP/1.1\r\nHost: Shop.example\r\n\r\n")
		if want := "GET shop.example" + tc.want; resp.StatusCode != 200 || body != want {
			t.Errorf("%s to %q asked for %d %q, want %q", tc.target, tc.path, resp.StatusCode, body, want)
		}
		if e := r.Explain("GET", "http://Shop.example"+tc.target, nil); "GET "+e.Asks != body {
			t.Errorf("explained as %q, asked for %q", e.Asks, body)
		}
	}
}

func TestRewriteEditsFields(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(rewriteRoute(t, "/*", &node.Rewrite{
		Host: "internal.example",
		Request: node.Edits{
			Set: map[string]string{"X-Set": "new"}, Add: map[string]string{"X-Add": "more"},
			Remove: []string{"x-gone"},
		},
		Response: node.Edits{
			Set: map[string]string{"X-Kind": "b"}, Add: map[string]string{"X-Old": "2"},
			Remove: []string{"SERVER"},
		},
	})))
	serveMirror(t, r)
	resp, body := r.Raw(t, "GET /a HTTP/1.1\r\nHost: shop.example\r\nX-Set: old\r\nX-Add: one\r\nX-Gone: here\r\n\r\n")
	if body != "GET internal.example/a" {
		t.Errorf("asked for %q", body)
	}
	for name, want := range map[string]string{
		"Got-X-Set": "new", "Got-X-Add": "one|more", "Got-X-Gone": "", "Got-X-Forwarded-Host": "shop.example",
		"X-Kind": "b", "X-Old": "1|2", "Server": "",
	} {
		if got := strings.Join(resp.Header.Values(name), "|"); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestRedirectKeepsPathAndQuery(t *testing.T) {
	for _, tc := range []struct{ route, to, target, want string }{
		{"/old/*", "/new/{*}", "/old/a/b?x=1", "/new/a/b?x=1"},
		{"/old/*", "/new/{*}", "/old", "/new/"},
		{"/old/*", "/{*}", "/old//evil.example/x", "/evil.example/x"},
		{"/old/*", "https://new.example/{*}", "/old/a", "https://new.example/a"},
		{"/*", "https://{host}/{*}", "/a?b", "https://shop.example/a?b"},
		{"/old/*", "/find?path={*}", "/old/a%20b/c", "/find?path=a+b%2Fc"},
		{"/u/{id}", "https://new.example/users?id={id}", "/u/a%26b?c=d", "https://new.example/users?id=a%26b"},
		{"/x", "https://new.example", "/x", "https://new.example/"},
	} {
		r := edgetest.Start(t, edgetest.Routed(node.Route{
			Path:     decoded[node.Pattern](t, tc.route),
			Redirect: &node.Redirect{To: decoded[node.Location](t, tc.to), Status: 308},
		}))
		resp, body := r.Raw(t, "GET "+tc.target+" HTTP/1.1\r\nHost: shop.example\r\n\r\n")
		if got := resp.Header.Get("Location"); resp.StatusCode != 308 || got != tc.want || body != "" {
			t.Errorf("%s to %s: %d %q, want 308 %q", tc.target, tc.to, resp.StatusCode, got, tc.want)
		}
	}
}

// A redirect to the client's own host needs one: without it the URL would begin with what the path says.
func TestRedirectToTheOwnHostNeedsAHost(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(node.Route{
		Path:     decoded[node.Pattern](t, "/*"),
		Redirect: &node.Redirect{To: decoded[node.Location](t, "https://{host}/{*}"), Status: 308},
	}))
	for _, head := range []string{"HTTP/1.0\r\n", "HTTP/1.1\r\nHost:\r\n"} {
		resp, body := r.Raw(t, "GET /evil.test/x "+head+"\r\n")
		if resp.StatusCode != 400 || resp.Header.Get("Location") != "" || !strings.Contains(body, "host") {
			t.Errorf("%q: got %d to %q: %s", head, resp.StatusCode, resp.Header.Get("Location"), body)
		}
	}
}

func TestRouteAnswersByItself(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(node.Route{
		Path:    decoded[node.Pattern](t, "/gone"),
		Respond: &node.Respond{Status: 410, Body: "gone\n", Headers: map[string]string{"X-Why": "old"}},
	},
		node.Route{
			Path: decoded[node.Pattern](t, "/json"),
			Respond: &node.Respond{
				Status: 200, Body: "{}",
				Headers: map[string]string{"content-type": "application/json"},
			},
		},
		node.Route{Path: decoded[node.Pattern](t, "/nothing"), Respond: &node.Respond{Status: 204}},
	))
	for path, want := range map[string]struct {
		status             int
		body, kind, reason string
	}{
		"/gone": {410, "gone\n", "text/plain; charset=utf-8", "old"}, "/json": {200, "{}", "application/json", ""},
		"/nothing": {204, "", "", ""},
	} {
		for _, method := range []string{"GET", "POST", "HEAD"} {
			resp, body := r.Do(t, method, path, map[string]string{"POST": "ignored"}[method])
			if method == http.MethodHead {
				want.body = ""
			}
			if resp.StatusCode != want.status || body != want.body || resp.Header.Get("Content-Type") != want.kind ||
				resp.Header.Get("X-Why") != want.reason {
				t.Errorf("%s %s: %d %q %v, want %+v", method, path, resp.StatusCode, body, resp.Header, want)
			}
		}
	}
}

// The response rules of a route reach what the gateway itself answers on it, so that a browser sees the status behind
// CORS; the problem stays a problem.
func TestResponseRulesReachOwnResponses(t *testing.T) {
	rules := &node.Rewrite{Response: node.Edits{Set: map[string]string{
		"Access-Control-Allow-Origin": "*",
		"Cache-Control":               "max-age=60", "Content-Type": "text/html",
	}, Remove: []string{"Proxy-Status"}}}
	with := func(name, path, service string, change func(*node.Route)) node.Route {
		r := edgetest.Route(name, path, func(n *node.Route) { n.Rewrite, n.To.Name = rules, service })
		if change != nil {
			change(&r)
		}
		return r
	}
	r := edgetest.Start(t, edgetest.Limited(with("limited", "/limited", "echo", func(n *node.Route) {
		n.Limit = []node.Limit{edgetest.Per("1/1h")}
	}), with("nobody", "/nobody", "nobody", nil),
		with("slow", "/slow", "slow", func(n *node.Route) { n.Timeout = node.Duration(50 * time.Millisecond) }),
		with("small", "/small", "echo", func(n *node.Route) {
			n.MaxBody = 1
		}), with("broken", "/broken", "broken", nil),
		with("get", "/get", "echo", func(n *node.Route) {
			n.Methods = []node.Method{"GET"}
		}), with("slash", "/slash/{id}", "echo", nil)))
	r.StreamService(t, "slow", func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	r.StreamService(t, "broken", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		return nil, node.Errorf(node.CodeUpstream, nil, "it broke")
	})
	r.Do(t, "GET", "/limited", "")
	for path, status := range map[string]int{
		"/limited": 429, "/nobody": 503, "/slow": 504, "/small": 413,
		"/broken": 502, "/get": 405, "/slash/a%2Fb": 400,
	} {
		resp, body := r.Do(t, "POST", path, "body")
		h := resp.Header
		if resp.StatusCode != status || h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Proxy-Status") != "" {
			t.Errorf("%s: %d %v %s", path, resp.StatusCode, h, body)
		}
		if len(h.Values("Cache-Control")) != 1 || h.Get("Cache-Control") != "no-store" ||
			h.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: Cache-Control %q, Content-Type %q", path, h.Values("Cache-Control"), h.Values("Content-Type"))
		}
		if status == 429 && (h.Get("Retry-After") == "" || h.Get("RateLimit") == "") {
			t.Errorf("%s: %v", path, h)
		}
	}
}
