package embedded_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/edge/admin"
	"millrace/embedded"
	"millrace/embedded/embeddedtest"
	"millrace/node"
	"millrace/node/nodetest"
)

// limited is the rest of a configuration: limits, which is a block or empty, and a route /NAME to the upstream for each
// of routes, which are written as NAME or NAME: LIMIT.
func limited(tb testing.TB, url, limits string, routes ...string) string {
	tb.Helper()
	var b strings.Builder
	for _, r := range routes {
		name, limit, _ := strings.Cut(r, ": ")
		if limit != "" {
			limit = "limit: " + limit
		}
		b.WriteString(embeddedtest.YAML(tb, `
			  - path: /$NAME
			    to: upstream:api
			    $LIMIT
			`, "NAME", name, "LIMIT", limit))
	}
	return edgeYAML + embeddedtest.YAML(tb, limits) + embeddedtest.YAML(tb, `
		upstreams:
		  api:
		    targets: [$URL]
		routes:
		$ROUTES
		`, "URL", url, "ROUTES", b.String())
}

// admitted sends requests one after another and returns how many got 200. All others must get 429.
func admitted(tb testing.TB, url string, requests int) (n int) {
	tb.Helper()
	for range requests {
		switch status, body := get(tb, url); status {
		case http.StatusOK:
			n++
		case http.StatusTooManyRequests:
		default:
			tb.Fatalf("%s: %d %s", url, status, body)
		}
	}
	return n
}

// usage returns the usage of a client's key.
func usage(tb testing.TB, n *embedded.Node, limit, key string) admin.LimitUsage {
	tb.Helper()
	all, err := n.LimitUsage(tb.Context(), limit, key)
	if err != nil || len(all) != 1 {
		tb.Fatalf("%s of %s: %+v, %v", key, limit, all, err)
	}
	return all[0]
}

// taker is a member that takes permits.
type taker struct{ *nats.Conn }

// newTaker connects as a member does: with the member token and an inbox under its own name.
func newTaker(tb testing.TB, n *embedded.Node) taker {
	tb.Helper()
	nc, err := nats.Connect(n.ClientURL(), nats.Name("taker"), nats.CustomInboxPrefix("_INBOX_taker"))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(nc.Close)
	return taker{nc}
}

// taken is an answer of api.limit.take.
type taken struct {
	OK        bool      `json:"ok"`
	Max       uint32    `json:"max"`
	Remaining uint32    `json:"remaining"`
	ResetMS   int64     `json:"reset_ms"`
	Error     string    `json:"error"`
	Code      node.Code `json:"code"`
}

func (m taker) ask(tb testing.TB, subject, payload string) (a taken) {
	tb.Helper()
	msg, err := m.Request(subject, []byte(payload), 20*time.Second)
	if err != nil {
		tb.Fatal(err)
	}
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		tb.Fatalf("%s: %s", err, msg.Data)
	}
	return a
}

func (m taker) take(tb testing.TB, payload string) taken {
	tb.Helper()
	return m.ask(tb, "api.limit.take", payload)
}

