package gather_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// gatherRoute is a route /all/{id} that makes the calls.
func gatherRoute(tb testing.TB, mode node.GatherMode, calls map[string]node.Call) node.Route {
	tb.Helper()
	path, err := node.ParsePattern("/all/{id}")
	if err != nil {
		tb.Fatal(err)
	}
	return node.Route{Path: path, Gather: &node.Gather{Mode: mode, Calls: calls}}
}

// to is a call of the service parts.
func to(tb testing.TB, path string, change ...func(*node.Call)) node.Call {
	tb.Helper()
	c := node.Call{To: node.Target{Kind: node.KindService, Name: "parts"}}
	c.Defaults()
	if err := c.Path.UnmarshalText([]byte(path)); err != nil {
		tb.Fatal(err)
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func after(names ...string) func(*node.Call) { return func(c *node.Call) { c.After = names } }

func fallback(text node.JSON) func(*node.Call) { return func(c *node.Call) { c.Fallback = text } }

// partService is the service that the calls go to: each path answers in its own way.
type partService struct {
	mu       sync.Mutex
	targets  []string
	canceled atomic.Int64
	running  atomic.Int64
	most     atomic.Int64
}

func (p *partService) Handle(ctx context.Context, r *mesh.Request) (*mesh.Response, error) {
	p.mu.Lock()
	p.targets = append(p.targets, r.Target)
	p.most.Store(max(p.most.Load(), p.running.Add(1)))
	p.mu.Unlock()
	defer p.running.Add(-1)
	kind, rest, _ := strings.Cut(r.Target[1:], "/")
	answer := func(status int, kind, body string) (*mesh.Response, error) {
		return &mesh.Response{
			Status: status, Header: mesh.Header{{Name: "Content-Type", Value: kind}},
			Body: []byte(body),
		}, nil
	}
	switch kind {
	case "json":
		return answer(200, "application/json; charset=utf-8", rest)
	case "user":
		return answer(200, "application/json", `{"id":"a/b?c","n":7,"list":[1,2]}`)
	case "text":
		return answer(200, "text/plain", "it says \"hi\"\n")
	case "broken":
		return answer(200, "application/json", "{")
	case "bad":
		return answer(503, "application/json", `"sorry"`)
	case "echo":
		return answer(200, "application/json",
			fmt.Sprintf(`{"method":%q,"type":%q,"body":%s}`, r.Method, r.Header.Get("Content-Type"), r.Body))
	case "header":
		return answer(200, "text/plain",
			r.Header.Get("Authorization")+"|"+r.Header.Get("Accept-Encoding")+"|"+r.Header.Get("If-None-Match"))
	case "pause":
		timer := time.NewTimer(20 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return answer(200, "application/json", `"paused"`)
	case "big":
		return &mesh.Response{
			Status: 200, Header: mesh.Header{{Name: "Content-Type", Value: "text/plain"}},
			Body: []byte(strings.Repeat("x", 300_000)),
		}, nil
	case "hang":
		<-ctx.Done()
		p.canceled.Add(1)
		return nil, ctx.Err()
	}
	return answer(404, "text/plain", "")
}

// hanging is how many calls came that don't end by themselves. One that was canceled at once may not have come at all.
func (p *partService) hanging() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, target := range p.targets {
		if strings.HasPrefix(target, "/hang") {
			n++
		}
	}
	return n
}

func startGather(tb testing.TB, routes ...node.Route) (*edgetest.Rig, *partService) {
	tb.Helper()
	r := edgetest.Start(tb, edgetest.Routed(routes...))
	p := &partService{}
	r.Service(tb, "parts", p.Handle)
	return r, p
}

func gathered(tb testing.TB, r *edgetest.Rig, path string, header ...string) (status int, h http.Header, body string) {
	tb.Helper()
	resp, body := r.Do(tb, http.MethodGet, path, "", header...)
	return resp.StatusCode, resp.Header, body
}

// gatherCase is a gather and what becomes of it.
type gatherCase struct {
	mode    node.GatherMode
	change  func(*node.Gather)
	calls   map[string]node.Call
	status  int
	body    string
	partial string
	timeout node.Duration // of the route; 0 for one that nothing reaches
}

func (c gatherCase) run(t *testing.T) {
	route := gatherRoute(t, c.mode, c.calls)
	route.Timeout = node.Duration(20 * time.Second)
	if c.timeout > 0 {
		route.Timeout = c.timeout
	}
	if c.change != nil {
		c.change(route.Gather)
	}
	r, p := startGather(t, route)
	status, h, body := gathered(t, r, "/all/1")
	if status != c.status || (c.body != "" && body != c.body) || h.Get("Millrace-Partial") != c.partial {
		t.Errorf("%d %s, partial %q\nwant %d %s, partial %q", status, body, h.Get("Millrace-Partial"),
			c.status, c.body, c.partial)
	}
	if status == 200 && !json.Valid([]byte(body)) {
		t.Errorf("%s isn't JSON", body)
	}
	if c.partial != "" && h.Get("Cache-Control") != "no-store" {
		t.Errorf("a part of an answer may be stored: %v", h)
	}
	nodetest.Eventually(t, "calls that nobody waits for are canceled", func() bool {
		return p.canceled.Load() == p.hanging() && p.running.Load() == 0
	})
}

// Each mode's answer, and what it tells about parts that are missing.
func TestModesAnswerWithoutTheMissingParts(t *testing.T) {
	for name, tc := range map[string]gatherCase{
		"settled": {
			mode: node.GatherSettled, calls: map[string]node.Call{
				"a": to(t, "/json/12"), "b": to(t, "/bad/"),
				"c": to(t, "/text/"), "d": to(t, "/broken/"),
			},
			status: 200, partial: "b",
			body: `{"a":{"status":200,"body":12},"b":{"status":503,"body":"sorry"},"c":{"status":200,"body":"it says \"hi\"\n"},"d":{"status":200,"body":"{"}}`,
		},
		"settled, a service that nobody serves": {
			mode: node.GatherSettled,
			calls: map[string]node.Call{"a": to(t, "/json/1"), "b": to(t, "/", func(c *node.Call) {
				c.To.Name = "nobody"
			})},
			status: 200, partial: "b",
			body: `{"a":{"status":200,"body":1},"b":{"status":503,"error":{"code":"no_member","detail":"nobody answers this service"}}}`,
		},
		"all": {
			mode: node.GatherAll, calls: map[string]node.Call{"a": to(t, "/json/1"), "b": to(t, "/json/null")},
			status: 200, body: `{"a":1,"b":null}`,
		},
		"all, one fails": {
			mode:  node.GatherAll,
			calls: map[string]node.Call{"a": to(t, "/json/1"), "b": to(t, "/bad/")}, status: 502, partial: "b",
		},
		"all, with a fallback": {
			mode: node.GatherAll, calls: map[string]node.Call{
				"a": to(t, "/json/1"),
				"b": to(t, "/bad/", fallback("[]")),
			},
			status: 200, body: `{"a":1,"b":[]}`, partial: "b",
		},
		"quorum": {
			mode: node.GatherQuorum, change: func(g *node.Gather) { g.Quorum = 2 },
			calls:  map[string]node.Call{"a": to(t, "/json/1"), "b": to(t, "/hang/"), "c": to(t, "/json/3")},
			status: 200, body: `{"a":1,"c":3}`, partial: "b",
		},
		"quorum that isn't reached": {
			mode: node.GatherQuorum, change: func(g *node.Gather) { g.Quorum = 2 },
			calls:  map[string]node.Call{"a": to(t, "/json/1"), "b": to(t, "/bad/")},
			status: 502, partial: "b",
		},
		"any": {
			mode:  node.GatherAny,
			calls: map[string]node.Call{"a": to(t, "/bad/"), "b": to(t, "/pause/"), "c": to(t, "/hang/")}, status: 200,
			body: `"paused"`,
		},
		"any, none": {
			mode: node.GatherAny, calls: map[string]node.Call{"a": to(t, "/bad/"), "b": to(t, "/bad/")},
			status: 502, partial: "a, b",
		},
		"race": {
			mode:  node.GatherRace,
			calls: map[string]node.Call{"a": to(t, "/bad/"), "b": to(t, "/hang/")}, status: 503, body: `"sorry"`,
		},
		"extract": {mode: node.GatherAll, calls: map[string]node.Call{"a": to(t, "/user/", func(c *node.Call) {
			c.Extract = "list.1"
		})}, status: 200, body: `{"a":2}`},
		"extract nothing": {mode: node.GatherAll, calls: map[string]node.Call{"a": to(t, "/user/", func(c *node.Call) {
			c.Extract = "no"
		})}, status: 200, body: `{"a":null}`},
		"whole time": {
			timeout: node.Duration(300 * time.Millisecond),
			mode:    node.GatherSettled, calls: map[string]node.Call{
				"a": to(t, "/json/1"), "b": to(t, "/hang/"),
				"c": to(t, "/hang/", fallback("0")),
			},
			status: 200, partial: "b, c",
			body: `{"a":{"status":200,"body":1},"b":{"status":504,"error":{"code":"timeout","detail":"no answer within the deadline"}},"c":{"status":200,"body":0}}`,
		},
	} {
		t.Run(name, tc.run)
	}
}

// Calls after others take parts of their results, percent-encoded for their place; what fails takes those with it that
// come after.
func TestCallsTakeResultsOfOthers(t *testing.T) {
	r, p := startGather(t, gatherRoute(t, node.GatherSettled, map[string]node.Call{
		"user":   to(t, "/user/{id}"),
		"orders": to(t, "/json/{user.n}?u={user.id}&r={id}", after("user")),
		"last":   to(t, "/json/{user.n}", after("user", "orders")),
		"none":   to(t, "/json/{user.gone}", after("user")),
		"object": to(t, "/json/{user.list}", after("user")),
		"never":  to(t, "/json/1", after("none")),
		"saved":  to(t, "/json/1", after("none"), fallback("2")),
	}))
	_, h, body := gathered(t, r, "/all/x%20%26y")
	var got map[string]struct {
		Status int
		Body   any
		Error  struct{ Code, Detail string }
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err, body)
	}
	if got["user"].Status != 200 || got["orders"].Status != 200 || got["last"].Status != 200 {
		t.Errorf("got %s", body)
	}
	for _, name := range []string{"none", "object", "never", "saved"} {
		if got[name].Status != 502 {
			t.Errorf("%s: %+v", name, got[name])
		}
	}
	if want := "never, none, object, saved"; h.Get("Millrace-Partial") != want {
		t.Errorf("partial %q, want %q", h.Get("Millrace-Partial"), want)
	}
	for _, name := range []string{"user", "orders", "last"} {
		if !strings.Contains(h.Get("Server-Timing"), name+";dur=") {
			t.Errorf("%s isn't in Server-Timing: %s", name, h.Get("Server-Timing"))
		}
	}
	slices.Sort(p.targets)
	if want := []string{"/json/7", "/json/7?u=a%2Fb%3Fc&r=x+%26y", "/user/x%20%26y"}; !slices.Equal(p.targets, want) {
		t.Errorf("the calls were %q, want %q", p.targets, want)
	}
	for _, id := range []string{"%2e%2e", "..%2f.."} {
		if status, _, body := gathered(t, r, "/all/"+id); status == 200 && strings.Contains(body,
			`"user":{"status":200`) {
			t.Errorf("%s became a path: %s", id, body)
		}
	}
}

// Calls carry JSON made of parameters and results, whatever is in those, and plain NATS services are called as well.
func TestCallsCarryJSON(t *testing.T) {
	sends := func(text string) func(*node.Call) {
		return func(c *node.Call) {
			c.Method = "POST"
			if err := c.Body.UnmarshalJSON([]byte(text)); err != nil {
				t.Fatal(err)
			}
		}
	}
	plain := func(text string, change ...func(*node.Call)) node.Call {
		c := to(t, "/", append([]func(*node.Call){sends(text)}, change...)...)
		c.To, c.Method, c.Path = node.Target{
			Kind:    node.KindNATS,
			Subject: edgetest.Subject(t, "prices.get.{id}"),
		}, "GET",
			node.Template{}
		return c
	}
	r, _ := startGather(t, gatherRoute(t, node.GatherSettled, map[string]node.Call{
		"user":    to(t, "/user/"),
		"whole":   to(t, "/echo/", sends(`{"id": "{user.id}", "list": "{user.list}", "of": "{id}"}`), after("user")),
		"within":  to(t, "/echo/", sends(`"user {user.n} of {id}"`), after("user")),
		"no list": to(t, "/echo/", sends(`"user {user.list}"`), after("user")),
		"gone":    to(t, "/echo/", sends(`["{user.gone}"]`), after("user")),
		"price":   plain(`{"n": "{user.n}"}`, after("user")),
	}))
	if _, err := r.Conn.NATS().QueueSubscribe("prices.get.*", "q", func(m *nats.Msg) {
		_ = m.Respond(fmt.Appendf(nil, `{"subject":%q,"type":%q,"got":%s}`, m.Subject, m.Header.Get("Content-Type"),
			m.Data))
	}); err != nil {
		t.Fatal(err)
	}
	const errorOf = `{"status":502,"error":{"code":%q,"detail":%q}}`
	for id, want := range map[string]map[string]string{
		"7": {
			"whole":  `{"status":200,"body":{"method":"POST","type":"application/json","body":{"id":"a/b?c","list":[1,2],"of":"7"}}}`,
			"within": `{"status":200,"body":{"method":"POST","type":"application/json","body":"user 7 of 7"}}`,
			"price":  `{"status":200,"body":{"subject":"prices.get.7","type":"application/json","got":{"n":7}}}`,
			"gone":   fmt.Sprintf(errorOf, "upstream_failed", "the result has no {user.gone}"),
		},
		"%22%2C%22x%22%3A": {
			"whole":   `{"status":200,"body":{"method":"POST","type":"application/json","body":{"id":"a/b?c","list":[1,2],"of":"\",\"x\":"}}}`,
			"price":   `{"status":400,"error":{"code":"invalid_request","detail":"a value can't be put into the call's subject"}}`,
			"no list": `{"status":400,"error":{"code":"invalid_request","detail":"a value can't be put into the call's body"}}`,
		},
	} {
		_, _, body := gathered(t, r, "/all/"+id)
		var got map[string]json.RawMessage
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatal(err, body)
		}
		for name, text := range want {
			if string(got[name]) != text {
				t.Errorf("%s of %s: %s\nwant %s", name, id, got[name], text)
			}
		}
	}
}

