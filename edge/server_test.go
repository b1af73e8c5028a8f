package edge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/edge"
	"millrace/edge/edgetest"
	"millrace/edge/exchange"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// Every generated error is an RFC 9457 problem that carries the request id and nothing of the request.
func TestErrorsAreProblemsThatTellNothingOfTheRequest(t *testing.T) {
	small := edgetest.EchoRoute("/small")
	small.MaxBody = 10
	quick := edgetest.Route("quick", "/quick")
	quick.To.Name, quick.Timeout = "slow", node.Duration(30*time.Millisecond)
	get := edgetest.EchoRoute("/get")
	get.Methods = []node.Method{"GET"}
	nobody := edgetest.Route("nobody", "/nobody")
	nobody.To.Name = "nobody"
	broken := edgetest.Route("broken", "/broken")
	broken.To.Name = "broken"
	r := edgetest.Start(t, edgetest.Routed(small, quick, get, nobody, broken))
	r.Service(t, "slow", func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if _, err := r.Conn.NATS().QueueSubscribe("http.broken", "q", func(m *nats.Msg) {
		_ = m.Respond([]byte("rubbish-from-member"))
	}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, raw string
		status    int
		code      string
		header    string
	}{
		{"no route", "GET /none HTTP/1.1\r\nHost: h\r\n\r\n", 404, "not_found", ""},
		{"method", "POST /get HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 405, "method_not_allowed", "Allow"},
		{"no member", "GET /nobody HTTP/1.1\r\nHost: h\r\n\r\n", 503, "no_member", "Retry-After"},
		{"deadline", "POST /quick HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", 504, "timeout", ""},
		{"broken reply", "GET /broken HTTP/1.1\r\nHost: h\r\n\r\n", 502, "bad_reply", ""},
		{
			"route's body limit", "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n01234567890", 413,
			"body_too_large", "",
		},
		{
			"body over a message", "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 600000\r\n\r\n", 413,
			"body_too_large", "",
		},
		{"long target", "GET /" + strings.Repeat("a", 9000) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, "uri_too_long", ""},
		{
			"large head", "GET / HTTP/1.1\r\nHost: h\r\nX: " + strings.Repeat("a", 40000) + "\r\n\r\n", 431,
			"header_too_large", "",
		},
		{"dot segments", "GET /a/../secret-path HTTP/1.1\r\nHost: h\r\n\r\n", 400, "invalid_request", ""},
		{"encoded slash", "GET /get%2Fsecret-path HTTP/1.1\r\nHost: h\r\n\r\n", 404, "not_found", ""},
		{"two hosts", "GET /get HTTP/1.1\r\nHost: h\r\nHost: i\r\n\r\n", 400, "invalid_request", ""},
		{"folding", "GET /get HTTP/1.1\r\nHost: h\r\nX: a\r\n secret-path\r\n\r\n", 400, "invalid_request", ""},
		{"name with a space", "GET /get HTTP/1.1\r\nHost: h\r\nX A: secret-path\r\n\r\n", 400, "invalid_request", ""},
		{"loop", "GET /get HTTP/1.1\r\nHost: h\r\nVia: 1.1 other, 1.1 millrace-abc\r\n\r\n", 508, "loop_detected", ""},
		{"length and coding", "POST /get HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n" +
			"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nX", 400, "invalid_request", ""},
		{"identity coding", "POST /get HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n" +
			"Transfer-Encoding: identity\r\n\r\n" +
			"abc", 400, "invalid_request", ""},
		{"HTTP/2.0 in the line", "GET /get HTTP/2.0\r\nHost: h\r\n\r\n", 400, "invalid_request", ""},
		{"trace", "TRACE /get HTTP/1.1\r\nHost: h\r\n\r\n", 405, "method_not_allowed", "Allow"},
	} {
		t.Run(c.name, func(t *testing.T) {
			resp, body := r.Raw(t, c.raw)
			var p edgetest.Problem
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%d %q: %v", resp.StatusCode, body, err)
			}
			if resp.StatusCode != c.status || p.Status != c.status || p.Code != c.code || p.Type != "about:blank" ||
				p.Title == "" || p.Detail == "" {
				t.Errorf("got %d %s", resp.StatusCode, body)
			}
			if resp.Header.Get("Content-Type") != "application/problem+json" || p.RequestID == "" ||
				resp.Header.Get("X-Request-Id") != p.RequestID {
				t.Errorf("header %v, problem %+v", resp.Header, p)
			}
			if strings.Contains(body, "secret-path") || strings.Contains(body, "rubbish") {
				t.Errorf("the problem repeats what was sent: %s", body)
			}
			if c.header != "" && resp.Header.Get(c.header) == "" {
				t.Errorf("%s is missing", c.header)
			}
		})
	}
}

func TestRequestsAndResponsesPassUnchanged(t *testing.T) {
	keep := edgetest.EchoRoute("/keep/*")
	keep.EncodedSlash = node.EncodedSlashKeep
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/echo/*"), keep))
	for _, c := range []struct{ method, path, body, target string }{
		{"GET", "/echo", "", "/echo"},
		{"POST", "/echo/a?b=c&b=d", "body", "/echo/a?b=c&b=d"},
		{"PUT", "/echo/%61|b?{x}", "x", "/echo/a%7Cb?{x}"},
		{"DELETE", "/echo//x/", "", "/echo//x/"},
		{"PATCH", "/echo?", "y", "/echo?"},
		{"OPTIONS", "/echo", "", "/echo"},
		{"PROPFIND", "/echo", "", "/echo"},
		{"BREW", "/echo", "", "/echo"},
		{"POST", "/keep/a%2fb", "z", "/keep/a%2Fb"},
	} {
		req := c.method + " " + c.path + " HTTP/1.1\r\nHost: h\r\nContent-Length: " + strconv.Itoa(len(c.body)) +
			"\r\n\r\n" + c.body
		resp, body := r.Raw(t, req)
		if resp.StatusCode != 200 || body != c.body || resp.Header.Get("X-Target") != c.target ||
			resp.Header.Get("X-Method") != c.method {
			t.Errorf("%s %s: %d %q %v", c.method, c.path, resp.StatusCode, body, resp.Header)
		}
	}
	for _, status := range []int{201, 204, 304, 404, 418, 500, 599} {
		want := "made"
		if status == 204 || status == 304 {
			want = ""
		}
		resp, got := r.Do(t, "POST", "/echo", "made", "X-Status", strconv.Itoa(status))
		if resp.StatusCode != status || got != want {
			t.Errorf("status %d became %d %q", status, resp.StatusCode, got)
		}
	}
	resp, body := r.Do(t, "HEAD", "/echo", "")
	if resp.StatusCode != 200 || body != "" || resp.Header.Get("X-Method") != "HEAD" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, body)
	}
	const long = "Wed, 01 Jan 2020 00:00:00 GMT"
	for sent, want := range map[string]string{long: long, "": time.Now().UTC().Format(http.TimeFormat)[:16]} {
		resp, _ := r.Do(t, "GET", "/echo", "", "X-Date", sent)
		if got := resp.Header.Values("Date"); len(got) != 1 || !strings.HasPrefix(got[0], want) {
			t.Errorf("a Date of %q became %q", sent, got)
		}
	}
	if resp.Header.Get("Server") != "" {
		t.Errorf("Server is %q", resp.Header.Get("Server"))
	}
}

// What edge.expose opens, and what it doesn't.
func TestExposeOpensWhatItNames(t *testing.T) {
	for name, expose := range map[string][]string{"none": nil, "named": {"echo"}, "all": {"*"}} {
		r := edgetest.Start(t, edgetest.Config{Edge: func(e *node.Edge) { e.Expose = expose }})
		resp, _ := r.Do(t, "GET", "/echo/a", "")
		if want := map[string]int{"none": 404, "named": 200, "all": 200}[name]; resp.StatusCode != want {
			t.Errorf("%s: /echo answered %d, want %d", name, resp.StatusCode, want)
		}
		resp, _ = r.Do(t, "GET", "/other", "")
		if want := map[string]int{"none": 404, "named": 404, "all": 404}[name]; resp.StatusCode != want {
			t.Errorf("%s: /other answered %d, want %d", name, resp.StatusCode, want)
		}
		for _, path := range []string{"/Echo", "/a.b", "/%3E", "/*", "/" + strings.Repeat("a", 65), "/"} {
			if resp, _ := r.Do(t, "GET", path, ""); resp.StatusCode != 404 {
				t.Errorf("%s: %s answered %d", name, path, resp.StatusCode)
			}
		}
	}
}

func TestPlainSubjectTakesSafeParametersOnly(t *testing.T) {
	orders := edgetest.Route("orders", "/orders/{id}")
	orders.To = node.Target{}
	if err := orders.To.UnmarshalText([]byte("nats:orders.get.{id}")); err != nil {
		t.Fatal(err)
	}
	r := edgetest.Start(t, edgetest.Routed(orders))
	var subjects sync.Map
	if _, err := r.Conn.NATS().QueueSubscribe("orders.get.*", "q", func(m *nats.Msg) {
		subjects.Store(m.Subject, true)
		_ = m.Respond([]byte(`{"ok":true}`))
	}); err != nil {
		t.Fatal(err)
	}
	resp, body := r.Do(t, "GET", "/orders/A-1_b", "")
	if resp.StatusCode != 200 || body != `{"ok":true}` || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("got %d %q", resp.StatusCode, body)
	}
	for _, id := range []string{"*", "%3E", "a.b", "a%20b", strings.Repeat("a", 65), "caf%C3%A9"} {
		if resp, _ := r.Do(t, "GET", "/orders/"+id, ""); resp.StatusCode != 404 {
			t.Errorf("/orders/%s answered %d", id, resp.StatusCode)
		}
	}
	subjects.Range(func(k, _ any) bool {
		if k != "orders.get.A-1_b" {
			t.Errorf("a request reached %s", k)
		}
		return true
	})
}

// Each client gets its own response, however many ask at once.
func TestEachClientGetsItsOwnResponse(t *testing.T) {
	r := edgetest.Start(t, edgetest.Config{
		Edge:   func(e *node.Edge) { e.AccessLog = true },
		Routes: []node.Route{edgetest.EchoRoute("/*")},
	})
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 50 {
				id := fmt.Sprintf("%02d-%03d", i, j)
				resp, body := r.Do(t, "POST", "/"+id, strings.Repeat(id, j+1))
				if body != strings.Repeat(id, j+1) || resp.Header.Get("X-Target") != "/"+id {
					t.Errorf("%s got %q", id, body)
				}
			}
		})
	}
	wg.Wait()
	for i := range 16 {
		if id := fmt.Sprintf(`"path":"/%02d-049"`, i); !strings.Contains(r.Log.String(), id) {
			t.Errorf("the access log misses %s", id)
		}
	}
}

// Routes change while serving, and no request fails.
func TestSetRoutesFailsNoRequest(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/a/*")))
	cfg := node.Default().Edge
	stop := make(chan struct{})
	var done atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if resp, _ := r.Do(t, "GET", "/a/x", ""); resp.StatusCode != 200 {
					t.Errorf("got %d", resp.StatusCode)
					return
				}
				done.Add(1)
			}
		})
	}
	for i := range 100 {
		r.SetRoutes(cfg, []node.Route{edgetest.EchoRoute("/a/*"), edgetest.EchoRoute(fmt.Sprintf("/b%d", i))})
		before := done.Load()
		nodetest.Eventually(t, "requests flow", func() bool { return done.Load() > before || t.Failed() })
	}
	close(stop)
	wg.Wait()
	if resp, _ := r.Do(t, "GET", "/b99", ""); resp.StatusCode != 200 {
		t.Errorf("the newest route answered %d", resp.StatusCode)
	}
	if resp, _ := r.Do(t, "GET", "/b98", ""); resp.StatusCode != 404 {
		t.Errorf("a removed route answered %d", resp.StatusCode)
	}
}

func TestDrainEndsConnections(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*")))
	if resp, _ := r.Do(t, "GET", "/", ""); resp.Close {
		t.Error("a connection ended before the drain")
	}
	r.Drain()
	if resp, _ := r.Do(t, "GET", "/", ""); !resp.Close || resp.StatusCode != 200 {
		t.Errorf("while draining: close %t, status %d", resp.Close, resp.StatusCode)
	}
}

func TestPanicIsContained(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*")))
	r.Insert("contain", exchange.Policy{Name: "test", Wrap: func(exchange.Handler) exchange.Handler {
		return func(context.Context, *exchange.Exchange) (*mesh.Response, error) { panic("secret") }
	}})
	resp, body := r.Do(t, "GET", "/", "")
	var p edgetest.Problem
	if err := json.Unmarshal([]byte(body), &p); err != nil || resp.StatusCode != 500 || p.Code != "internal" ||
		strings.Contains(body, "secret") {
		t.Errorf("got %d %s", resp.StatusCode, body)
	}
	if !strings.Contains(r.Log.String(), "secret") {
		t.Error("the log doesn't tell the panic")
	}
}

// Client bytes stay inside their log field.
func TestLogLinesStayValid(t *testing.T) {
	r := edgetest.Start(t, edgetest.Config{
		Edge:   func(e *node.Edge) { e.AccessLog = true },
		Routes: []node.Route{edgetest.EchoRoute("/*")},
	})
	r.Raw(t, "GET /%22%2C%22x%22%3A%22 HTTP/1.1\r\nHost: h\r\nX-Request-Id: \"},{\"a\r\n\r\n")
	r.Raw(t, "G\"ET / HTTP/1.1\r\nHost: h\r\n\r\n")
	for line := range strings.SplitSeq(strings.TrimSpace(r.Log.String()), "\n") {
		if !json.Valid([]byte(line)) {
			t.Errorf("log line %q", line)
		}
	}
}

func TestEventTellsARequest(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/e/*")))
	events := make(chan *nats.Msg, 100)
	if _, err := r.Conn.NATS().ChanSubscribe("event.http.>", events); err != nil {
		t.Fatal(err)
	}
	nodetest.Eventually(t, "an event tells a request", func() bool {
		r.Do(t, "POST", "/e/x", "abc")
		select {
		case m := <-events:
			var e edge.Event
			return json.Unmarshal(m.Data, &e) == nil && m.Subject == "event.http.e-all.2xx" && e.Path == "/e/x" &&
				e.Status == 200 && e.BytesIn == 3 && e.Route == "e-all" && e.Target == "service:echo"
		default:
			return false
		}
	})
}

func TestStatsCountAndExplainNamesTheRoute(t *testing.T) {
	users := edgetest.EchoRoute("/users/{id}")
	r := edgetest.Start(t, edgetest.Routed(users))
	r.Do(t, "GET", "/users/7", "")
	r.Do(t, "GET", "/nothing", "")
	got := map[string]edge.RouteStats{}
	for _, s := range r.Stats() {
		got[s.Route] = s
	}
	if got["users-id"].Classes[2] != 1 || got["unmatched"].Classes[4] != 1 || got["users-id"].Sum <= 0 {
		t.Errorf("counted %+v", got)
	}
	e := r.Explain("GET", "/users/%37?x", nil)
	if e.Route != "users-id" || e.Path != "/users/7" || e.Params["id"] != "7" || e.Subject != "http.echo" ||
		e.Target != "service:echo" {
		t.Errorf("explained %+v", e)
	}
	if e := r.Explain("GET", "/none", nil); e.Status != 404 || e.Refusal == "" {
		t.Errorf("explained %+v", e)
	}
}

func TestRequestBeyondMaxRequestsIsRefused(t *testing.T) {
	hold := edgetest.Route("hold", "/hold")
	hold.To.Name = "hold"
	r := edgetest.Start(t, edgetest.Config{
		Edge:   func(e *node.Edge) { e.MaxRequests = 1 },
		Routes: []node.Route{hold, edgetest.EchoRoute("/echo")},
	})
	entered, release := make(chan struct{}), make(chan struct{})
	r.Service(t, "hold", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		close(entered)
		<-release
		return &mesh.Response{Status: 200}, nil
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Do(t, "POST", "/hold", "")
	}()
	<-entered
	if resp, body := r.Do(t, "GET", "/echo", ""); resp.StatusCode != 503 || !strings.Contains(body, `"busy"`) ||
		resp.Header.Get("Retry-After") == "" || resp.Header.Get("X-Request-Id") == "" {
		t.Errorf("got %d %s %v", resp.StatusCode, body, resp.Header)
	}
	close(release)
	<-done
	for _, s := range r.Stats() {
		if s.Route == "echo" && s.Classes[5] != 1 {
			t.Errorf("the refusal isn't counted: %+v", s)
		}
	}
}

// A client that doesn't finish its request is told so, and its connection ends.
func TestSlowClientIsToldSo(t *testing.T) {
	r := edgetest.Start(t, edgetest.Config{
		Edge:   func(e *node.Edge) { e.ReadTimeout = node.Duration(100 * time.Millisecond) },
		Routes: []node.Route{edgetest.EchoRoute("/*")},
	})
	resp, body := r.Raw(t, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nabc")
	if resp.StatusCode != http.StatusRequestTimeout || !resp.Close || !strings.Contains(body, `"slow_client"`) {
		t.Errorf("got %d, close %t: %s", resp.StatusCode, resp.Close, body)
	}
}

// The edge's own work for one request, without Fiber and without the mesh.
func BenchmarkServe(b *testing.B) {
	r := edgetest.Start(b, edgetest.Config{})
	header := edgetest.Fields(
		"Host", "shop.example", "User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0", "Accept",
		"text/html", "Accept-Language", "en-US,en;q=0.5", "Accept-Encoding", "gzip, deflate, br", "Cookie",
		"session=0123456789abcdef", "DNT", "1",
		"Sec-Fetch-Mode", "navigate", "Sec-Fetch-Site", "none", "Referer", "https://shop.example/start",
	)
	b.ReportAllocs()
	for b.Loop() {
		x := &exchange.Exchange{Method: "GET", Target: "/none?x=1", Header: header, Scheme: "http", Started: time.Now()}
		if resp := r.Serve(b.Context(), x); resp.Status != http.StatusNotFound {
			b.Fatal(resp.Status)
		}
	}
}
