package front_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// However a connection ends, its client gets to read the response: no reset follows it.
func TestResponseIsReadBeforeAReset(t *testing.T) {
	body, large := strings.Repeat("x", 60_000), strings.Repeat("x", 900_000)
	chunks := strings.Repeat("1000\r\n"+strings.Repeat("x", 4096)+"\r\n", 100) + "0\r\n\r\n"
	for _, drain := range []bool{false, true} {
		r := edgetest.Start(t, edgetest.Config{
			Edge:   func(e *node.Edge) { e.MaxBody = 100_000 },
			Routes: []node.Route{edgetest.EchoRoute("/echo/*")},
		})
		if drain {
			r.Drain()
		}
		for _, c := range []struct{ name, text, want string }{
			{
				"close", "POST /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 60000\r\n\r\n" + body,
				"404",
			},
			{"HTTP/1.0", "POST /none HTTP/1.0\r\nHost: h\r\nContent-Length: 60000\r\n\r\n" + body, "404"},
			{"too large", "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 900000\r\n\r\n" + large, "413"},
			{"chunked", "POST /none HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, "404"},
			{"junk behind", "GET /none HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + body[:1000], "404"},
			{"pipelined", strings.Repeat("GET /echo HTTP/1.1\r\nHost: h\r\n\r\n", 300) +
				"GET /echo HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", "200"},
		} {
			if got := r.SendRaw(t, c.text); !strings.HasPrefix(got, "HTTP/1.1 "+c.want) {
				t.Errorf("drain %t, %s: got %.100q, want %s", drain, c.name, got, c.want)
			}
		}
	}
}

// A client that uploads megabytes to where nobody wants them gets its 404.
func TestRefusedUploadGetsItsResponse(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/echo/*")))
	client := &http.Client{Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for i := range 40 {
		body, length := io.LimitReader(edgetest.Zeros{}, 4<<20), int64(-1)
		if i%2 == 0 {
			length = 4 << 20
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/none", body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		resp, err := client.Do(req)
		if err != nil {
			t.Fatalf("upload %d: %v", i, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("upload %d: status %d", i, resp.StatusCode)
		}
	}
}

// held starts a service whose one request waits until release, and sends it; one place is all that the edge has.
func held(t *testing.T, answer int, routes ...node.Route) (r *edgetest.Rig, release func() string) {
	t.Helper()
	hold := edgetest.Route("hold", "/hold")
	hold.To.Name = "hold"
	r = edgetest.Start(t, edgetest.Config{Edge: func(e *node.Edge) { e.MaxRequests = 1 }, Routes: append(routes, hold)})
	entered, released := make(chan struct{}), make(chan struct{})
	r.Service(t, "hold", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		close(entered)
		<-released
		return &mesh.Response{Status: 200, Body: []byte(strings.Repeat("y", answer))}, nil
	})
	done := make(chan string, 1)
	go func() {
		done <- r.SendRaw(t, "POST /hold HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	}()
	<-entered
	return r, func() string { close(released); return <-done }
}

// askTwice makes a client that was refused for overload and asks again at once, so that its request rests. It gives the
// second answer.
func askTwice(t *testing.T, r *edgetest.Rig, path string, between func()) (*http.Response, error) {
	t.Helper()
	c, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	in := bufio.NewReader(c)
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path)
	_, _ = io.WriteString(c, request)
	first, err := http.ReadResponse(in, nil)
	if err != nil || first.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("the first request got %+v, %v", first, err)
	}
	_, _ = io.Copy(io.Discard, first.Body)
	_ = first.Body.Close()
	_, _ = io.WriteString(c, request)
	between()
	second, err := http.ReadResponse(in, nil)
	if err == nil {
		_ = second.Body.Close()
	}
	return second, err
}

// A request that rests when the node shuts down isn't run: nobody could be told.
func TestRestingRequestIsNotRunAtShutdown(t *testing.T) {
	count := edgetest.Route("count", "/count")
	count.To.Name = "count"
	r, release := held(t, 0, count)
	var ran atomic.Int64
	r.Service(t, "count", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		ran.Add(1)
		return &mesh.Response{Status: 200}, nil
	})
	resp, err := askTwice(t, r, "/count", func() {
		release()
		if err := r.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
	if (err == nil) != (ran.Load() == 1) {
		t.Errorf("the member ran %d times, and the client got %+v, %v", ran.Load(), resp, err)
	}
}

// The time that a request rests isn't taken from that of its route.
func TestRestingTimeIsNotTakenFromTheRoutes(t *testing.T) {
	short := edgetest.EchoRoute("/echo")
	short.Timeout = node.Duration(400 * time.Millisecond)
	r, release := held(t, 0, short)
	if resp, err := askTwice(t, r, "/echo", func() { release() }); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("got %+v, %v", resp, err)
	}
}

// Connections on which no request has come don't hold a shutdown up, and aren't served after it.
func TestConnectionsWithoutRequestsHoldNoShutdown(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*")))
	var conns []net.Conn
	for _, text := range []string{"", "GET / HT"} {
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, text)
		conns = append(conns, c)
	}
	nodetest.Eventually(t, "both are connected", func() bool { return r.Connections() == 2 })
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // fasthttp alone would need five
	defer cancel()
	if err := r.Shutdown(ctx); err != nil || r.Connections() != 0 {
		t.Errorf("shutdown: %v; %d connections", err, r.Connections())
	}
	for _, c := range conns {
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if got, _ := io.ReadAll(c); len(got) > 0 {
			t.Errorf("got %q", got)
		}
	}
}

// What was answered before a shutdown arrives, also when the client has sent more than was read.
func TestShutdownKeepsResponses(t *testing.T) {
	r, release := held(t, 400_000)
	down := make(chan error, 1)
	go func() { down <- r.Shutdown(t.Context()) }()
	nodetest.Eventually(t, "the shutdown has begun", func() bool {
		c, err := net.Dial("tcp", r.Address)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	if got := release(); len(got) < 400_000 {
		t.Errorf("got %d bytes", len(got))
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// A close in any Connection field wins (RFC 9112 §9.3): what stands behind the request isn't served.
func TestCloseWins(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/echo/*")))
	for _, version := range []string{"1.0", "1.1"} {
		for _, fields := range []string{
			"Connection: close\r\nConnection: keep-alive",
			"Connection: keep-alive\r\nConnection: close", "Connection: keep-alive, close",
		} {
			text := "GET /echo/1 HTTP/" + version + "\r\nHost: h\r\n" + fields +
				"\r\n\r\nGET /echo/2 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
			if got := r.SendRaw(t, text); strings.Count(got, "X-Target") != 1 ||
				!strings.Contains(got, "Connection: close") {
				t.Errorf("%s, %q: %q", version, fields, got)
			}
		}
	}
}
