package ratelimit_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// holding is an upstream whose responses go on until the test ends them.
type holding struct {
	release chan struct{} // one ends for each value
	running atomic.Int64
}

// startHolding runs an edge with that upstream behind all routes.
func startHolding(t *testing.T, routes ...node.Route) (*edgetest.Rig, *holding) {
	t.Helper()
	h := &holding{release: make(chan struct{})}
	app := httptest.NewServer(h)
	t.Cleanup(app.Close)
	for i := range routes {
		routes[i].To = node.Target{Kind: node.KindUpstream, Name: "app"}
	}
	r := edgetest.Start(t, edgetest.Limited(routes...))
	r.Upstream(t, app.URL)
	return r, h
}

// ServeHTTP answers at once, or waits for its release before the head or behind it, as the path's end says.
func (h *holding) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h.running.Add(1)
	defer h.running.Add(-1)
	end := req.URL.Path[strings.LastIndexByte(req.URL.Path, '/')+1:]
	switch end {
	case "events":
		w.Header().Set("Content-Type", "text/event-stream")
	case "length":
		w.Header().Set("Content-Length", "2000000")
	}
	_, _ = io.Copy(io.Discard, req.Body)
	switch end {
	case "head":
		h.wait(req)
	case "stream", "events", "length", "break":
		_, _ = w.Write(make([]byte, 1000))
		w.(http.Flusher).Flush()
		if h.wait(req); end == "length" {
			_, _ = w.Write(make([]byte, 2_000_000-1000))
		}
	}
	if end == "break" {
		panic(http.ErrAbortHandler)
	}
}

func (h *holding) wait(req *http.Request) {
	select {
	case <-h.release:
	case <-req.Context().Done():
	}
}

// openStream sends a request and reads its response's head.
func openStream(t *testing.T, r *edgetest.Rig, c *http.Client, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// wantPlaces checks that exactly n requests may be in flight: n streams are open at once, and one more isn't.
func wantPlaces(t *testing.T, r *edgetest.Rig, h *holding, route string, n int) {
	t.Helper()
	nodetest.Eventually(t, "the upstream has heard of those that went away", func() bool {
		return h.running.Load() == 0
	})
	c := edgetest.Client(t)
	var open []*http.Response
	for i := range n {
		nodetest.Eventually(t, fmt.Sprintf("place %d of %d is free", i+1, n), func() bool {
			resp := openStream(t, r, c, route+"/stream")
			if resp.StatusCode == http.StatusOK {
				open = append(open, resp)
			}
			return resp.StatusCode == http.StatusOK
		})
	}
	for range 3 {
		if resp := openStream(t, r, c, route+"/stream"); resp.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%s: got %d with %d in flight", route, resp.StatusCode, n)
		}
	}
	for range open {
		h.release <- struct{}{}
	}
	for _, resp := range open {
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Error(err)
		}
	}
}

// A place is held until the response is over, and free when its client has seen the end.
func TestPlaceIsHeldUntilTheResponseEnds(t *testing.T) {
	r, h := startHolding(t, edgetest.LimitedRoute("x", edgetest.InFlight(2)))
	c := edgetest.Client(t)
	for _, kind := range []string{"stream", "events", "length", "break"} {
		for range 5 { // one after another, and no refusal between
			first, second := openStream(t, r, c, "/x/"+kind), openStream(t, r, c, "/x/"+kind)
			third := openStream(t, r, c, "/x/"+kind)
			if first.StatusCode != 200 || second.StatusCode != 200 || third.StatusCode != 429 {
				t.Fatalf("%s: got %d, %d and %d", kind, first.StatusCode, second.StatusCode, third.StatusCode)
			}
			if q := edgetest.OnlyQuota(t, first.Header); q.Q != 2 || q.R != 1 || q.HasT {
				t.Errorf("%s: told %+v", kind, q)
			}
			if got := edgetest.LimitFields(t, third.Header); got["Retry-After"] != "1" ||
				edgetest.OnlyQuota(t, third.Header).R != 0 {
				t.Errorf("%s: told %v", kind, got)
			}
			h.release <- struct{}{}
			h.release <- struct{}{}
			for _, resp := range []*http.Response{first, second} {
				if _, err := io.Copy(io.Discard, resp.Body); (err != nil) != (kind == "break") {
					t.Errorf("%s: %v", kind, err)
				}
			}
		}
	}
	for range 20 { // those that don't stream
		if n := r.Passes(t, 1, "/x/now"); n != 1 {
			t.Fatal("a place is held by nobody")
		}
	}
	wantPlaces(t, r, h, "/x", 2)
	r.WaitSettled(t)
}

