package edge_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// policyOf is a policy that does nothing on the full way.
func policyOf(short *exchange.Short) exchange.Policy {
	return exchange.Policy{
		Name: "test", Wrap: func(next exchange.Handler) exchange.Handler { return next }, Short: short,
	}
}

// The short way of a hit and the full chain answer every request with the same bytes. Two edges share what is stored;
// the chain of one has a policy without a short form, which keeps all its routes off the short way.
func TestShortWayAnswersAsTheChain(t *testing.T) {
	requests := 1000
	if text := os.Getenv("SHORT_REQUESTS"); text != "" {
		var err error
		if requests, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	var quick, never atomic.Int64
	r := edgetest.Start(t, edgetest.Cached(nil))
	for path, a := range shortAnswers() {
		r.On(path, a)
	}
	routes := shortRoutes(rng)
	short := shortEdge(t, r, routes, &exchange.Short{Done: func(*exchange.Exchange, *mesh.Response) { quick.Add(1) }})
	full := shortEdge(t, r, routes, nil)
	full.Insert("test", policyOf(&exchange.Short{Done: func(*exchange.Exchange, *mesh.Response) { never.Add(1) }}))
	a, b := talkTo(t, short), talkTo(t, full)
	for range requests {
		request, method := shortRequest(rng)
		b.say(t, request, method) // stores what may be stored
		a.say(t, request, method)
		compareShort(t, a, b, request, method, func() bool {
			return short.CacheFetches() == 0 && full.CacheFetches() == 0
		})
	}
	t.Logf("%d of %d requests took the short way", quick.Load(), 2*requests)
	if int(quick.Load()) < requests/10 {
		t.Errorf("only %d of %d requests took the short way", quick.Load(), 2*requests)
	}
	if never.Load() > 0 {
		t.Errorf("%d requests took the short way past a policy that has none", never.Load())
	}
}

// compareShort checks that both edges answer alike. A fetch in the background may change what is stored between the two
// answers, so they are asked again then, once idle reports that none runs: what the ways themselves differ in stays.
func compareShort(t *testing.T, a, b *talk, request, method string, idle func() bool) {
	t.Helper()
	differed := false
	nodetest.Eventually(t, "both ways answer alike", func() bool {
		if !idle() {
			return false
		}
		one, two := a.say(t, request, method), b.say(t, request, method)
		if one != two && !differed {
			differed = true
			t.Logf("once, for %s\nthe short way:\n%s\nthe chain:\n%s", request, one, two)
		}
		return one == two
	})
}

// shortEdge starts an edge with limits of its own over the rig's cache. In its chains stands a policy with that short
// form.
func shortEdge(t *testing.T, r *edgetest.Rig, routes []node.Route, short *exchange.Short) *edgetest.Rig {
	t.Helper()
	s := edgetest.Start(t, edgetest.Config{Beside: r, Limits: &edgetest.LimitsConfig{Apart: true}, Routes: routes})
	s.Insert("clientAddr", policyOf(short))
	return s
}

// shortAnswers are what the origin says, by path.
func shortAnswers() map[string]edgetest.Answer {
	date := "Sun, 06 Nov 1994 08:49:37 GMT"
	return map[string]edgetest.Answer{
		"/plain": edgetest.Always(200, "hello", "Cache-Control", "max-age=3600", "ETag", `"1"`,
			"Content-Type", "text/plain"),
		"/vary": func(r *mesh.Request, _ int) *mesh.Response {
			return &mesh.Response{Status: 200, Body: []byte(r.Header.Get("Accept-Language")), Header: edgetest.Fields(
				"Cache-Control", "max-age=3600", "Vary", "Accept-Language", "Last-Modified", date)}
		},
		"/cors": edgetest.Always(200, "cors", "Cache-Control", "public, max-age=3600",
			"Access-Control-Allow-Origin", "*"),
		"/tagged": edgetest.Always(200, "tagged", "Cache-Control", "max-age=3600", "Cache-Tag", "a b",
			"Cache-Groups", `"g"`),
		"/silent":  edgetest.Always(200, strings.Repeat("s", 3000), "Content-Type", "text/html"),
		"/private": edgetest.Always(200, "private", "Cache-Control", "private, max-age=3600"),
		"/nostore": edgetest.Always(200, "no-store", "Cache-Control", "no-store"),
		"/missing": edgetest.Always(404, "missing", "Cache-Control", "max-age=3600"),
		"/moved":   edgetest.Always(301, "", "Cache-Control", "max-age=3600", "Location", "/plain"),
		"/empty":   edgetest.Always(204, "", "Cache-Control", "max-age=3600"),
		"/cookie":  edgetest.Always(200, "cookie", "Cache-Control", "max-age=3600", "Set-Cookie", "a=b"),
		"/large": edgetest.Always(200, strings.Repeat("0123456789", 40_000), "Cache-Control", "max-age=3600",
			"ETag", `"l"`),
	}
}

// shortPaths are the paths that the origin knows, and two that it doesn't.
var shortPaths = strings.Fields("/plain /vary /cors /tagged /silent /private /nostore /missing /moved /empty /cookie " +
	"/large /none /plain?b=2&a=1 /plain?a=1&b=2 /vary?utm=x /plain?")

// shortRoutes are routes by host, r0.test and so on, with caches, limits and rules for responses as chance has it.
func shortRoutes(rng *rand.Rand) []node.Route {
	some := func() bool { return rng.IntN(2) == 0 }
	routes := make([]node.Route, 0, 16)
	for i := range cap(routes) {
		r := edgetest.CachedRoute("/*", func(c *node.Cache) {
			c.Compress, c.StripTags, c.RequestDirectives = rng.IntN(4) == 0, some(), some()
			c.Query.Sort = some()
			if some() {
				c.Query.Drop = []string{"utm"}
			}
			if some() {
				c.TTL = node.Duration(time.Hour)
			}
			if some() {
				c.Key = []node.RequestPart{{Name: "X-Key"}, {Cookie: true, Name: "lang"}}
			}
			if rng.IntN(4) == 0 {
				c.Bypass = []node.RequestPart{{Name: "X-Bypass"}}
			}
			if some() {
				c.Cookies = node.CookiesStrip
			}
		})
		r.Name, r.Host = fmt.Sprintf("r%d", i), node.Host(fmt.Sprintf("r%d.test", i))
		if some() {
			r.Rewrite = &node.Rewrite{
				Response: node.Edits{Set: map[string]string{"X-Set": "1"}, Remove: []string{"ETag"}},
			}
		}
		r.Limit = shortLimits(rng)
		routes = append(routes, r)
	}
	return routes
}

// shortLimits are at most two limits, some of which refuse soon.
func shortLimits(rng *rand.Rand) (out []node.Limit) {
	forms := []node.HeaderForm{
		node.HeaderDraft8, node.HeaderDraft7, node.HeaderDraft6, node.HeaderLegacy, node.HeaderNone,
	}
	for range rng.IntN(3) {
		change := func(l *node.Limit) {
			l.Headers = forms[rng.IntN(len(forms))]
			l.Shadow, l.SkipFailed = rng.IntN(4) == 0, rng.IntN(4) == 0
			if rng.IntN(3) == 0 {
				edgetest.By("header:X-Key")(l)
			}
		}
		switch rng.IntN(4) {
		case 0:
			out = append(out, edgetest.InFlight(100, change))
		case 1:
			out = append(out, edgetest.Per("20/1h", change))
		default:
			out = append(out, edgetest.Per("1000000/1h", change))
		}
	}
	return out
}

// shortRequest is a request as chance has it, and its method.
func shortRequest(rng *rand.Rand) (request, method string) {
	pick := func(list ...string) string { return list[rng.IntN(len(list))] }
	method = pick("GET", "GET", "GET", "GET", "GET", "HEAD")
	version := pick("1.1", "1.1", "1.1", "1.0")
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/%s\r\nHost: r%d.test\r\nX-Request-Id: id%d\r\nX-Forwarded-For: 192.0.2.%d\r\n", method,
		pick(shortPaths...), version, rng.IntN(16), rng.IntN(1000), rng.IntN(3))
	for _, line := range []string{
		"Accept-Language: " + pick("de", "en"), "Accept-Encoding: " + pick("gzip", "br, gzip", "identity"),
		"If-None-Match: " + pick(`"1"`, `"l"`, "*"), "Range: bytes=" + pick("0-1", "2-", "-3", "9999999-"),
		"Cache-Control: " + pick("no-cache", "max-age=0", "only-if-cached", "max-stale"), "Origin: http://a.test",
		"Cookie: lang=" + pick("de", "en"), "Authorization: Basic eA==", "X-Key: " + pick("1", "2"), "X-Bypass: 1",
		"If-Modified-Since: Mon, 07 Nov 1994 08:49:37 GMT", "Connection: " + pick("close", "keep-alive"),
		"X-Forwarded-Proto: https", "User-Agent: test", "Pragma: no-cache",
	} {
		if rng.IntN(10) == 0 {
			b.WriteString(line + "\r\n")
		}
	}
	return b.String() + "\r\n", method
}

