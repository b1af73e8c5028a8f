package front_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// noise gives n bytes that any piece lost, repeated or moved would change, and their hash once they are read.
func noise(n int64) (io.Reader, func() string) {
	h := sha256.New()
	return io.TeeReader(io.LimitReader(rand.NewChaCha8([32]byte{byte(n)}), n), h), func() string {
		return hex.EncodeToString(h.Sum(nil))
	}
}

// Bodies of any length go to an upstream and back, with a length and without, at the same time and byte by byte.
func TestBodiesOfAnyLengthPassUnchanged(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("X-Length", strconv.FormatInt(req.ContentLength, 10))
		if req.ContentLength > 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(req.ContentLength, 10))
		}
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, req.Body)
	})
	c := edgetest.Client(t)
	for _, size := range []int64{1, 100_000, 524_288, 524_289, 32 << 20} {
		for _, length := range []int64{size, -1} {
			body, sent := noise(size)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/", body)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = length
			resp, err := c.Do(req)
			if err != nil {
				t.Fatalf("%d bytes, length %d: %v", size, length, err)
			}
			h := sha256.New()
			if _, err := io.Copy(h, resp.Body); err != nil {
				t.Errorf("%d bytes, length %d: %v", size, length, err)
			}
			_ = resp.Body.Close()
			if got := hex.EncodeToString(h.Sum(nil)); got != sent() || resp.StatusCode != http.StatusOK {
				t.Errorf("%d bytes, length %d: status %d, hash %s, want %s", size, length, resp.StatusCode, got, sent())
			}
		}
	}
	r.WaitSettled(t)
}

// Interim responses of an upstream reach the client, known or not, more of them than may pass end no response, and
// HTTP/1.0 gets none.
func TestInterimResponsesReachTheClient(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(104)
		for range 12 {
			w.WriteHeader(http.StatusEarlyHints)
		}
	})
	got := r.SendRaw(t,
		"GET /many HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 104 \r\nLink: </a.css>\r\n\r\n") != 2 ||
		strings.Count(got, "HTTP/1.1 103 Early Hints\r\n") != 14 || strings.Count(got, "HTTP/1.1 200 OK") != 2 {
		t.Errorf("got %q", got)
	}
	if got := r.SendRaw(t, "GET /many HTTP/1.0\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.0 200") &&
		!strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("HTTP/1.0 got %q", got)
	}
}

// Trailer fields pass both ways.
func TestTrailersPassBothWays(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Trailer", "X-Answer")
		n, _ := io.Copy(io.Discard, req.Body)
		w.Header().Set("X-Answer", fmt.Sprintf("%d %s", n, req.Trailer.Get("X-Sum")))
	})
	body, sent := noise(700_000)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = -1
	req.Trailer = http.Header{"X-Sum": nil}
	req.Body = io.NopCloser(io.MultiReader(body, readerFunc(func([]byte) (int, error) {
		req.Trailer.Set("X-Sum", sent())
		return 0, io.EOF
	})))
	resp, err := edgetest.Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, resp.Body)
	if got := resp.Trailer.Get("X-Answer"); got != "700000 "+sent() {
		t.Errorf("trailer %q, want 700000 %s", got, sent())
	}
}

// Trailer fields of a request that is small, and there at once, aren't lost; where nobody takes streams, the body
// isn't.
func TestTrailersOfSmallRequestsPass(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		_, _ = fmt.Fprintf(w, "%s %s", body, req.Trailer.Get("X-Sum"))
	})
	whole, streams, gathers := edgetest.Route("whole", "/whole"), edgetest.Route("streams",
		"/streams"), edgetest.Route("", "/*")
	whole.To.Name, streams.To.Name = "whole", "streams"
	gathers.To = node.Target{Kind: node.KindUpstream, Name: "app"}
	r.SetRoutes(node.Default().Edge, []node.Route{whole, streams, gathers})
	handler := func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		body := q.Body
		sum := ""
		if q.Stream != nil {
			body, _ = io.ReadAll(mesh.NewReader(q.Stream))
			sum = q.Stream.Trailer().Get("X-Sum")
		}
		return &mesh.Response{Status: 200, Body: fmt.Appendf(nil, "%s %s", body, sum)}, nil
	}
	r.Service(t, "whole", handler)
	r.StreamService(t, "streams", handler)
	for path, want := range map[string]string{"/app": "abc 7", "/streams": "abc 7", "/whole": "abc "} {
		for _, request := range []string{
			"POST " + path + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n" +
				"3\r\nabc\r\n" +
				"0\r\nX-Sum: 7\r\n\r\n",
			"POST " + path + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n1\r\na\r\n" +
				"2\r\nbc\r\n0\r\nX-Sum: 7\r\n\r\n",
		} {
			if resp, body := r.Raw(t, request); resp.StatusCode != http.StatusOK || body != want {
				t.Errorf("%s: %d %q, want %q", path, resp.StatusCode, body, want)
			}
		}
	}
	if resp, body := r.Raw(t,
		"POST /app HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n"+
			"X-Sum 7\r\n\r\n"); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a malformed trailer: %d %q", resp.StatusCode, body)
	}
	r.WaitSettled(t)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Each event passes at once, and the upstream is told when the client has gone.
