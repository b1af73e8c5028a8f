package edge_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"millrace/edge"
	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node/http1"
)

// Who counts as the client, behind chains of trusted proxies and of others.
func TestRightmostUntrusted(t *testing.T) {
	trusted := func(a netip.Addr) bool {
		return netip.MustParsePrefix("10.0.0.0/8").Contains(a) || netip.MustParsePrefix("fd00::/8").Contains(a)
	}
	for _, c := range []struct {
		fields string // several fields joined by |
		want   string
	}{
		{"", "10.0.0.1"},
		{"1.2.3.4", "1.2.3.4"},
		{"6.6.6.6, 1.2.3.4", "1.2.3.4"},
		{"6.6.6.6, 1.2.3.4, 10.0.0.2", "1.2.3.4"},
		{"6.6.6.6|1.2.3.4|10.0.0.2,10.0.0.3", "1.2.3.4"},
		{"10.0.0.9", "10.0.0.9"},
		{"garbage", "10.0.0.1"},
		{"1.2.3.4, garbage, 10.0.0.2", "10.0.0.2"},
		{"2001:db8::1", "2001:db8::1"},
		{"[2001:db8::1]:443", "2001:db8::1"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"6.6.6.6, 2001:db8::1, fd00::1", "2001:db8::1"},
		{"1.2.3.4:5678", "1.2.3.4"},
		{"::ffff:1.2.3.4", "1.2.3.4"},
		{"fe80::1%eth0", "fe80::1"},
		{",", "10.0.0.1"},
		{"1.2.3.4,", "10.0.0.1"},
	} {
		var fields []string
		if c.fields != "" {
			fields = strings.Split(c.fields, "|")
		}
		if got := edge.RightmostUntrusted(fields, netip.MustParseAddr("10.0.0.1"), trusted); got.String() != c.want {
			t.Errorf("%q: client is %s, want %s", c.fields, got, c.want)
		}
	}
}

// What the member sees: end-to-end fields as they came, ours set by us, nothing that belongs to the mesh or to one
// connection.
func TestMemberGetsEndToEndFieldsAndOurs(t *testing.T) {
	header := func() mesh.Header {
		return edgetest.Fields(
			"Host", "shop.example",
			"X-Custom", "1",
			"x-custom", "2",
			"Cookie", "a=b",
			"Connection", "close, X-Hop",
			"X-Hop", "1",
			"Keep-Alive", "timeout=5",
			"TE", "trailers",
			"Upgrade", "h2c",
			"Proxy-Authorization", "x",
			"Millrace-Nonce", "forged",
			"millrace-deadline", "99999999",
			"Nats-Rollup", "all",
			"X-Forwarded-For", "6.6.6.6",
			"X-Forwarded-Proto", "https",
			"X-Forwarded-Host", "evil.test",
			"X-Forwarded-Port", "1",
			"Forwarded", "for=6.6.6.6",
			"X-Request-Id", "chosen",
			"Content-Length", "3",
			"Expect", "100-continue",
			"X_Forwarded_For", "6.6.6.6",
			"Millrace_Deadline", "1",
			"Content_Length", "5",
			"X-Real-IP", "6.6.6.6",
			"Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
			"Tracestate", "a=1",
		)
	}
	x := &exchange.Exchange{Method: "POST", Target: "/%61?q=%2F", Header: header(), Body: []byte("abc"), Scheme: "http"}
	got, client := edge.Prepared(x, "192.0.2.7")
	if got.Target != "/a?q=%2F" || got.Host != "shop.example" || client.String() != "192.0.2.7" {
		t.Errorf("target %s, host %s, client %s", got.Target, got.Host, client)
	}
	for _, gone := range []string{
		"Connection", "X-Hop", "Keep-Alive", "TE", "Upgrade", "Proxy-Authorization",
		"Millrace-Nonce", "Millrace-Deadline", "Nats-Rollup", "Forwarded", "X-Forwarded-Port", "Content-Length",
		"Expect", "Host", "X_Forwarded_For", "Millrace_Deadline", "Content_Length", "X-Real-IP",
	} {
		if got.Header.Has(gone) {
			t.Errorf("%s was forwarded", gone)
		}
	}
	for name, want := range map[string]string{
		"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "shop.example",
		"Cookie": "a=b", "Tracestate": "a=1", "Via": "1.1 millrace-test",
	} {
		if v := got.Header.Values(name); len(v) != 1 || v[0] != want {
			t.Errorf("%s is %q, want %q", name, v, want)
		}
	}
	if v := got.Header.Values("X-Custom"); len(v) != 2 || v[0] != "1" || v[1] != "2" {
		t.Errorf("repeated fields became %q", v)
	}
	if id := got.Header.Get("X-Request-Id"); id == "chosen" || len(id) != 32 {
		t.Errorf("request id is %q", id)
	}
	trace := got.Header.Get("Traceparent")
	if !strings.HasPrefix(trace, "00-0af7651916cd43dd8448eb211c80319c-") || !strings.HasSuffix(trace, "-01") ||
		strings.Contains(trace, "b7ad6b7169203331") {
		t.Errorf("trace is %s", trace)
	}

	x = &exchange.Exchange{Method: "POST", Target: "/", Header: header(), Scheme: "http"}
	got, client = edge.Prepared(x, "192.0.2.7", edgetest.Prefix("192.0.2.0/24"))
	for name, want := range map[string]string{
		"X-Forwarded-For": "6.6.6.6, 192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.test",
		"X-Request-Id": "chosen",
	} {
		if v := got.Header.Get(name); v != want {
			t.Errorf("behind a trusted proxy %s is %q, want %q", name, v, want)
		}
	}
	if client.String() != "6.6.6.6" {
		t.Errorf("behind a trusted proxy the client is %s", client)
	}
}