// A member takes permits of configured limits, with nothing but the member token.
func TestLimitTake(t *testing.T) {
	opts, _ := settings(t, limited(t, app(t, "x").URL, `
		limits:
		  tenant: 3/15m
		  calls:
		    max: 10
		    window: 1h
		    algorithm: bucket
		    burst: 20
		  none: 0/1m
		  jobs:
		    max: 2
		    algorithm: concurrent
		`, "a: tenant"))
	n := open(t, opts)
	m := newTaker(t, n)
	for left := 2; left >= 0; left-- {
		a := m.take(t, `{"limit": "tenant", "key": "acme"}`)
		if !a.OK || a.Max != 3 || a.Remaining != uint32(left) || a.ResetMS < 14*60_000 || a.ResetMS > 15*60_000 {
			t.Errorf("got %+v, want %d left", a, left)
		}
	}
	if a := m.take(t, `{"limit": "tenant", "key": "acme"}`); a.OK || a.Error != "" || a.Remaining != 0 ||
		a.ResetMS < 14*60_000 {
		t.Errorf("the fourth got %+v", a)
	}
	if a := m.take(t, `{"limit": "tenant", "key": "other", "cost": 3}`); !a.OK || a.Remaining != 0 {
		t.Errorf("another key got %+v", a)
	}
	if a := m.take(t, `{"limit": "calls", "key": "acme", "cost": 20}`); !a.OK {
		t.Errorf("the whole bucket: %+v", a)
	}
	if a := m.take(t, `{"limit": "none", "key": "acme"}`); a.OK || a.Error != "" {
		t.Errorf("nothing is allowed, and yet: %+v", a)
	}
	for payload, code := range map[string]node.Code{
		`{"limit": "tenants", "key": "acme"}`:            node.CodeNotFound,
		`{"limit": "tenant", "key": "acme", "cost": 0}`:  node.CodeInvalid,
		`{"limit": "tenant", "key": "acme", "cost": 4}`:  node.CodeInvalid,
		`{"limit": "calls", "key": "x", "cost": 21}`:     node.CodeInvalid,
		`{"limit": "tenant", "key": "acme", "cost": -1}`: node.CodeInvalid,
		`{"limit": "tenant", "clé": "acme"}`:             node.CodeInvalid,
		`{"limit": "jobs", "key": "acme"}`:               node.CodeInvalid,
		`acme`:                                           node.CodeInvalid, ``: node.CodeInvalid,
	} {
		if a := m.take(t, payload); a.OK || a.Code != code || a.Error == "" {
			t.Errorf("%s: got %+v, want %s", payload, a, code)
		}
	}
	if a := m.ask(t, "api.limit.give", `{"limit": "tenant", "key": "acme"}`); a.Code != node.CodeNotFound {
		t.Errorf("api.limit.give: %+v", a)
	}
}

// Permits that a member takes for a client count together with the client's requests, in whatever form the member
// writes the address.
func TestLimitTakeForClients(t *testing.T) {
	opts, _ := settings(t, limited(t, app(t, "x").URL, `
		limits:
		  ip: 3/15m
		  total:
		    max: 2
		    window: 1h
		    key: all
		  network: 2/1h
		`, "a: ip", "b: total"))
	n := open(t, opts)
	m := newTaker(t, n)
	if a := m.take(t, `{"limit": "ip", "key": "127.0.0.1"}`); !a.OK {
		t.Errorf("got %+v", a)
	}
	if a := m.take(t, `{"limit": "ip", "key": "::ffff:127.0.0.1"}`); !a.OK || a.Remaining != 1 {
		t.Errorf("got %+v", a)
	}
	if got := admitted(t, n.EdgeURL()+"/a", 2); got != 1 {
		t.Errorf("%d of 2 requests were admitted beside 2 permits of 3", got)
	}
	if a := m.take(t, `{"limit": "total", "key": "whoever"}`); !a.OK {
		t.Errorf("got %+v", a)
	}
	if got := admitted(t, n.EdgeURL()+"/b", 2); got != 1 {
		t.Errorf("%d of 2 requests were admitted beside 1 permit of 2", got)
	}
	for i, addr := range []string{"2001:db8::1", "2001:db8::2", "2001:db8:0:0:ff::3"} { // one network of /56
		if a := m.take(t, fmt.Sprintf(`{"limit": "network", "key": %q}`, addr)); a.OK != (i < 2) {
			t.Errorf("%s: got %+v", addr, a)
		}
	}
	if u := usage(t, n, "network", "2001:db8::ffff"); u.Spent != 2 {
		t.Errorf("the network: %+v", u)
	}
}

