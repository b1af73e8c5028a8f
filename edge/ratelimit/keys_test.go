package ratelimit_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/node"
)

// Which addresses are one client, as the ip-key-generator of express-rate-limit has it.
func TestAddressesOfOneNetworkAreOneClient(t *testing.T) {
	cases := []struct {
		what         string
		bits         int // 0 for the default
		first, other string
		same         bool
	}{
		{"IPv4", 0, "192.0.2.1", "192.0.2.1", true},
		{"IPv4 neighbours", 0, "192.0.2.1", "192.0.2.2", false},
		{"IPv4 whatever the subnet", 1, "192.0.2.1", "192.0.2.2", false},
		{"mapped, dotted", 0, "192.0.2.3", "::ffff:192.0.2.3", true},
		{"mapped, in hexadecimal", 0, "192.0.2.4", "::ffff:c000:0204", true},
		{"mapped, written out", 0, "192.0.2.5", "0:0:0:0:0:ffff:c000:205", true},
		{"mapped neighbours", 0, "::ffff:192.0.2.6", "::ffff:192.0.2.7", false},
		{"one /56", 0, "2001:db8:1:100::1", "2001:db8:1:1ff:ffff::2", true},
		{"two of /56", 0, "2001:db8:2:100::1", "2001:db8:2:200::1", false},
		{"one /64", 64, "2001:db8:3:1::1", "2001:db8:3:1:ffff::1", true},
		{"two of /64 in one /56", 64, "2001:db8:4:1::1", "2001:db8:4:2::1", false},
		{"one /63", 63, "2001:db8:5:2::1", "2001:db8:5:3::1", true},
		{"two of /63", 63, "2001:db8:6:1::1", "2001:db8:6:2::1", false},
		{"one address", 128, "2001:db8:7::1", "2001:db8:7:0:0:0:0:1", true},
		{"two addresses", 128, "2001:db8:8::1", "2001:db8:8::2", false},
		{"IPv6 that ends in a dotted one", 0, "2001:db8:9::192.0.2.1", "2001:db8:9::192.0.2.2", true},
		{"a zone", 0, "fe80::1%eth0", "fe80::2%eth1", true},
		{"a port", 0, "192.0.2.8", "192.0.2.8:4711", true},
		{"brackets and port", 128, "2001:db8:a::1", "[2001:db8:a::1]:4711", true},
		{"in capitals", 128, "2001:DB8:B::A", "2001:db8:b::a", true},
	}
	var routes []node.Route
	for i, c := range cases {
		routes = append(routes, edgetest.LimitedRoute("r"+strconv.Itoa(i), edgetest.Per("1/1h", func(l *node.Limit) {
			if c.bits > 0 {
				l.IPv6Prefix = c.bits
			}
		})))
	}
	r := edgetest.Start(t, edgetest.Limited(routes...))
	for i, c := range cases {
		path := "/r" + strconv.Itoa(i)
		first := r.Passes(t, 2, path, "X-Forwarded-For", c.first)
		if other := r.Passes(t, 1, path, "X-Forwarded-For", c.other); first != 1 || (other == 0) != c.same {
			t.Errorf("%s: %d requests of %s and %d of %s passed", c.what, first, c.first, other, c.other)
		}
	}
}