// The calls run at once, as many as may; they carry the client's fields, but for those about the response as a whole.
func TestCallsRunAtOnceUpToTheLimit(t *testing.T) {
	const calls = 60
	for _, limit := range []int{0, 20} {
		all := map[string]node.Call{}
		for i := range calls {
			all[fmt.Sprint("c", i)] = to(t, "/pause/")
		}
		route := gatherRoute(t, node.GatherAll, all)
		route.Gather.Concurrency = limit
		r, p := startGather(t, route)
		status, _, body := gathered(t, r, "/all/1")
		if status != 200 || strings.Count(body, "paused") != calls {
			t.Errorf("%d %s", status, body)
		}
		if most := p.most.Load(); (limit > 0 && most > int64(limit)) || most < 2 {
			t.Errorf("%d calls ran at once, %d may", most, limit)
		}
	}
	r, _ := startGather(t, gatherRoute(t, node.GatherAll,
		map[string]node.Call{"h": to(t, "/header/"), "big": to(t, "/big/")}))
	_, _, body := gathered(t, r, "/all/1", "Authorization", "Basic eA==", "Accept-Encoding", "gzip", "If-None-Match",
		`"x"`)
	if !strings.Contains(body, `"h":"Basic eA==|identity|"`) || len(body) < 300_000 {
		t.Errorf("got %.80s", body)
	}
}