func TestEventsPassAtOnce(t *testing.T) {
	events, gone := make(chan string), make(chan struct{})
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.(http.Flusher).Flush()
		for {
			select {
			case e := <-events:
				_, _ = fmt.Fprintf(w, "data: %s\n\n", e)
				w.(http.Flusher).Flush()
			case <-req.Context().Done():
				close(gone)
				return
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := edgetest.Client(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(resp.Body)
	for i := range 100 {
		want := fmt.Sprint("event ", i)
		events <- want // the next one is sent only when this one has come
		if line, err := lines.ReadString('\n'); err != nil || line != "data: "+want+"\n" {
			t.Fatalf("got %q, %v", line, err)
		}
		_, _ = lines.ReadString('\n')
	}
	begun := time.Now()
	cancel()
	<-gone
	t.Logf("the upstream was told %s after the client went", time.Since(begun))
	r.WaitSettled(t)
}

// A client that goes away while its request waits for an answer ends it, at the member and at the upstream.
func TestClientThatGoesAwayEndsItsRequest(t *testing.T) {
	entered, gone := make(chan struct{}), make(chan struct{})
	wait := func(ctx context.Context) {
		entered <- struct{}{}
		<-ctx.Done()
		gone <- struct{}{}
	}
	r := edgetest.StartProxy(t, nil, func(_ http.ResponseWriter, req *http.Request) {
		_, _ = io.Copy(io.Discard, req.Body)
		wait(req.Context())
	})
	r.Service(t, "wait", func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		wait(ctx)
		return nil, ctx.Err()
	})
	waits := edgetest.Route("wait", "/wait")
	waits.To.Name = "wait"
	all := edgetest.ProxyRoute("/*")
	cfg := node.Default().Edge
	r.SetRoutes(cfg, []node.Route{waits, all})
	for _, text := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET /wait HTTP/1.1\r\nHost: h\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 600000\r\n\r\n" + strings.Repeat("x", 600_000),
	} {
		for _, reset := range []bool{false, true} {
			c, err := net.Dial("tcp", r.Address)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, text)
			<-entered
			if reset {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			begun := time.Now()
			_ = c.Close()
			<-gone
			if took := time.Since(begun); took > 50*time.Millisecond {
				t.Logf("%.20q: told after %s", text, took)
			}
		}
	}
	r.WaitSettled(t)
}

// What comes on the connection while a request runs isn't lost: it is the next request.
func TestPipelinedRequestWaitsForASlowOne(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/slow" {
			<-time.After(100 * time.Millisecond) // longer than it takes to look for the client
		}
		_, _ = io.WriteString(w, req.URL.Path)
	})
	got := r.SendRaw(t,
		"GET /slow HTTP/1.1\r\nHost: h\r\n\r\nGET /next HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 200") != 2 || !strings.Contains(got, "/slow") || !strings.Contains(got, "/next") {
		t.Errorf("got %q", got)
	}
}

// A route may let requests finish without a client, and answers one that only ended its sending side.
func TestHalfClosedClientGetsItsResponse(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		<-time.After(100 * time.Millisecond) // longer than it takes to look for the client
		_, _ = io.WriteString(w, "done")
	})
	finish := edgetest.Route("", "/*")
	finish.To, finish.OnDisconnect = node.Target{Kind: node.KindUpstream, Name: "app"}, node.OnDisconnectFinish
	r.SetRoutes(node.Default().Edge, []node.Route{finish})
	c, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	_ = c.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(c); err != nil || !strings.HasSuffix(string(got), "done") {
		t.Errorf("got %q, %v", got, err)
	}
}

// However an upstream's response breaks off, the client sees a cut connection and never a body that looks complete.
func TestCutResponseNeverLooksComplete(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/length" {
			w.Header().Set("Content-Length", "2000000")
		}
		_, _ = w.Write(make([]byte, 700_000))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	for _, version := range []string{"1.0", "1.1"} {
		for _, path := range []string{"/length", "/chunks"} {
			c, err := net.Dial("tcp", r.Address)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = fmt.Fprintf(c, "GET %s HTTP/%s\r\nHost: h\r\n\r\n", path, version)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err == nil {
				var n int64
				n, err = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if n > 700_000 {
					t.Errorf("%s to HTTP/%s: %d bytes", path, version, n)
				}
			}
			if err == nil {
				t.Errorf("%s to HTTP/%s: the response looks complete", path, version)
			}
			_ = c.Close()
		}
	}
	r.WaitSettled(t)
}

// Early hints of the upstream reach the client before the response.
func TestEarlyHintsReachTheClientFirst(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusProcessing)
		_, _ = io.WriteString(w, "page")
	})
	got := r.SendRaw(t, "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
	hint, rest, _ := strings.Cut(got, "\r\n\r\n")
	processing, page, _ := strings.Cut(rest, "\r\n\r\n")
	if hint != "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload" ||
		!strings.HasPrefix(processing, "HTTP/1.1 102") || !strings.HasSuffix(page, "page") {
		t.Errorf("got %q", got)
	}
	if old := r.SendRaw(t,
		"GET / HTTP/1.0\r\nHost: h\r\n\r\n"); !strings.HasPrefix(old, "HTTP/1.1 200") {
		t.Errorf("HTTP/1.0 got %q", old)
	}
}

// Every method passes, and its response is framed as it must be.
func TestEveryMethodPasses(t *testing.T) {
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		n, _ := io.Copy(io.Discard, req.Body)
		w.Header().Set("X-Method", req.Method)
		_, _ = fmt.Fprint(w, n)
	})
	for _, method := range []string{
		"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY",
		"M-SEARCH", "MKCALENDAR", "X",
	} {
		body := "abc"
		if method == "HEAD" {
			body = ""
		}
		resp, got := r.Do(t, method, "/", body)
		if resp.Header.Get("X-Method") != method || (method != "HEAD" && got != "3") ||
			(method == "HEAD" && (got != "" || resp.ContentLength != 1)) {
			t.Errorf("%s: got %q, %+v", method, got, resp)
		}
	}
}