// talk is one client that sends its requests one after another.
type talk struct {
	addr string
	conn net.Conn
	in   *bufio.Reader
	seen bytes.Buffer // bytes of the response
}

func talkTo(t *testing.T, r *edgetest.Rig) *talk {
	t.Helper()
	c := &talk{addr: r.Address}
	t.Cleanup(c.close)
	return c
}

func (c *talk) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// passing are the values that depend on the moment, and the key of a limit's store.
var passing = regexp.MustCompile(`(?m)(^Age: |ttl=|;t=|reset=|-Reset: |^Retry-After: |^Date: \w+, |pk=:)[^;,\r]*`)

// say sends a request and gives the bytes of its response, without what depends on the moment.
func (c *talk) say(t *testing.T, request, method string) string {
	t.Helper()
	if c.conn == nil {
		var err error
		if c.conn, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", c.addr); err != nil {
			t.Fatal(err)
		}
		c.in = bufio.NewReader(io.TeeReader(c.conn, &c.seen))
	}
	_ = c.conn.SetDeadline(time.Now().Add(30 * time.Second))
	c.seen.Reset()
	if _, err := io.WriteString(c.conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		t.Fatalf("%s: %v", request, err)
	}
	if resp.Close {
		c.close()
	}
	return passing.ReplaceAllString(c.seen.String(), "$1*")
}