// What a gather has no use for does no harm: a body, a HEAD, a socket.
func TestOddRequestsDoNoHarm(t *testing.T) {
	r, p := startGather(t, gatherRoute(t, node.GatherAll, map[string]node.Call{"a": to(t, "/json/1")}))
	const want = `{"a":1}`
	for name, tc := range map[string]struct {
		method  string
		body    io.Reader
		header  []string
		body200 string
		status  int
	}{
		"POST": {"POST", strings.NewReader("hello"), nil, want, 200},
		"chunked POST": {
			"POST", io.MultiReader(strings.NewReader("hello"), strings.NewReader(" world")), nil, want,
			200,
		},
		"long POST": {"POST", strings.NewReader(strings.Repeat("x", 2<<20)), nil, "", 413},
		"HEAD":      {"HEAD", nil, nil, "", 200},
		"socket": {"GET", nil, []string{
			"Connection", "Upgrade", "Upgrade", "websocket", "Sec-WebSocket-Version",
			"13", "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==",
		}, want, 200},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), tc.method, r.URL+"/all/1", tc.body)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(tc.header); i += 2 {
				req.Header.Set(tc.header[i], tc.header[i+1])
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != tc.status || (tc.status == 200 && string(body) != tc.body200) {
				t.Errorf("%d %s, %v", resp.StatusCode, body, err)
			}
			if tc.method == "HEAD" && resp.ContentLength != int64(len(want)) {
				t.Errorf("HEAD tells a length of %d", resp.ContentLength)
			}
		})
	}
	if len(p.targets) != 4 {
		t.Errorf("%d calls were made, want one for each request that was answered", len(p.targets))
	}
	if e := r.Explain("GET", "/all/7", nil); e.Target != "gather of 1" || len(e.Calls) != 1 ||
		e.Calls[0].Subject != "http.parts" || e.Calls[0].Carrier != "memory" {
		t.Errorf("explained as %+v", e)
	}
}