// Places cost what the limit says, each client has its own, and those of a limit before one that refuses are free
// again.
func TestPlacesCostWhatTheLimitSays(t *testing.T) {
	r, h := startHolding(t, edgetest.LimitedRoute("cost", edgetest.InFlight(5, func(l *node.Limit) {
		l.Cost = 2
	})), edgetest.LimitedRoute("both", edgetest.InFlight(3), edgetest.Per("1/1h", edgetest.By("all"))))
	c := edgetest.Client(t)
	first, second := openStream(t, r, c, "/cost/stream"), openStream(t, r, c, "/cost/stream")
	if third := openStream(t, r, c, "/cost/stream"); first.StatusCode != 200 || second.StatusCode != 200 ||
		third.StatusCode != 429 {
		t.Errorf("two of five: got %d, %d and %d", first.StatusCode, second.StatusCode, third.StatusCode)
	}
	if n := r.Passes(t, 1, "/cost/now", "X-Forwarded-For", "192.0.2.1"); n != 1 {
		t.Error("another client has no places of its own")
	}
	for range 2 {
		h.release <- struct{}{}
	}
	if n := r.Passes(t, 10, "/both/now"); n != 1 {
		t.Errorf("%d passed both limits, want 1", n)
	}
	if resp := openStream(t, r, c, "/both/now"); edgetest.Quotas(t, resp.Header)[0].Name != "both" ||
		edgetest.Quotas(t, resp.Header)[0].R != 3 || edgetest.Quotas(t, resp.Header)[1].R != 0 {
		t.Errorf("places that nobody holds are missing: %q", resp.Header.Get("RateLimit"))
	}
}

// However requests end, their places are free again: aborted at any moment, refused by what is behind the limit,
// answered with an error.
func TestPlacesAreFreeHoweverRequestsEnd(t *testing.T) {
	const places = 4
	small := edgetest.LimitedRoute("small", edgetest.Per("places"))
	small.MaxBody = 10
	quick := edgetest.LimitedRoute("quick", edgetest.Per("places"))
	quick.Timeout = node.Duration(20 * time.Millisecond)
	nobody := edgetest.LimitedRoute("nobody", edgetest.Per("places"))
	routes := []node.Route{edgetest.LimitedRoute("x", edgetest.Per("places")), small, quick, nobody}
	h := &holding{release: make(chan struct{})}
	app := httptest.NewServer(h)
	t.Cleanup(app.Close)
	for i := range routes[:3] {
		routes[i].To = node.Target{Kind: node.KindUpstream, Name: "app"}
	}
	routes[3].To.Name = "nobody"
	r := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{Named: map[string]node.Limit{"places": edgetest.InFlight(places)}},
		Routes: routes,
	})
	r.Upstream(t, app.URL)

	upload := "POST /x/head HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1000)
	socket := "GET /x/now HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	var clients sync.WaitGroup
	for worker := range places {
		clients.Go(func() {
			for i := range 50 {
				text := []string{
					edgetest.RequestHead("GET", "/x/head", nil), edgetest.RequestHead("GET", "/x/stream", nil),
					edgetest.RequestHead("GET", "/x/events", nil), upload, socket,
				}[i%5]
				abort(t, r.Address, text, (i+worker)%4)
			}
		})
	}
	clients.Wait()
	wantPlaces(t, r, h, "/x", places)
	for range 3 * places {
		for path, status := range map[string]int{"/small": 413, "/quick/head": 504, "/nobody": 503} {
			// the upstream may not have answered in time either
			if resp, _ := r.Do(t, "POST", path, "more than ten bytes"); resp.StatusCode != status &&
				resp.StatusCode != 502 {
				t.Errorf("%s: got %d, want %d", path, resp.StatusCode, status)
			}
		}
	}
	wantPlaces(t, r, h, "/x", places)
	r.WaitSettled(t)
}