// A Connection field can't remove what the edge or the message's framing needs.
func TestConnectionRemovesNoFieldOfOurs(t *testing.T) {
	x := &exchange.Exchange{Method: "GET", Target: "/", Scheme: "http", Header: edgetest.Fields(
		"Host", "h", "Connection", "Host, X-Forwarded-For, Authorization, X-Request-Id", "Authorization", "Bearer x",
	)}
	got, _ := edge.Prepared(x, "192.0.2.7")
	if got.Header.Get("Authorization") != "Bearer x" || got.Header.Get("X-Forwarded-For") != "192.0.2.7" ||
		got.Host != "h" {
		t.Errorf("got %+v", got)
	}
}

func TestTraceparentIsContinuedOrMade(t *testing.T) {
	for in, continued := range map[string]bool{
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":       true,
		"01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra": true,
		"": false, "garbage": false,
		"ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01":       false,
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":       false,
		"00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01":       false,
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01":       false,
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-extra": false,
	} {
		value, got := exchange.Traceparent(in)
		if got != continued || len(value) != 55 {
			t.Errorf("%q: %q, %t", in, value, got)
		}
		if _, again := exchange.Traceparent(value); !again {
			t.Errorf("%q made %q, which isn't valid", in, value)
		}
	}
}

// Whatever a proxy's field holds, the client is the peer or an address in it, and never one behind which a trusted
// proxy stands that we didn't believe. Trace and id pass only in their own alphabet.
func FuzzForwarded(f *testing.F) {
	f.Add("192.0.2.1, 10.0.0.1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a.test:80")
	f.Add("[2001:db8::1]:443,::ffff:10.0.0.1,", "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "[::1]")
	f.Add("10.0.0.1%eth0, unknown, _hidden", "", "u@h")
	peer := netip.MustParseAddr("10.0.0.9")
	proxies := netip.MustParsePrefix("10.0.0.0/8")
	f.Fuzz(func(t *testing.T, forwarded, trace, host string) {
		client := edge.RightmostUntrusted([]string{forwarded}, peer, proxies.Contains)
		if !client.IsValid() || client.Zone() != "" || client.Is4In6() {
			t.Errorf("client %s from %q", client, forwarded)
		}
		entries := strings.Split(forwarded, ",")
		for i, entry := range entries { // an entry alone gives its address, or nothing
			entries[i] = edge.RightmostUntrusted([]string{entry}, netip.Addr{}, proxies.Contains).String()
		}
		if client != peer && !slices.Contains(entries, client.String()) {
			t.Errorf("client %s isn't in %q", client, forwarded)
		}
		if last := entries[len(entries)-1]; !proxies.Contains(client) && proxies.Contains(peer) && client != peer {
			if addr, err := netip.ParseAddr(last); err == nil && !proxies.Contains(addr) && addr != client {
				t.Errorf("client %s was believed behind the untrusted %s", client, last)
			}
		}
		got, continued := exchange.Traceparent(trace)
		if len(got) != 55 || strings.Trim(got, "0123456789abcdef-") != "" || (continued && got[3:35] != trace[3:35]) {
			t.Errorf("trace %q from %q", got, trace)
		}
		if one, err := http1.CanonicalAuthority(host, "https"); err == nil {
			if again, err := http1.CanonicalAuthority(one, "https"); strings.ContainsAny(one, " \t\r\n/@?#\\\"<>,") ||
				err != nil || again != one {
				t.Errorf("host %q became %q, then %q", host, one, again)
			}
		}
	})
}
