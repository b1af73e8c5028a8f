package edge_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
)

// getFrom is get from another address of the loopback.
func (r *cacheRig) getFrom(tb testing.TB, ip, path string, header ...string) *seen {
	tb.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.DialContext(tb.Context(), "tcp", r.addr)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, requestOf("GET", path, header))
	return receive(tb, bufio.NewReader(c), "GET")
}

// saysSent answers with what the origin was sent in a field, and varies on it.
func saysSent(name string) answer {
	return func(req *mesh.Request, n int) *mesh.Response {
		body := strings.Join(req.Header.Values(name), "|")
		return always(200, body, "Cache-Control", "max-age=60", "Vary", name)(req, n)
	}
}

// A response that varies on what says who asks is for that one: the edge writes or drops such fields, so what the
// client sent in them tells nothing apart.
func TestCacheVaryOnWhoAsks(t *testing.T) {
	for name, change := range map[string]func(*cacheSetup){
		"trusted": func(s *cacheSetup) {
			s.edge.TrustedProxies = prefixes("127.0.0.0/8")
		}, "not trusted": func(*cacheSetup) {},
	} {
		r := startCache(t, nil, change)
		for _, field := range []string{
			"X-Forwarded-For", "CF-Connecting-IP", "True-Client-IP", "X-Real-IP", "Forwarded", "X-Request-Id",
			"Traceparent", "Tracestate",
		} {
			path := "/" + field
			r.on(path, saysSent(field))
			for range 2 {
				for _, header := range [][]string{nil, {field, "10.0.0.1"}} {
					if s := r.getFrom(t, "127.0.0.2", path, header...); s.hit || s.stored || s.StatusCode != 200 {
						t.Errorf("%s, Vary: %s, %q: %s", name, field, header, s)
					}
				}
			}
		}
	}
}

// Where the route says that responses may vary on it, each gets what is made for the value that its origin is sent.
func TestCacheVaryOnForwardedForOfRoute(t *testing.T) {
	vary := func(c *node.Cache) { c.Vary = []string{"X-Forwarded-For"} }
	trusts := func(s *cacheSetup) { s.edge.TrustedProxies = prefixes("127.0.0.2/32") }
	r := startCache(t, vary, trusts)
	r.on("/a", saysSent("X-Forwarded-For"))
	asks := []struct{ from, says, want string }{
		{"127.0.0.3", "", "127.0.0.3"},
		{"127.0.0.4", "", "127.0.0.4"},
		{"127.0.0.2", "10.0.0.1", "10.0.0.1, 127.0.0.2"},
		{"127.0.0.2", "10.0.0.2", "10.0.0.2, 127.0.0.2"},
		{"127.0.0.3", "10.0.0.1", "127.0.0.3"}, // which isn't believed
	}
	for i, a := range append(asks, asks...) {
		var header []string
		if a.says != "" {
			header = []string{"X-Forwarded-For", a.says}
		}
		s := r.getFrom(t, a.from, "/a", header...)
		if s.body != a.want || s.hit != (i >= len(asks)-1) {
			t.Errorf("%d, from %s: %s, want %q", i, a.from, s, a.want)
		}
	}
}

// What the key has already, or what never reaches the origin, makes no variants.
func TestCacheVaryOnWhatTellsNothingApart(t *testing.T) {
	r := startCache(t, nil, func(s *cacheSetup) { s.edge.TrustedProxies = prefixes("127.0.0.2/32") })
	for _, field := range []string{
		"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Host", "X-Host",
		"X_Theme", "If-None-Match",
	} {
		path := "/" + field
		r.on(path, saysSent(field))
		first := r.get(t, path)
		if !first.stored {
			t.Errorf("Vary: %s: %s", field, first)
		}
		r.getFrom(t, "127.0.0.3", path).wantHit(t, "Vary: "+field+", from another", first.body)
		if field != "Host" {
			r.getFrom(t, "127.0.0.3", path, field, "https").wantHit(t,
				"Vary: "+field+" with a value that isn't believed", first.body)
		}
	}
	r.on("/proto", saysSent("X-Forwarded-Proto"))
	for i, proto := range []string{"http", "https", "http", "https"} {
		if s := r.getFrom(t, "127.0.0.2", "/proto", "X-Forwarded-Proto", proto); s.body != proto || s.hit != (i >= 2) {
			t.Errorf("a proxy says %s: %s", proto, s)
		}
	}
}
