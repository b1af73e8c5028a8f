package edge_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"millrace/edge"
	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
)

// A client that names a field in Connection takes it away from everything at once: the origin, what its response varies
// on, keys, and routes (RFC 9110 §7.6.1, RFC 9111 §4.1). Else the response to a request without the field would be kept
// for those with it.
func TestConnectionTakesAFieldFromEverythingAtOnce(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(func(c *node.Cache) {
		c.Key, c.Methods = edgetest.RequestParts("header:X-Tenant", "cookie:tier"), []node.Method{"GET", "QUERY"}
	}, func(s *edgetest.Config) {
		s.Routes = append(s.Routes, edgetest.CachedRoute("/*", nil, edgetest.Needs("X-Beta", "1")))
	}))
	seen := func(req *mesh.Request, n int) *mesh.Response {
		resp := edgetest.Fresh(strings.Join([]string{
			req.Header.Get("X-Lang"), req.Header.Get("X-Tenant"), req.Header.Get("X-Beta"), req.Header.Get("Cookie"),
			req.Header.Get("Content-Type"),
		}, "|"))(req, n)
		resp.Header.Add("Vary", "X-Lang")
		return resp
	}
	for i, c := range []struct{ method, field, value string }{
		{"GET", "X-Lang", "de"},
		{"GET", "X-Tenant", "7"},
		{"GET", "X-Beta", "1"},
		{"GET", "Cookie", "tier=gold"},
		{"QUERY", "Content-Type", "application/sql"},
	} {
		path, body := "/"+string(rune('a'+i)), ""
		if c.method == "QUERY" {
			body = "q"
		}
		r.On(path, seen)
		r.Ask(t, c.method, path, body, c.field, c.value, "Connection", "keep-alive, "+strings.ToLower(c.field))
		if s := r.Ask(t, c.method, path, body, c.field, c.value); s.Hit || !strings.Contains(s.Text, c.value) {
			t.Errorf("%s: %s to a client that sent %s", c.field, s, c.value)
		}
		if s := r.Ask(t, c.method, path, body); strings.Contains(s.Text, c.value) {
			t.Errorf("%s: %s to a client without it", c.field, s)
		}
	}
}

// What frames, routes or authenticates a request can't be taken away by naming it in Connection.
func TestConnectionCanNotTakeWhatMustStay(t *testing.T) {
	x := &mesh.Request{Header: edgetest.Fields("Connection",
		"host, content-length, authorization, x-request-id, x-forwarded-for", "Authorization", "a", "X-Other", "1")}
	x.Header.DropHopByHop()
	if !x.Header.Has("Authorization") || !x.Header.Has("X-Other") || x.Header.Has("Connection") {
		t.Errorf("left: %v", x.Header)
	}
}

// A Connection field with very many options costs no more than one with few.
func TestConnectionWithVeryManyOptionsIsCheap(t *testing.T) {
	h := edgetest.Fields("Connection", strings.Repeat("x-none,", 8000)+"x-last")
	for range 250 {
		h.Add("X-Field", "1")
	}
	h.Add("X-Last", "1")
	h.DropHopByHop()
	if h.Has("X-Last") || len(h) != 250 {
		t.Errorf("%d fields are left", len(h))
	}
}