// What else can tell clients apart, and what counts if a request hasn't got it.
func TestKeysTellClientsApart(t *testing.T) {
	orgs := edgetest.Route("orgs", "/orgs/{org}/*", func(r *node.Route) {
		r.To.Name, r.Limit = "echo", node.Limits{edgetest.Per("1/1h", edgetest.By("param:org"))}
	})
	r := edgetest.Start(t, edgetest.Limited(orgs,
		edgetest.LimitedRoute("header", edgetest.Per("1/1h", edgetest.By("header:X-Api-Key"))),
		edgetest.LimitedRoute("cookie", edgetest.Per("1/1h", edgetest.By("cookie:session"))),
		edgetest.LimitedRoute("all", edgetest.Per("1/1h", edgetest.By("all"))),
		edgetest.LimitedRoute("several", edgetest.Per("1/1h", edgetest.By("header:X-Tenant", "ip"))),
		edgetest.LimitedRoute("fields", edgetest.Per("1/1h", edgetest.By("header:X-A", "header:X-B")))))
	for _, c := range []struct {
		what, path string
		passes     bool
		header     []string
	}{
		{"a key", "/header", true, []string{"X-Api-Key", "one"}},
		{"the key again", "/header", false, []string{"X-Api-Key", "one"}},
		{"the key from elsewhere", "/header", false, []string{"X-Api-Key", "one", "X-Forwarded-For", "192.0.2.9"}},
		{"the field in another case", "/header", false, []string{"x-api-KEY", "one"}},
		{"another key", "/header", true, []string{"X-Api-Key", "two"}},
		{"the key in capitals is another", "/header", true, []string{"X-Api-Key", "ONE"}},
		{"two keys are neither", "/header", true, []string{"X-Api-Key", "one", "X-Api-Key", "two"}},
		{"an empty key", "/header", true, []string{"X-Api-Key", ""}},
		{"an empty key again", "/header", false, []string{"X-Api-Key", "", "X-Forwarded-For", "192.0.2.9"}},
		{"no key", "/header", true, []string{"X-Forwarded-For", "192.0.2.1"}},
		{"no key again", "/header", false, []string{"X-Forwarded-For", "192.0.2.1"}},
		{"no key from elsewhere", "/header", true, []string{"X-Forwarded-For", "192.0.2.2"}},
		{"a key that looks like an address", "/header", true, []string{"X-Api-Key", "192.0.2.2"}},
		{"it hasn't touched that of the address", "/header", true, []string{"X-Forwarded-For", "192.0.2.3"}},

		{"a session", "/cookie", true, []string{"Cookie", "a=b; session=s1; c=d"}},
		{"the session again", "/cookie", false, []string{"Cookie", "session=s1"}},
		{"the session in a second line", "/cookie", false, []string{"Cookie", "a=b", "Cookie", "session=s1"}},
		{"another session", "/cookie", true, []string{"Cookie", "session=s2"}},
		{"another cookie", "/cookie", true, []string{"Cookie", "sessions=s1"}},
		{"no session again", "/cookie", false, nil},

		{"a parameter", "/orgs/a/users", true, nil},
		{"the parameter again", "/orgs/a", false, []string{"X-Forwarded-For", "192.0.2.1"}},
		{"the parameter, encoded", "/orgs/%61/x", false, nil},
		{"another parameter", "/orgs/b/users", true, nil},
		{"an address as parameter", "/orgs/bob@example.com/x", true, nil},
		{"the address in another spelling", "/orgs/bob%40example.com/x", false, nil},
		{"the address in a third", "/orgs/%62o%62%40example%2Ecom/x", false, nil},
		{"what only looks like it", "/orgs/bob%2540example.com/x", true, nil},

		{"all", "/all", true, []string{"X-Forwarded-For", "192.0.2.1"}},
		{"all again", "/all", false, []string{"X-Forwarded-For", "192.0.2.2"}},

		{"tenant and address", "/several", true, []string{"X-Tenant", "a", "X-Forwarded-For", "192.0.2.1"}},
		{"both again", "/several", false, []string{"X-Tenant", "a", "X-Forwarded-For", "192.0.2.1"}},
		{"the other tenant", "/several", true, []string{"X-Tenant", "b", "X-Forwarded-For", "192.0.2.1"}},
		{"the other address", "/several", true, []string{"X-Tenant", "a", "X-Forwarded-For", "192.0.2.2"}},
		{"no tenant", "/several", true, []string{"X-Forwarded-For", "192.0.2.1"}},
		{"no tenant again", "/several", false, []string{"X-Forwarded-For", "192.0.2.1"}},

		{"two fields", "/fields", true, []string{"X-A", "a", "X-B", "b"}},
		{"the other way round", "/fields", true, []string{"X-A", "b", "X-B", "a"}},
		{"one of them", "/fields", true, []string{"X-A", "a"}},
		{"the other", "/fields", true, []string{"X-B", "b"}},
		{"one of them again", "/fields", false, []string{"X-A", "a"}},
	} {
		if got := r.Passes(t, 1, c.path, c.header...) == 1; got != c.passes {
			t.Errorf("%s: passed is %t", c.what, got)
		}
	}
}

// A request that lacks its key counts by its address, and nobody can count as another's address or fall out of his own.
func TestMissingKeyCountsByAddress(t *testing.T) {
	r := edgetest.Start(t,
		edgetest.Limited(edgetest.LimitedRoute("k", edgetest.Per("2/1h", edgetest.By("header:X-Api-Key")))))
	victim := []string{"X-Forwarded-For", "192.0.2.1"}
	for _, forged := range []string{
		"192.0.2.1", "\x00192.0.2.1", "%00192.0.2.1", "\\u0000192.0.2.1", " 192.0.2.1", "\t192.0.2.1", "192.0.2.1 ",
		"ip:192.0.2.1", "|192.0.2.1", "unknown", "", "\x80192.0.2.1", "\xc0\x80192.0.2.1",
	} {
		resp, body := r.Raw(t, "GET /k HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 203.0.113.7\r\n"+
			"X-Api-Key: "+forged+"\r\nConnection: close\r\n\r\n")
		switch resp.StatusCode {
		case http.StatusOK, http.StatusTooManyRequests:
		case http.StatusBadRequest: // RFC 9110 §5.5 has no control characters in values
			if !strings.Contains(forged, "\x00") {
				t.Errorf("%q: got %s", forged, body)
			}
		default:
			t.Errorf("%q: got %d %s", forged, resp.StatusCode, body)
		}
	}
	if n := r.Passes(t, 3, "/k", victim...); n != 2 {
		t.Errorf("%d requests of the victim passed, want 2", n)
	}
	for _, header := range []string{"X_Api_Key", "X-Api-Key ", "Connection: X-Api-Key\r\nX-Api-Key"} {
		r.Raw(t, "GET /k HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\n"+header+": other\r\n"+
			"Connection: close\r\n\r\n")
	}
	if n := r.Passes(t, 1, "/k", victim...); n != 0 {
		t.Error("the victim has got something back")
	}
}