// A client that goes away takes its calls with it.
func TestClientThatGoesAwayEndsItsCalls(t *testing.T) {
	r, p := startGather(t, gatherRoute(t, node.GatherSettled,
		map[string]node.Call{"a": to(t, "/hang/"), "b": to(t, "/hang/")}))
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+"/all/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		gone <- err
	}()
	nodetest.Eventually(t, "both calls run", func() bool { return p.running.Load() == 2 })
	cancel()
	if err := <-gone; err == nil {
		t.Error("the client got an answer")
	}
	nodetest.Eventually(t, "both are canceled", func() bool { return p.canceled.Load() == 2 })
}

// Calls of a gather carry what is left of the client's fields, too.
func TestCallsLoseWhatConnectionNames(t *testing.T) {
	r, _ := startGather(t, gatherRoute(t, node.GatherAll, map[string]node.Call{"a": to(t, "/header/")}))
	if _, _, body := gathered(t, r, "/all/1", "X-Forwarded-Foo", "1", "Connection",
		"authorization"); !strings.Contains(body, "identity") {
		t.Errorf("without the field: %s", body)
	}
	listed := make(chan bool, 1)
	r.StreamService(t, "listed", func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		listed <- q.Header.Has("X-Secret")
		return &mesh.Response{Status: 200, Body: []byte("1")}, nil
	})
	call := to(t, "/")
	call.To.Name = "listed"
	r.SetRoutes(node.Default().Edge, []node.Route{gatherRoute(t, node.GatherAll, map[string]node.Call{"a": call})})
	gathered(t, r, "/all/1", "X-Secret", "1", "Connection", "X-Secret")
	if <-listed {
		t.Error("a call got a field that belongs to the connection")
	}
}