// One authority stands for a host in routing, key, forwarding and X-Forwarded-Host: lower case, without the port of its
// scheme, without the dot at the end.
func TestOneAuthorityStandsForAHost(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		s.Routes = append(s.Routes, edgetest.CachedRoute("/*", nil, func(n *node.Route) { n.Host = "shop.test" }))
	}))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		return edgetest.Fresh(req.Host+" "+req.Header.Get("X-Forwarded-Host"))(req, n)
	})
	ask := func(line, host string) *edgetest.Seen {
		return r.Send(t, "GET", "GET "+line+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
	}
	for i, c := range [][2]string{
		{"/a", "SHOP.test"},
		{"/a", "shop.test"},
		{"/a", "shop.test:80"},
		{"/a", "shop.test:"},
		{"/a", "Shop.Test."},
		{"/a", "shop.test.:080"},
		{"http://SHOP.test:80/a", "other.test"},
	} {
		s := ask(c[0], c[1])
		if s.Text != "shop.test shop.test" || s.Hit != (i > 0) {
			t.Errorf("%s of %s: %s", c[0], c[1], s)
		}
	}
	for _, host := range []string{"shop.test:8080", "shop.test:443", "[2001:DB8::1]:80", "[2001:DB8::1]:81"} {
		want := strings.TrimSuffix(strings.ToLower(host), ":80")
		if s := ask("/a", host); s.Text != want+" "+want || s.Hit {
			t.Errorf("%s: %s", host, s)
		}
	}
	for _, host := range []string{"shop.test:99999", "shop.test:8a", "..", "."} {
		if s := ask("/a", host); s.StatusCode != 400 || !s.Close {
			t.Errorf("%s: %s, closes: %t", host, s, s.Close)
		}
	}
}