// If more members ask than the API serves at the same time, each waits or is refused. None is forgotten, and no permit
// is given twice.
func TestLimitTakeAtOnce(t *testing.T) {
	const takers, limit = 600, 100
	opts, _ := settings(t, limited(t, app(t, "x").URL, "limits:\n  tenant: 100/15m\n", "a"))
	n := open(t, opts)
	m := newTaker(t, n)
	var ok, refused, busy int
	var mu sync.Mutex // guards ok, refused and busy
	var running sync.WaitGroup
	for range takers {
		running.Go(func() {
			a := m.take(t, `{"limit": "tenant", "key": "acme"}`)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case a.OK:
				ok++
			case a.Error == "":
				refused++
			case a.Code == node.CodeBusy, a.Code == node.CodeUnavailable: // on an overloaded machine
				busy++
			default:
				t.Errorf("got %+v", a)
			}
		})
	}
	running.Wait()
	if ok > limit || ok < limit-busy || ok+refused+busy != takers {
		t.Errorf("%d were admitted and %d refused of %d, %d were told to decide themselves", ok, refused, takers, busy)
	}
}

// The admin API shows and resets a client under any form of its address, and explains mistakes.
func TestLimitAdmin(t *testing.T) {
	opts, _ := settings(t, limited(t, app(t, "x").URL, `
		limits:
		  total:
		    max: 100
		    window: day
		    key: all
		`, "a: 2/15m", "b: [{max: 5, window: 1m, key: 'header:X-Plan'}, total]"))
	n := open(t, opts)
	admitted(t, n.EdgeURL()+"/a", 3)
	admitted(t, n.EdgeURL()+"/b", 1)
	ask := func(method, path string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, n.AdminURL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var b strings.Builder
		if err := resp.Write(&b); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, b.String()
	}
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/v1/limits", 400, "name the key"},
		{"DELETE", "/v1/limits", 400, "name the key"},
		{"GET", "/v1/limits/a/", 400, "name the key"},
		{"GET", "/v1/limits/c/127.0.0.1", 404, `no limit has the name \"c\"`},
		{"DELETE", "/v1/limits/c/127.0.0.1", 404, `no limit has the name \"c\"`},
		{"GET", "/v1/limits/a/127.0.0.1", 200, `"spent": 2`},
		{"GET", "/v1/limits/a/::ffff:127.0.0.1", 200, `"spent": 2`},
		{"GET", "/v1/limits/a/2001:db8::%2F56", 200, `"spent": 0`},
		{"GET", "/v1/limits/total/all", 200, `"spent": 1`},
		{"GET", "/v1/limits?key=all", 200, `"limit": "total"`},
		{"DELETE", "/v1/limits/a/127.0.0.1", 200, `"a"`},
		{"GET", "/v1/limits?key=127.0.0.1", 200, `"spent": 0`},
		{"POST", "/v1/limits/a/127.0.0.1", 405, ""},
	} {
		if status, body := ask(c.method, c.path); status != c.status || !strings.Contains(body, c.want) {
			t.Errorf("%s %s: %d %s, want %d and %s", c.method, c.path, status, body, c.status, c.want)
		}
	}
	if _, err := n.ResetLimit(t.Context(), "", "127.0.0.1"); err != nil {
		t.Error(err)
	}
	if u := usage(t, n, "total", "all"); u.Spent != 1 {
		t.Errorf("one client's reset reached the limit that all share: %+v", u)
	}
	journal, err := n.Journal(t.Context())
	if err != nil || journal[0].Kind != "limit-reset" {
		t.Errorf("the journal says %+v, %v", journal, err)
	}
}

// The usage includes what was used of the share that a limit reserves for a node.
func TestLimitUsageOfShares(t *testing.T) {
	opts, _ := settings(t, limited(t, app(t, "x").URL, "",
		"a: {max: 100, window: 2s, align: clock, store_away: share}"))
	n := open(t, opts)
	nodetest.Eventually(t, "the node spends its own part, in a window that has just begun", func() bool {
		writes := storeWrites(n)
		next := time.Now().Truncate(2 * time.Second).Add(2 * time.Second)
		nodetest.Eventually(t, "the next window", func() bool { return time.Now().After(next) })
		admitted(t, n.EdgeURL()+"/a", 10)
		return storeWrites(n) <= writes+1 // one write for the slot itself
	})
	if u := usage(t, n, "a", "127.0.0.1"); u.Spent != 10 {
		t.Errorf("after 10 requests: %+v", u)
	}
}

func storeWrites(n *embedded.Node) uint64 {
	s, _ := n.LimitStats()
	return s.Writes
}