// Who is exempt isn't counted, and is told nothing.
func TestExemptRequestsAreNotCounted(t *testing.T) {
	exempt := edgetest.Per("1/1h", edgetest.By("header:X-Api-Key"), func(l *node.Limit) {
		l.Exempt.Clients, l.Exempt.Keys = edgetest.Prefixes("198.51.100.0/24", "2001:db8::/32"), []string{"partner"}
		for _, path := range []string{"/e/health", "/e/public/*", "/e/{id}/status"} {
			p, err := node.ParsePattern(path)
			if err != nil {
				t.Fatal(err)
			}
			l.Exempt.Paths = append(l.Exempt.Paths, p)
		}
	})
	r := edgetest.Start(t, edgetest.Limited(
		edgetest.LimitedRoute("e", exempt, edgetest.Per("100/1h", func(l *node.Limit) { l.Name = "other" }))))
	for _, c := range []struct {
		path   string
		exempt bool
		header []string
	}{
		{"/e/x", true, []string{"X-Forwarded-For", "198.51.100.7"}},
		{"/e/x", true, []string{"X-Forwarded-For", "::ffff:198.51.100.7"}},
		{"/e/x", true, []string{"X-Forwarded-For", "2001:db8:ffff::1"}},
		{"/e/x", false, []string{"X-Forwarded-For", "198.51.101.7"}},
		{"/e/x", false, []string{"X-Forwarded-For", "198.51.100.7, 203.0.113.1"}},
		{"/e/x", true, []string{"X-Api-Key", "partner"}},
		{"/e/x", false, []string{"X-Api-Key", "partners"}},
		{"/e/x", false, []string{"X-Api-Key", "partner", "X-Api-Key", "partner"}},
		{"/e/x", false, []string{"Cookie", "X-Api-Key=partner"}},
		{"/e/health", true, []string{"X-Api-Key", "a"}},
		{"/e/health?x=1", true, []string{"X-Api-Key", "a"}},
		{"/e/h%65alth", true, []string{"X-Api-Key", "a"}},
		{"/e/health/", false, []string{"X-Api-Key", "b"}},
		{"/e/Health", false, []string{"X-Api-Key", "c"}},
		{"/e//health", false, []string{"X-Api-Key", "d"}},
		{"/e/x?/e/health", false, []string{"X-Api-Key", "e"}},
		{"/e/health;a", false, []string{"X-Api-Key", "f"}},
		{"/e/public", true, []string{"X-Api-Key", "a"}},
		{"/e/public/x/y", true, []string{"X-Api-Key", "a"}},
		{"/e/7/status", true, []string{"X-Api-Key", "a"}},
		{"/e/7/status/x", false, []string{"X-Api-Key", "g"}},
	} {
		want := 1
		if c.exempt {
			want = 3
		}
		if n := r.Passes(t, 3, c.path, c.header...); n != want {
			t.Errorf("%s %q: %d of 3 passed, want %d", c.path, c.header, n, want)
		}
		if c.exempt {
			resp, _ := r.Do(t, "GET", c.path, "", c.header...)
			if q := edgetest.OnlyQuota(t, resp.Header); q.Name != "other" {
				t.Errorf("%s %q: told of %s", c.path, c.header, q.Name)
			}
		}
	}
}

// X-Forwarded-For counts as far as trusted proxies wrote it.
func TestForwardedForCountsAsFarAsProxiesAreTrusted(t *testing.T) {
	honest := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{},
		Edge:   func(e *node.Edge) { e.TrustedProxies = nil },
		Routes: []node.Route{edgetest.LimitedRoute("x", edgetest.Per("3/1h"))},
	})
	passed := 0
	for _, from := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1", "127.0.0.1, 192.0.2.4", "rubbish"} {
		passed += honest.Passes(t, 1, "/x", "X-Forwarded-For", from, "Forwarded", "for="+from, "X-Real-Ip", from,
			"Client-IP", from, "True-Client-IP", from)
	}
	if passed != 3 {
		t.Errorf("%d passed of one peer that isn't trusted, want 3", passed)
	}
	proxied := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{},
		Edge:   func(e *node.Edge) { e.TrustedProxies = edgetest.Prefixes("127.0.0.0/8", "10.0.0.0/8") },
		Routes: []node.Route{edgetest.LimitedRoute("x", edgetest.Per("3/1h"))},
	})
	passed = 0
	for _, chain := range []string{
		"192.0.2.1", "1.1.1.1, 192.0.2.1", "2.2.2.2, 192.0.2.1, 10.1.1.1",
		"3.3.3.3,192.0.2.1:99 , 10.1.1.1,10.2.2.2", "rubbish, 192.0.2.1",
	} {
		passed += proxied.Passes(t, 1, "/x", "X-Forwarded-For", chain)
	}
	if passed != 3 {
		t.Errorf("%d passed of one client with forged entries before it, want 3", passed)
	}
	if n := proxied.Passes(t, 1, "/x", "X-Forwarded-For", "192.0.2.1, 192.0.2.2"); n != 1 {
		t.Error("another client is refused")
	}
}