// What a trusted proxy says of scheme and host, in whatever case and list it writes it. The host that it names is the
// one authority, as its scheme is.
func TestTrustedProxySetsSchemeAndHost(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		s.Edge = func(e *node.Edge) { e.TrustedProxies = []node.Prefix{edgetest.Prefix("127.0.0.0/8")} }
	}))
	r.On("/a", func(req *mesh.Request, n int) *mesh.Response {
		h := req.Header
		return edgetest.Fresh(strings.Join([]string{
			h.Get("X-Forwarded-Proto"), req.Host, h.Get("X-Forwarded-Host"), h.Get("X-Forwarded-Port"),
			h.Get("X-Forwarded-Prefix"), h.Get("X-Forwarded-Ssl"),
		}, " "))(req, n)
	})
	for _, c := range []struct {
		header []string
		want   string
	}{
		{[]string{"X-Forwarded-Proto", "HTTPS"}, "https example.test example.test   "},
		{[]string{"X-Forwarded-Proto", "https, http"}, "https example.test example.test   "},
		{[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Proto", "http"}, "https example.test example.test   "},
		{[]string{"X-Forwarded-Proto", "wss"}, "https example.test example.test   "},
		{[]string{"X-Forwarded-Proto", "gopher"}, "http example.test example.test   "},
		{[]string{"X-Forwarded-Proto", "https", "X-Forwarded-Host", "SHOP.test:443"}, "https shop.test shop.test   "},
		{[]string{"X-Forwarded-Host", "shop.test, lb.test"}, "http shop.test shop.test   "},
		{[]string{"X-Forwarded-Host", "a b"}, "http example.test example.test   "},
		{
			[]string{"X-Forwarded-Port", "8443", "X-Forwarded-Prefix", "/shop", "X-Forwarded-Ssl", "on"},
			"https example.test example.test 8443 /shop on",
		},
		{[]string{"X-Forwarded-Prefix", "/other"}, "http example.test example.test  /other "},
	} {
		if s := r.Get(t, "/a", c.header...); s.Text != c.want {
			t.Errorf("%q: %s, want %q", c.header, s, c.want)
		}
	}
	if s := r.Get(t, "/a", "X-Forwarded-Proto", "Https"); !s.Hit {
		t.Errorf("another spelling of https: %s", s)
	}
}

// None of it counts from anybody else.
func TestStrangerSetsNeitherSchemeNorHost(t *testing.T) {
	for name, value := range map[string]string{
		"X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil", "X-Forwarded-Server": "evil", "X-Forwarded-Ssl": "on",
		"X-Forwarded-Host": "evil.test", "True-Client-IP": "6.6.6.6",
		"X-Client-IP": "6.6.6.6", "X-Cluster-Client-IP": "6.6.6.6", "CF-Connecting-IP": "6.6.6.6",
		"Fastly-Client-IP": "6.6.6.6", "X-Original-Forwarded-For": "6.6.6.6", "Client-IP": "6.6.6.6",
		"X-Url-Scheme": "https", "X-Scheme": "https", "Front-End-Https": "on", "X-ProxyUser-Ip": "6.6.6.6",
		"X-Remote-Addr": "6.6.6.6",
		"X-Forwarded":   "6.6.6.6", "Forwarded-For": "6.6.6.6", "X-Forward-For": "6.6.6.6", "Forwarded-Host": "evil",
		"X-Remote-User":    "root",
		"X-Forwarded-User": "root", "DO-Connecting-IP": "6.6.6.6", "Incap-Client-IP": "6.6.6.6",
		"X-Sucuri-ClientIP": "6.6.6.6",
		"Ali-Cdn-Real-Ip":   "6.6.6.6", "X-Vercel-Forwarded-For": "6.6.6.6", "X-ARR-SSL": "1",
		"X-Appengine-Remote-Addr":   "6.6.6.6",
		"X-Nf-Client-Connection-Ip": "6.6.6.6", "X-Middleware-Subrequest": "middleware", "Client-Cert": ":AA==:",
		"X-SSL-Client-Verify": "SUCCESS",
		"X.Forwarded.For":     "6.6.6.6", "X.HTTP.Method.Override": "DELETE", "X~Real~IP": "6.6.6.6",
		"Client!Cert": "x",
		"X_Client_IP": "6.6.6.6", "True_Client_IP": "6.6.6.6", "X_Url_Scheme": "https",
		"X_HTTP_Method_Override": "DELETE", "X_Original_URL": "/admin", "X_Rewrite_URL": "/admin", "X_Host": "evil",
	} {
		x := &exchange.Exchange{
			Method: "POST",
			Target: "/",
			Header: edgetest.Fields("Host", "h", name, value),
			Scheme: "http",
		}
		got, _ := edge.Prepared(x, "192.0.2.7")
		if v := got.Header.Get(name); v == value {
			t.Errorf("%s of a stranger was passed on", name)
		}
		if strings.ContainsAny(name, "_.~!") {
			continue
		}
		x = &exchange.Exchange{
			Method: "POST",
			Target: "/",
			Header: edgetest.Fields("Host", "h", name, value),
			Scheme: "http",
		}
		if got, _ = edge.Prepared(x, "192.0.2.7", edgetest.Prefix("192.0.2.0/24")); !got.Header.Has(name) {
			t.Errorf("%s of a trusted proxy was dropped", name)
		}
	}
}

// Proxy, which CGI takes for HTTP_PROXY, comes from nobody, trusted or not.
func TestProxyFieldIsDropped(t *testing.T) {
	x := &exchange.Exchange{
		Method: "GET", Target: "/",
		Header: edgetest.Fields("Host", "h", "Proxy", "http://evil.test", "P.roxy", "kept"), Scheme: "http",
	}
	if got, _ := edge.Prepared(x, "192.0.2.7", edgetest.Prefix("192.0.2.0/24")); got.Header.Has("Proxy") ||
		!got.Header.Has("P.roxy") {
		t.Errorf("passed on: %v", got.Header)
	}
}

// What a stranger says of itself and of its scheme chooses no route; a trusted proxy's does.
func TestStrangersClaimsChooseNoRoute(t *testing.T) {
	secure, other := edgetest.Route("secure", "/a"), edgetest.Route("other", "/a")
	secure.Match.Headers = map[string]string{"X-Forwarded-Proto": "https"}
	secure.Respond, secure.To = &node.Respond{Status: 200}, node.Target{}
	other.Respond, other.To = &node.Respond{Status: 403}, node.Target{}
	for _, trusted := range []string{"", "127.0.0.0/8"} {
		r := edgetest.Start(t, edgetest.Config{Edge: func(e *node.Edge) {
			if trusted != "" {
				e.TrustedProxies = edgetest.Prefixes(trusted)
			}
		}, Routes: []node.Route{secure, other}})
		want := map[string]int{"": 403, "127.0.0.0/8": 200}[trusted]
		if resp, _ := r.Raw(t, "GET /a HTTP/1.1\r\nHost: h\r\n"+
			"X-Forwarded-Proto: https\r\n\r\n"); resp.StatusCode != want {
			t.Errorf("trusted %q: got %d, want %d", trusted, resp.StatusCode, want)
		}
	}
}

// A limit that counts by a field which strangers can't be believed counts nothing of theirs apart, nor spellings of one
// host.
func TestLimitsCountClaimsOfStrangersAlike(t *testing.T) {
	for name, spellings := range map[string][]string{
		"Host":             {"h.test", "H.test", "h.test:80", "h.test.", "h.TEST:080"},
		"CF-Connecting-IP": {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"},
		"X-Real-IP":        {"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"},
	} {
		rt, l := edgetest.EchoRoute("/*"), edgetest.Per("3/1h")
		l.Key = node.LimitKeys{{Kind: node.KeyHeader, Name: name}}
		rt.Limit = []node.Limit{l}
		r := edgetest.Start(t, edgetest.Config{
			Limits: &edgetest.LimitsConfig{},
			Edge:   func(e *node.Edge) { e.TrustedProxies = nil },
			Routes: []node.Route{rt},
		})
		passed := 0
		for _, value := range spellings {
			head := "Host: h.test\r\n" + name + ": " + value + "\r\n"
			if name == "Host" {
				head = "Host: " + value + "\r\n"
			}
			if resp, _ := r.Raw(t, "GET / HTTP/1.1\r\n"+head+"\r\n"); resp.StatusCode == 200 {
				passed++
			}
		}
		if passed != 3 {
			t.Errorf("%s: %d of %d passed, with a limit of 3", name, passed, len(spellings))
		}
	}
}

// A field with an underscore that stands for another, to a CGI-like origin, isn't part of any key: on a route that
// caches it reaches the origin only if the route names it.
func TestFieldsWithUnderscoresAreInNoKey(t *testing.T) {
	r := edgetest.Start(t,
		edgetest.Cached(func(c *node.Cache) { c.Key = edgetest.RequestParts("header:X-Tenant", "header:Api_Key") }))
	r.On("/a", edgetest.Reflecting)
	for _, name := range []string{"X_Tenant", "Accept_Language", "X_Custom"} {
		if s := r.Get(t, "/a?"+name, name, "evil"); strings.Contains(s.Text, "evil") {
			t.Errorf("%s reached the origin of a response that is stored: %s", name, s.Text)
		}
	}
	if s := r.Get(t, "/a?key", "api_key", "mine"); !strings.Contains(s.Text, "mine") {
		t.Errorf("a field that is part of the key: %s", s.Text)
	}
	if s := r.Ask(t, "POST", "/a", "x", "X_Custom", "mine"); !strings.Contains(s.Text, "mine") {
		t.Errorf("a request that isn't for the cache lost its field: %s", s.Text)
	}
}

// Trailer fields of a request can't say what its head may not (RFC 9110 §6.5.1), nor what only the edge says.
func TestTrailersSayNothingOfTheHead(t *testing.T) {
	got := make(chan http.Header, 1)
	r := edgetest.StartProxy(t, nil, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		got <- req.Trailer
	})
	up := edgetest.Route("up", "/*")
	up.To = node.Target{Kind: node.KindUpstream, Name: "app"}
	r.SetRoutes(node.Default().Edge, []node.Route{up})
	bad := []string{
		"X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Forwarded", "X-Request-Id", "Via", "Cookie",
		"If-None-Match", "If-Match", "If-Range", "Range", "Traceparent", "Authorization",
		"Host", "Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Expect", "Max-Forwards",
		"Cache-Control", "Pragma", "TE", "Connection", "Upgrade", "Origin", "Referer",
		"X-HTTP-Method-Override", "X-Original-URL", "True-Client-IP", "X_Forwarded_For", "X_Request_Id",
		"If_None_Match", "Content_Length", "Accept-Encoding", "Accept", "Millrace-Route",
		"Nats-Msg-Id", "Trailer", "Set-Cookie", "Sec-Fetch-Site", "Proxy-Authorization", "Idempotency-Key",
		"Early-Data", "User-Agent", "Keep-Alive", "Date",
	}
	good := []string{"X-Checksum", "Content-Digest", "Repr-Digest", "Grpc-Status", "X-Amz-Trailer-Signature", "ETag"}
	var b strings.Builder
	for _, name := range slices.Concat(bad, good) {
		b.WriteString(name + ": 1\r\n")
	}
	big := strings.Repeat("x", 600_000) // so that it streams
	request := "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n927c0\r\n" + big +
		"\r\n0\r\n" + b.String() + "\r\n"
	if resp, body := r.Raw(t, request); resp.StatusCode != 200 {
		t.Fatalf("got %d %s", resp.StatusCode, body)
	}
	trailer := <-got
	for _, name := range bad {
		if trailer.Get(name) != "" || len(trailer[name]) > 0 {
			t.Errorf("the trailer field %s reached the origin", name)
		}
	}
	for _, name := range good {
		if trailer.Get(name) != "1" {
			t.Errorf("the trailer field %s is lost", name)
		}
	}
}

// Trailer fields can't say what the route decides by or writes itself, nor what Connection lists (RFC 9110 §7.6.1).
func TestTrailersSayNothingOfTheRoute(t *testing.T) {
	got := make(chan http.Header, 1)
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		got <- req.Trailer
		w.Header().Set("Trailer", "X-Secret, X-Sum, X-Shown")
		_, _ = io.WriteString(w, "ok")
		w.Header().Set("X-Secret", "1")
		w.Header().Set("X-Shown", "1")
		w.Header().Set("X-Sum", "1")
	})
	up := edgetest.Route("up", "/*")
	up.To = node.Target{Kind: node.KindUpstream, Name: "app"}
	up.Match.Headers = map[string]string{"X-Version": "2"}
	up.Rewrite = &node.Rewrite{
		Request: node.Edits{
			Set: map[string]string{"X-Tenant": "a"}, Add: map[string]string{"X-More": "b"},
			Remove: []string{"X-Debug"},
		},
		Response: node.Edits{Remove: []string{"X-Secret"}, Set: map[string]string{"X-Shown": "2"}},
	}
	r.SetRoutes(node.Default().Edge, []node.Route{up})
	request := "POST /x HTTP/1.1\r\nHost: h\r\nX-Version: 2\r\nTransfer-Encoding: chunked\r\n" +
		"Connection: close, x-hop\r\n\r\n1\r\nx\r\n" +
		"0\r\nX-Tenant: evil\r\nx-more: evil\r\nX-Debug: 1\r\nX-Version: 1\r\nX-Hop: 1\r\nX-Sum: 1\r\n\r\n"
	resp, body := r.Raw(t, request)
	if resp.StatusCode != 200 {
		t.Fatalf("got %d %s", resp.StatusCode, body)
	}
	if trailer := <-got; len(trailer) != 1 || trailer.Get("X-Sum") != "1" {
		t.Errorf("the origin got %v", trailer)
	}
	if len(resp.Trailer) != 1 || resp.Trailer.Get("X-Sum") != "1" {
		t.Errorf("the client got %v", resp.Trailer)
	}
}

// The same to a member over the mesh, which may be plain NATS.
func TestTrailersSayNothingToAMember(t *testing.T) {
	r := edgetest.Start(t, edgetest.Config{})
	got := make(chan mesh.Header, 1)
	r.StreamService(t, "trailers", func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		_, err := io.Copy(io.Discard, mesh.NewReader(q.Stream))
		got <- q.Stream.Trailer()
		return &mesh.Response{Status: 200}, err
	})
	to := edgetest.Route("t", "/*")
	to.To.Name = "trailers"
	r.SetRoutes(node.Default().Edge, []node.Route{to})
	request := "POST /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n927c0\r\n" +
		strings.Repeat("x", 600_000) +
		"\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nX_Real_Ip: 6.6.6.6\r\nX-Sum: 1\r\n\r\n"
	if resp, body := r.Raw(t, request); resp.StatusCode != 200 {
		t.Fatalf("got %d %s", resp.StatusCode, body)
	}
	if h := <-got; len(h) != 1 || h.Get("X-Sum") != "1" {
		t.Errorf("the member got %v", h)
	}
}