// A policy that has no short form keeps its routes off the short way, wherever it stands before the cache; one behind
// the cache, which a hit never reaches, doesn't.
func TestPolicyWithoutShortFormKeepsRoutesOffTheShortWay(t *testing.T) {
	for behind, quickly := range map[string]bool{
		"identify": false, "observe": false, "problems": false, "contain": false, "clientAddr": false, "cache": true,
		"admit": true,
	} {
		r := edgetest.Start(t, edgetest.Cached(nil))
		r.On("/a", edgetest.Always(200, "a", "Cache-Control", "max-age=60"))
		var quick atomic.Int64
		r.Insert("identify", policyOf(&exchange.Short{Done: func(*exchange.Exchange, *mesh.Response) { quick.Add(1) }}))
		r.Insert(behind, policyOf(nil))
		r.Get(t, "/a")
		r.Get(t, "/a").WantHit(t, behind, "a")
		if quickly { // what is done comes after the response
			nodetest.Eventually(t, "a request takes the short way", func() bool { return quick.Load() == 1 })
		} else if n := quick.Load(); n > 0 {
			t.Errorf("behind %s: %d requests took the short way", behind, n)
		}
	}
}

// A panic on the short way costs nothing: the request is answered on the full way, and what a limit had given on the
// short way is given back.
func TestPanicOnTheShortWayCostsNothing(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Always(200, "a", "Cache-Control", "max-age=60"))
	routes := []node.Route{edgetest.CachedRoute("/*", nil)}
	routes[0].Name, routes[0].Limit = "r", []node.Limit{edgetest.Per("100/1h")}
	var panics atomic.Int64
	s := shortEdge(t, r, routes, &exchange.Short{Leave: func(*exchange.Exchange, *mesh.Response) {
		if panics.Add(1) == 1 {
			panic("secret")
		}
	}})
	c := talkTo(t, s)
	for i, want := range []string{"r=99", "r=98", "r=97"} { // a miss, the panic, a hit
		got := c.say(t, "GET /a HTTP/1.1\r\nHost: example.test\r\n\r\n", "GET")
		if !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.Contains(got, want) || strings.Contains(got,
			"hit") != (i > 0) {
			t.Errorf("request %d: got %s, want %s", i+1, got, want)
		}
	}
	if panics.Load() != 2 {
		t.Errorf("%d requests came as far as the panic", panics.Load())
	}
}

