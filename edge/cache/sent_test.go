package cache_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// getFrom is get from another address of the loopback.
func getFrom(tb testing.TB, r *edgetest.Rig, ip, path string, header ...string) *edgetest.Seen {
	tb.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
	c, err := d.DialContext(tb.Context(), "tcp", r.Address)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, edgetest.RequestHead("GET", path, header))
	return edgetest.Receive(tb, bufio.NewReader(c), "GET")
}

// saysSent answers with what the origin was sent in a field, and varies on it.
func saysSent(name string) edgetest.Answer {
	return func(req *mesh.Request, n int) *mesh.Response {
		body := strings.Join(req.Header.Values(name), "|")
		return edgetest.Always(200, body, "Cache-Control", "max-age=60", "Vary", name)(req, n)
	}
}

// A response that varies on what says who asks is for that one: the edge writes or drops such fields, so what the
// client sent in them tells nothing apart.
func TestResponseThatVariesOnWhoAsksIsNotShared(t *testing.T) {
	for name, change := range map[string]func(*edgetest.Config){
		"trusted": func(s *edgetest.Config) {
			s.Edge = func(e *node.Edge) { e.TrustedProxies = edgetest.Prefixes("127.0.0.0/8") }
		}, "not trusted": func(*edgetest.Config) {},
	} {
		r := edgetest.Start(t, edgetest.Cached(nil, change))
		for _, field := range []string{
			"X-Forwarded-For", "CF-Connecting-IP", "True-Client-IP", "X-Real-IP", "Forwarded", "X-Request-Id",
			"Traceparent", "Tracestate",
		} {
			path := "/" + field
			r.On(path, saysSent(field))
			for range 2 {
				for _, header := range [][]string{nil, {field, "10.0.0.1"}} {
					if s := getFrom(t, r, "127.0.0.2", path, header...); s.Hit || s.Stored || s.StatusCode != 200 {
						t.Errorf("%s, Vary: %s, %q: %s", name, field, header, s)
					}
				}
			}
		}
	}
}

// Where the route says that responses may vary on it, each gets what is made for the value that its origin is sent.
func TestRouteLetsResponsesVaryOnForwardedFor(t *testing.T) {
	vary := func(c *node.Cache) { c.Vary = []string{"X-Forwarded-For"} }
	trusts := func(s *edgetest.Config) {
		s.Edge = func(e *node.Edge) { e.TrustedProxies = edgetest.Prefixes("127.0.0.2/32") }
	}
	r := edgetest.Start(t, edgetest.Cached(vary, trusts))
	r.On("/a", saysSent("X-Forwarded-For"))
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
		s := getFrom(t, r, a.from, "/a", header...)
		if s.Text != a.want || s.Hit != (i >= len(asks)-1) {
			t.Errorf("%d, from %s: %s, want %q", i, a.from, s, a.want)
		}
	}
}

// What the key has already, or what never reaches the origin, makes no variants.
func TestFieldsThatTellNothingApartMakeNoVariants(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil, func(s *edgetest.Config) {
		s.Edge = func(e *node.Edge) { e.TrustedProxies = edgetest.Prefixes("127.0.0.2/32") }
	}))
	for _, field := range []string{
		"X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Host", "X-Host",
		"X_Theme", "If-None-Match",
	} {
		path := "/" + field
		r.On(path, saysSent(field))
		first := r.Get(t, path)
		if !first.Stored {
			t.Errorf("Vary: %s: %s", field, first)
		}
		getFrom(t, r, "127.0.0.3", path).WantHit(t, "Vary: "+field+", from another", first.Text)
		if field != "Host" {
			getFrom(t, r, "127.0.0.3", path, field, "https").WantHit(t,
				"Vary: "+field+" with a value that isn't believed", first.Text)
		}
	}
	r.On("/proto", saysSent("X-Forwarded-Proto"))
	for i, proto := range []string{"http", "https", "http", "https"} {
		if s := getFrom(t, r, "127.0.0.2", "/proto", "X-Forwarded-Proto", proto); s.Text != proto || s.Hit != (i >= 2) {
			t.Errorf("a proxy says %s: %s", proto, s)
		}
	}
}
