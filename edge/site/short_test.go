package site_test

import (
	"bufio"
	"bytes"
	"net"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/site"
)

// asker sends the same request on a connection again and again.
type asker struct {
	conn net.Conn
	in   *bufio.Reader
	ask  []byte
}

func askerOf(tb testing.TB, r *edgetest.Rig, path string, header ...string) *asker {
	tb.Helper()
	conn := r.Dial(tb)
	tb.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Time{})
	return &asker{conn, bufio.NewReaderSize(conn, 128<<10), []byte(edgetest.RequestHead("GET", path, header))}
}

// once sends the request and reads the response, whose body must have n bytes.
func (a *asker) once(tb testing.TB, n int) {
	tb.Helper()
	if _, err := a.conn.Write(a.ask); err != nil {
		tb.Fatal(err)
	}
	for end := false; !end; {
		line, err := a.in.ReadSlice('\n')
		if err != nil {
			tb.Fatal(err)
		}
		end = len(line) == 2
		if bytes.HasPrefix(line, []byte("HTTP/1.1 ")) && (line[9] != '2' && n > 0 || line[9] != '3' && n == 0) {
			tb.Fatalf("got %s", line)
		}
	}
	if _, err := a.in.Discard(n); err != nil {
		tb.Fatal(err)
	}
}

// shortCases are requests that the short way answers without an allocation.
func shortCases(t *testing.T, r *edgetest.Rig) map[string]*asker {
	t.Helper()
	resp, _ := ask(t, r, "GET", "/app.js")
	return map[string]*asker{
		"file":       askerOf(t, r, "/small.txt", "User-Agent", "x", "Accept", "*/*"),
		"page":       askerOf(t, r, "/docs/", "Accept", "text/html"),
		"coding":     askerOf(t, r, "/app.js", "Accept-Encoding", "gzip, deflate, br, zstd"),
		"not there":  askerOf(t, r, "/users/7", "Accept", "text/html"),
		"unmodified": askerOf(t, r, "/app.js", "If-None-Match", resp.Header.Get("ETag")),
		"rules":      askerOf(t, r, "/page.css"),
	}
}

// Small files in memory cost no allocation, from the request's first byte to the response's last.
func TestShortWayAllocatesNothing(t *testing.T) {
	s := edgetest.NewSites(t)
	s.Publish("www", s.Deploy(t, www, site.Options{SPA: "/about.html"}, func(m *site.Manifest) {
		m.Headers = []site.HeaderRule{{Line: 1, Path: "/*", Set: []site.HeaderField{{Name: "X-A", Value: "b"}}}}
	}))
	route := edgetest.SiteRoute("/*", "site:www")
	below := edgetest.SiteRoute("/x/{y}/*", "site:www")
	below.Rewrite = &node.Rewrite{}
	if err := below.Rewrite.Path.UnmarshalText([]byte("/{*}")); err != nil {
		t.Fatal(err)
	}
	r := edgetest.Start(t, edgetest.Config{Routes: []node.Route{route, below}, Sites: s})
	sizes := map[string]int{"file": 10, "page": 7, "coding": 6, "not there": 8, "unmodified": 0, "rules": 3}
	for name, a := range shortCases(t, r) {
		for range 20 { // the first brings it into memory
			a.once(t, sizes[name])
		}
		if n := testing.AllocsPerRun(300, func() { a.once(t, sizes[name]) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// A hit of each size.
func BenchmarkHit(b *testing.B) {
	for _, n := range []int{2 << 10, 20 << 10, 64 << 10, 200 << 10} {
		b.Run(node.Size(n).String(), func(b *testing.B) {
			s := edgetest.NewSites(b)
			s.Publish("www", s.Deploy(b, edgetest.Folder{"/f.bin": digits(n)}, site.Options{}))
			r := edgetest.Start(b, edgetest.Config{
				Routes: []node.Route{edgetest.SiteRoute("/*", "site:www")}, Sites: s,
			})
			a := askerOf(b, r, "/f.bin")
			a.once(b, n)
			b.ReportAllocs()
			for b.Loop() {
				a.once(b, n)
			}
		})
	}
}