// The policies that a hit passes by without any check or effect are those that only act on errors and panics.
func TestPoliciesThatHitsPassBy(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	route := edgetest.CachedRoute("/x", nil)
	route.Limit = []node.Limit{edgetest.Per("1/1h")}
	if got := r.PassedByHits(route); !slices.Equal(got, []string{"problems", "contain"}) {
		t.Errorf("a hit passes by %q", got)
	}
}

// A panic after the response has been written leaves the client with that one response: the request doesn't start
// again.
func TestPanicBehindAResponseGivesNoSecondOne(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	for _, path := range []string{"/a", "/b"} {
		r.On(path, edgetest.Always(200, "body of "+path, "Cache-Control", "max-age=60"))
	}
	var panics atomic.Int64
	r.Insert("clientAddr", policyOf(&exchange.Short{Done: func(*exchange.Exchange, *mesh.Response) {
		if panics.Add(1) == 1 {
			panic("secret")
		}
	}}))
	c := talkTo(t, r)
	for _, path := range []string{"/a", "/b", "/a", "/b", "/a"} { // two misses, then hits, the first of which panics
		got := c.say(t, "GET "+path+" HTTP/1.1\r\nHost: example.test\r\n\r\n", "GET")
		if !strings.HasPrefix(got, "HTTP/1.1 200") || !strings.HasSuffix(got, "body of "+path) {
			t.Errorf("%s: got %s", path, got)
		}
	}
	nodetest.Eventually(t, "all hits came as far as the panic", func() bool { return panics.Load() == 3 })
}

// A permit that was refunded before the panic isn't refunded a second time.
func TestPanicOnTheShortWayRefundsOnce(t *testing.T) {
	r := edgetest.Start(t, edgetest.Cached(nil))
	r.On("/a", edgetest.Always(200, "a", "Cache-Control", "max-age=60"))
	r.On("/fails", edgetest.Always(500, "", "Cache-Control", "no-store"))
	routes := []node.Route{edgetest.CachedRoute("/*", nil)}
	routes[0].Name = "r"
	routes[0].Limit = []node.Limit{edgetest.Per("3/1h", func(l *node.Limit) { l.SkipSuccessful = true })}
	s := shortEdge(t, r, routes, &exchange.Short{})
	var panics atomic.Int64
	s.Insert("identify", policyOf(&exchange.Short{Leave: func(*exchange.Exchange, *mesh.Response) { // after the limit's
		if panics.Add(1) == 1 {
			panic("secret")
		}
	}}))
	c := talkTo(t, s)
	var got []string
	for _, path := range []string{"/fails", "/a", "/a", "/fails", "/fails", "/fails"} {
		resp := c.say(t, "GET "+path+" HTTP/1.1\r\nHost: example.test\r\n\r\n", "GET")
		got = append(got, resp[len("HTTP/1.1 "):][:3])
	}
	if want := []string{"500", "200", "200", "500", "500", "429"}; !slices.Equal(got, want) || panics.Load() != 1 {
		t.Errorf("got %q, want %q; %d hits came as far as the panic", got, want, panics.Load())
	}
}
