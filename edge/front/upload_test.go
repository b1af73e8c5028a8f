package front_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// An upload reaches the upstream while its client still sends it, and the response's head the client while it still
// uploads.
func TestUploadReachesTheUpstreamAsItComes(t *testing.T) {
	arrived := make(chan int, 100)
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusAccepted)
		w.(http.Flusher).Flush()
		buf := make([]byte, 64<<10)
		for {
			n, err := req.Body.Read(buf)
			if n > 0 {
				arrived <- n
			}
			if err != nil {
				close(arrived)
				return
			}
		}
	})
	c, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = fmt.Fprintf(c, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", 700_000)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("before the body: %+v, %v", resp, err)
	}
	defer func() { _ = resp.Body.Close() }()
	for range 7 {
		_, _ = c.Write(make([]byte, 100_000))
		for got := 0; got < 100_000; { // the next is sent only when this has arrived
			n, ok := <-arrived
			if got += n; !ok {
				t.Fatal("the upload broke off")
			}
		}
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Error(err)
	}
	r.WaitSettled(t)
}

// Uploads that their clients break off say nothing about the upstream: it goes on getting requests.
func TestBrokenUploadSaysNothingOfTheUpstream(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan struct{})
	r := edgetest.StartProxy(t, nil, func(_ http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPut {
			entered <- struct{}{}
			_, _ = io.Copy(io.Discard, req.Body)
			ended <- struct{}{}
		}
	})
	for range 10 {
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc")
		<-entered
		_ = c.Close()
		<-ended
		if resp, _ := r.Do(t, "GET", "/", ""); resp.StatusCode != http.StatusOK {
			t.Fatalf("afterwards: %d", resp.StatusCode)
		}
	}
	r.WaitSettled(t)
}

// An upstream may answer an upload and close, without reading it: the client gets the answer.
func TestEarlyRefusalReachesTheClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				_, _ = http.ReadRequest(bufio.NewReader(c))
				_, _ = io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.CopyN(io.Discard, c, 3<<20) // as servers do, so that the answer isn't lost in a reset
				_ = c.Close()
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); conns.Wait() })
	all := edgetest.ProxyRoute("/*")
	r := edgetest.Start(t, edgetest.Routed(all))
	r.Upstream(t, "http://"+l.Addr().String())
	for range 10 {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.URL+"/",
			io.LimitReader(edgetest.Zeros{}, 2<<20))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := edgetest.Client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %d", resp.StatusCode)
		}
	}
	r.WaitSettled(t)
}

// 100 Continue is sent when somebody takes the body, and neither before a refusal nor after the response has begun.
func TestContinueIsSentWhenTheBodyIsTaken(t *testing.T) {
	small := func(e *node.Edge) { e.MaxBody = 2 << 20 }
	r := edgetest.StartProxy(t, small, func(w http.ResponseWriter, req *http.Request) {
		n := int64(0)
		if req.URL.Path != "/unread" {
			n, _ = io.Copy(io.Discard, req.Body)
		}
		_, _ = fmt.Fprint(w, n)
	})
	ask := func(path string, length int, expect string) (string, *bufio.Reader, net.Conn) {
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: h\r\nExpect: %s\r\nContent-Length: %d\r\n\r\n", path, expect,
			length)
		in := bufio.NewReader(c)
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(line), in, c
	}
	if line, _, _ := ask("/", 3<<20, "100-continue"); !strings.HasPrefix(line, "HTTP/1.1 413") {
		t.Errorf("too large: %q", line)
	}
	if line, _, _ := ask("/", 3, "wonders"); !strings.HasPrefix(line, "HTTP/1.1 417") {
		t.Errorf("unknown expectation: %q", line)
	}
	for _, length := range []int{3, 1 << 20} {
		line, in, c := ask("/", length, "100-continue")
		if line != "HTTP/1.1 100 Continue" {
			t.Fatalf("%d bytes: %q", length, line)
		}
		_, _ = in.ReadString('\n')
		_, _ = io.WriteString(c, strings.Repeat("x", length))
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(resp.Body); string(got) != strconv.Itoa(length) {
			t.Errorf("%d bytes: got %q", length, got)
		}
		_ = resp.Body.Close()
	}
	r.WaitSettled(t)
}

// A chunked body that nobody takes as a stream is sent whole, as far as it fits; a longer one is too large.
func TestChunkedBodyThatNobodyStreamsIsSentWhole(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*")))
	for _, c := range []struct {
		size   int64
		status int
	}{{300_000, 200}, {600_000, 413}} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/",
			io.LimitReader(edgetest.Zeros{}, c.size))
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = -1
		resp, err := edgetest.Client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || (c.status == 200 && int64(len(got)) != c.size) {
			t.Errorf("%d bytes: status %d, %d bytes", c.size, resp.StatusCode, len(got))
		}
	}
	if r.Conn.Streams() != 0 {
		t.Error("a stream is left")
	}
}

// A chunked body that is collected after all takes a place like any other request.
func TestCollectedUploadsAreAdmitted(t *testing.T) {
	wait := edgetest.Route("wait", "/wait")
	wait.To.Name = "wait"
	r := edgetest.Start(t, edgetest.Config{Edge: func(e *node.Edge) { e.MaxRequests = 3 }, Routes: []node.Route{wait}})
	var running atomic.Int64
	release := make(chan struct{})
	r.Service(t, "wait", func(context.Context, *mesh.Request) (*mesh.Response, error) {
		running.Add(1)
		<-release
		return &mesh.Response{Status: 200}, nil
	})
	refused := make(chan int, 20)
	var clients sync.WaitGroup
	for range 20 {
		clients.Go(func() {
			body := io.MultiReader(strings.NewReader("a"), readerFunc(func([]byte) (int, error) {
				<-time.After(20 * time.Millisecond)
				return 0, io.EOF
			}))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.URL+"/wait", body)
			if err != nil {
				t.Error(err)
				return
			}
			req.ContentLength = -1
			resp, err := edgetest.Client(t).Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusServiceUnavailable {
				refused <- 1
			}
		})
	}
	nodetest.Eventually(t, "the others are refused", func() bool { return len(refused) == 17 })
	if n := running.Load(); n != 3 {
		t.Errorf("%d ran at once", n)
	}
	close(release)
	clients.Wait()
}