// abort sends a request and goes away: before its answer, behind its head, with a reset or without.
func abort(t *testing.T, addr, text string, how int) {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(c, text)
	if how&1 != 0 && !strings.Contains(text, "/x/head") && !strings.HasPrefix(text, "POST") {
		_, _ = http.ReadResponse(bufio.NewReader(c), nil)
	}
	if how&2 != 0 {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}

// A socket holds its place as long as it is open, to an upstream and to a service, and however it ends.
func TestSocketHoldsItsPlaceWhileItIsOpen(t *testing.T) {
	up, inService := edgetest.LimitedRoute("up",
		edgetest.Per("sockets")), edgetest.LimitedRoute("service", edgetest.Per("sockets"))
	up.To, inService.To.Name = node.Target{Kind: node.KindUpstream, Name: "app"}, "sockets"
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		c, _, _, err := ws.UpgradeHTTP(req, w)
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		for {
			data, op, err := wsutil.ReadClientData(c)
			if err != nil || string(data) == "end" || wsutil.WriteServerMessage(c, op, data) != nil {
				return
			}
		}
	}))
	t.Cleanup(app.Close)
	r := edgetest.Start(t, edgetest.Config{
		Limits: &edgetest.LimitsConfig{Named: map[string]node.Limit{"sockets": edgetest.InFlight(1)}},
		Routes: []node.Route{up, inService},
	})
	r.Upstream(t, app.URL)
	r.StreamService(t, "sockets", func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		return &mesh.Response{Status: 101, Stream: &ending{q.Stream}, Length: -1}, nil
	})
	for _, path := range []string{"/up/x", "/service/x"} {
		for _, end := range []string{"close", "reset", "bye", "target"} {
			var c net.Conn
			nodetest.Eventually(t, path+" has a place after "+end, func() bool {
				var err error
				c, _, _, err = ws.Dial(t.Context(), "ws://"+r.Address+path)
				var status ws.StatusError
				if err != nil && (!errors.As(err, &status) || int(status) != http.StatusTooManyRequests) {
					t.Fatal(err)
				}
				return err == nil
			})
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_ = wsutil.WriteClientText(c, []byte("hello"))
			if got, err := wsutil.ReadServerText(c); err != nil || string(got) != "hello" {
				t.Errorf("%s: got %q, %v", path, got, err)
			}
			var status ws.StatusError
			if _, _, _, err := ws.Dial(t.Context(), "ws://"+r.Address+path); !errors.As(err, &status) ||
				int(status) != http.StatusTooManyRequests {
				t.Errorf("%s: the second socket got %v", path, err)
			}
			switch end {
			case "reset":
				_ = c.(*net.TCPConn).SetLinger(0)
			case "bye":
				_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))))
				_, _ = io.Copy(io.Discard, c)
			case "target":
				_ = wsutil.WriteClientText(c, []byte("end"))
				_, _ = io.Copy(io.Discard, c)
			}
			_ = c.Close()
		}
	}
	nodetest.Eventually(t, "the place is free in the end", func() bool {
		c, _, _, err := ws.Dial(t.Context(), "ws://"+r.Address+"/up/x")
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	r.WaitSettled(t)
}

// ending is an echo of messages that ends with the message "end".
type ending struct{ mesh.Body }

func (e *ending) Next() (mesh.Piece, error) {
	p, err := e.Body.Next()
	if string(p.Data) == "end" {
		return mesh.Piece{}, io.EOF
	}
	return p, err
}
