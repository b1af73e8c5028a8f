package edge_test

import (
	"bufio"
	"net/netip"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	"millrace/edge/ratelimit"
	"millrace/mesh"
	"millrace/node"
)

// plentiful are limits that no benchmark uses up.
var plentiful = map[string][]node.Limit{
	"none":   nil,
	"one":    {edgetest.Per("2000000000/1h")},
	"two":    {edgetest.Per("2000000000/1h"), edgetest.Per("2000000000/2h", edgetest.By("header:X-Api-Key"))},
	"bucket": {edgetest.Per("2000000000/1s", func(l *node.Limit) { l.Algorithm = node.AlgorithmBucket })},
	"places": {edgetest.InFlight(1000)},
	"silent": {edgetest.Per("2000000000/1h", edgetest.HeaderForm(node.HeaderNone))},
	"denied": {edgetest.Per("1/1h")},
}

// limitedServe serves a request of a route with limits that answers by itself.
func limitedServe(tb testing.TB, limits []node.Limit) func() *mesh.Response {
	tb.Helper()
	route := edgetest.LimitedRoute("x", limits...)
	route.To, route.Respond = node.Target{}, &node.Respond{Status: 200}
	r := edgetest.Start(tb, edgetest.Limited(route))
	header := edgetest.Fields("Host", "shop.example", "User-Agent", "Mozilla/5.0", "Accept", "text/html", "X-Api-Key",
		"0123456789abcdef", "X-Forwarded-For", "192.0.2.1")
	peer := netip.MustParseAddr("127.0.0.1")
	return func() *mesh.Response {
		x := &exchange.Exchange{}
		ratelimit.Attach(x, &ratelimit.Grants{}) // as the front does
		x.Method, x.Target, x.Header, x.Scheme, x.Started, x.Peer = "GET", "/x/y", header, "http", time.Now(), peer
		return r.Serve(tb.Context(), x)
	}
}

// A limit allocates the text of its two fields and what they make the header longer by, and nothing without them.
func TestLimitAllocatesItsFieldsOnly(t *testing.T) {
	run := func(name string) float64 {
		serve := limitedServe(t, plentiful[name])
		serve()
		return testing.AllocsPerRun(2000, func() {
			if resp := serve(); resp.Status != 200 {
				t.Fatalf("%s: got %d %s", name, resp.Status, resp.Body)
			}
		})
	}
	base := run("none")
	for name, most := range map[string]float64{"silent": 0, "one": 4, "two": 6, "bucket": 4, "places": 7} {
		got := run(name) - base
		t.Logf("%s: %.0f allocations more than the %.0f without a limit", name, got, base)
		if got > most {
			t.Errorf("%s: %.1f allocations more than without a limit, at most %.0f are due", name, got, most)
		}
	}
}

// The edge's own work for one request of a route without limits, and with some.
func BenchmarkLimited(b *testing.B) {
	for _, name := range []string{"none", "one", "two", "bucket", "places", "silent", "denied"} {
		b.Run(name, func(b *testing.B) {
			serve := limitedServe(b, plentiful[name])
			serve()
			want := 200
			if name == "denied" {
				want = 429
			}
			b.ReportAllocs()
			for b.Loop() {
				if resp := serve(); resp.Status != want {
					b.Fatal(resp.Status)
				}
			}
		})
	}
}

// A hit through a socket, which is answered quickly, without limits and with one.
func BenchmarkLimitedHit(b *testing.B) {
	for _, name := range []string{"none", "one", "two", "silent"} {
		b.Run(name, func(b *testing.B) {
			r, _ := startLimitedCache(b, nil, nil, plentiful[name]...)
			r.On("/a", edgetest.Always(200, "hello", "Cache-Control", "max-age=600"))
			conn := r.Dial(b)
			defer conn.Close()
			_ = conn.SetDeadline(time.Time{})
			in := bufio.NewReader(conn)
			ask := []byte(edgetest.RequestHead("GET", "/a", []string{"X-Api-Key", "0123456789abcdef"}))
			_, _ = conn.Write(ask)
			edgetest.Receive(b, in, "GET")
			b.ReportAllocs()
			for b.Loop() {
				_, _ = conn.Write(ask)
				for line := []byte("HTTP"); len(line) > 2; {
					var err error
					if line, err = in.ReadSlice('\n'); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := in.Discard(len("hello")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
