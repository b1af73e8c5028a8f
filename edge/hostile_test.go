package edge_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/andybalholm/brotli"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// A compressed body is bytes to the edge: it arrives as it was sent, and nothing unpacks it.
func TestCompressedBodyIsNotUnpacked(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*")))
	zeros := make([]byte, 32<<20)
	for coding, packer := range map[string]func(io.Writer) io.WriteCloser{
		"gzip":    func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"br":      func(w io.Writer) io.WriteCloser { return brotli.NewWriterLevel(w, 4) },
		"deflate": func(w io.Writer) io.WriteCloser { f, _ := flate.NewWriter(w, 6); return f },
	} {
		var packed bytes.Buffer
		w := packer(&packed)
		_, _ = w.Write(zeros)
		_ = w.Close()
		bomb := packed.Bytes()[:min(packed.Len(), 500<<10)]
		before := edgetest.Heap()
		resp, body := r.Do(t, "POST", "/", string(bomb), "Content-Encoding", coding)
		if resp.StatusCode != http.StatusOK || body != string(bomb) {
			t.Errorf("%s: got %d and %d bytes, sent %d", coding, resp.StatusCode, len(body), len(bomb))
		}
		if grown := edgetest.Heap() - before; grown > 12<<20 {
			t.Errorf("%s: the heap grew by %d MiB", coding, grown>>20)
		}
	}
}

// heldMemory follows what is held over time. What is allocated while the garbage collector looks counts as held to it,
// so that one look in a busy time may show hundreds of MiB of garbage; what is really held is in each of several looks.
type heldMemory struct {
	looks uint64
	lasts [4]int64
	peak  int64
}

// look takes notice of a cycle of the garbage collector, if there was one since.
func (h *heldMemory) look() {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(s)
	if n := s[1].Value.Uint64(); n != h.looks {
		h.looks = n
		copy(h.lasts[:], h.lasts[1:])
		h.lasts[len(h.lasts)-1] = int64(s[0].Value.Uint64())
		h.peak = max(h.peak, slices.Min(h.lasts[:]))
	}
}

// What is far too large is refused while it is still being sent, and costs no more memory than its bound.
func TestEndlessRequestIsRefusedWithinItsBound(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*")))
	const get, post = "GET / HTTP/1.1\r\nHost: h\r\n",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	for name, c := range map[string]struct {
		begin, again string
		times        int
		status       string
	}{
		"100,000 fields":            {get, "X: y\r\n", 100_000, "431"},
		"one endless field":         {get + "X: ", strings.Repeat("y", 100), 100_000, "431"},
		"endless target":            {"GET /", strings.Repeat("y", 100), 100_000, "414"},
		"endless extension":         {post + "1;", strings.Repeat("y", 100), 1000, "400"},
		"5,000 trailers":            {post + "0\r\n", "X: y\r\n", 5000, "400"},
		"a chunk a byte":            {post, "1\r\nx\r\n", 600_000, "413"},
		"extensions on every chunk": {post, "1;" + strings.Repeat("y", 200) + "\r\nx\r\n", 10_000, "400"},
	} {
		t.Run(name, func(t *testing.T) {
			before := edgetest.Heap()
			conn, err := net.Dial("tcp", r.Address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
			go func() {
				_, _ = io.WriteString(conn, c.begin)
				again := []byte(strings.Repeat(c.again, 100))
				for range c.times / 100 {
					if _, err := conn.Write(again); err != nil {
						return
					}
				}
			}()
			answer := make([]byte, 12)
			if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "HTTP/1.1 "+c.status {
				t.Errorf("got %q, %v", answer, err)
			}
			if grown := edgetest.Heap() - before; grown > 32<<20 {
				t.Errorf("the heap grew by %d MiB", grown>>20)
			}
		})
	}
}

// Long paths are refused at the edge: none of them reaches the mesh connection, which would break.
func TestLongPathsAreRefused(t *testing.T) {
	plain := edgetest.Route("plain", "/plain/{name}")
	plain.To = node.Target{Kind: node.KindNATS, Subject: edgetest.Subject(t, "plain.{name}")}
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*"), plain))
	for _, path := range []string{
		"/" + strings.Repeat("a", 10_000), "/plain/" + strings.Repeat("a", 10_000),
		"/" + strings.Repeat("%61", 3400),
	} {
		if resp, _ := r.Do(t, "GET", path, ""); resp.StatusCode != http.StatusRequestURITooLong {
			t.Errorf("%.20s…: got %d", path, resp.StatusCode)
		}
	}
	if resp, _ := r.Do(t, "GET", "/plain/"+strings.Repeat("a", 5000), ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("a parameter too long for a subject: got %d", resp.StatusCode)
	}
	if n := r.Conn.NATS().Reconnects; n != 0 || !r.Conn.Up() {
		t.Errorf("the mesh connection broke: %d reconnects", n)
	}
}

// Clients that send or read as slowly as they can are ended at the time-outs, and meanwhile nobody else notices.
func TestSlowClientsEndAtTheTimeouts(t *testing.T) {
	const crowd = 300
	r := edgetest.Start(t, edgetest.Config{Edge: func(e *node.Edge) {
		e.ReadTimeout, e.WriteTimeout, e.IdleTimeout = node.Duration(time.Second), node.Duration(time.Second),
			node.Duration(time.Second)
	}, Routes: []node.Route{edgetest.EchoRoute("/*")}})
	before, held := edgetest.Heap(), heldMemory{}
	modes := map[string]func(ctx context.Context, c net.Conn) error{
		"slow head":   trickle("GET / HTTP/1.1\r\nHost: h\r\n", "X-a: b\r\n"),
		"slow body":   trickle("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n", "x"),
		"slow chunks": trickle("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n"),
		"silence":     trickle("", ""),
		"slow reader": func(ctx context.Context, c net.Conn) error {
			request := "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 400000\r\n\r\n" + strings.Repeat("x", 400_000)
			for ctx.Err() == nil { // the edge stops reading once its responses aren't taken, and then ends
				if _, err := io.WriteString(c, request); err != nil {
					return nil //nolint:nilerr // that is the end that is waited for
				}
			}
			return ctx.Err()
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var wait sync.WaitGroup
	for mode, attack := range modes {
		n := crowd
		if mode == "slow reader" {
			n = 20 // each fills socket buffers of megabytes
		}
		for range n {
			wait.Go(func() {
				c, err := net.Dial("tcp", r.Address)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if err := attack(ctx, c); err != nil {
					t.Errorf("%s: wasn't ended: %v", mode, err)
				}
			})
		}
	}
	attacked := make(chan struct{})
	go func() { wait.Wait(); close(attacked) }()
	served := 0
	for over := false; !over; {
		select {
		case <-attacked:
			over = true
		default:
		}
		if resp, _ := r.Do(t, "POST", "/", "hello"); resp.StatusCode == http.StatusOK {
			served++
		} else {
			t.Errorf("another client got %d", resp.StatusCode)
		}
		held.look()
	}
	grown := held.peak - before
	if grown > 128<<20 {
		t.Errorf("what is held grew by %d MiB", grown>>20)
	}
	t.Logf("%d requests of others were served meanwhile, with %d collections; what is held grew by %d MiB at most",
		served, held.looks, grown>>20)
}

// trickle sends begin and then a little every 50 ms until the connection ends, which must happen before ctx does.
func trickle(begin, little string) func(context.Context, net.Conn) error {
	return func(ctx context.Context, c net.Conn) error {
		_, _ = io.WriteString(c, begin)
		ended := make(chan struct{})
		go func() { _, _ = io.Copy(io.Discard, c); close(ended) }()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return nil
			case <-ctx.Done():
				c.Close()
				<-ended
				return errors.New("still open")
			case <-tick.C:
				_, _ = io.WriteString(c, little)
			}
		}
	}
}

// Connections that are dropped and requests that are aborted leave nothing behind.
func TestDroppedConnectionsLeaveNothing(t *testing.T) {
	const times, atOnce = 10_000, 50
	slow := edgetest.Route("slow", "/slow")
	slow.To.Name, slow.Timeout = "slow", node.Duration(200*time.Millisecond)
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*"), slow))
	member := r.Service(t, "slow", func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	down := edgetest.Route("down", "/down")
	down.To.Name = "down"
	r.SetRoutes(node.Default().Edge, []node.Route{edgetest.EchoRoute("/*"), slow, down})
	streams := r.StreamService(t, "down", downAndUp)
	upgrade := "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	sent := []string{
		"GET /down HTTP/1.1\r\nHost: h\r\n\r\n", "GET /down HTTP/1.1\r\nHost: h\r\n" + upgrade + "\r\n",
		"GET /down HTTP/1.1\r\nHost: h\r\n" + upgrade + "\r\n\x81",
		"POST /down HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n" + strings.Repeat("x", 20_000),
		"POST /down HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 10000000\r\n\r\n",
		"POST /down HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1000\r\nab",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\nab",
		"", "GET", "GET / HTTP/1.1\r\nHost: h\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n",
	}
	drop := func(text string) {
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(c, text)
		if strings.Contains(text, " /down ") { // in the middle of a stream, where there is one
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			_, _ = c.Read(make([]byte, 64))
		}
		_ = c.(*net.TCPConn).SetLinger(0) // a reset, as from a process that was killed
		_ = c.Close()
	}
	rounds := func(n int) {
		var wait sync.WaitGroup
		for w := range atOnce {
			wait.Go(func() {
				for i := range n / atOnce {
					drop("")
					drop(sent[(i+w)%len(sent)])
				}
			})
		}
		wait.Wait()
	}
	settled := func() bool {
		return r.Connections() == 0 && r.InFlight() == 0 && r.Buffered() == 0 && member.Active() == 0 &&
			streams.Active() == 0 && r.Conn.Streams() == 0
	}
	rounds(times / 10) // pools and buffers have their size then
	nodetest.Eventually(t, "the first round has settled", settled)
	nodetest.Eventually(t, "idle workers are gone", func() bool { return runtime.NumGoroutine() < 100 })
	goroutines, descriptors := runtime.NumGoroutine(), openFiles(t)
	runtime.GC()
	before := edgetest.Heap()
	rounds(times)
	nodetest.Eventually(t, "all connections are gone", settled)
	nodetest.Eventually(t, fmt.Sprintf("goroutines are back at %d", goroutines), func() bool {
		return runtime.NumGoroutine() <= goroutines
	})
	nodetest.Eventually(t, fmt.Sprintf("descriptors are back at %d", descriptors), func() bool {
		return openFiles(t) <= descriptors
	})
	nodetest.Eventually(t, "memory is back", func() bool {
		runtime.GC()
		return edgetest.Heap()-before < 4<<20
	})
	if resp, body := r.Do(t, "POST", "/", "hello"); resp.StatusCode != http.StatusOK || body != "hello" {
		t.Errorf("afterwards: %d %q", resp.StatusCode, body)
	}
}

// downAndUp answers without end: sockets with what they send, others with zeros as fast as they are taken.
func downAndUp(_ context.Context, r *mesh.Request) (*mesh.Response, error) {
	if r.Upgrade != "" {
		return &mesh.Response{Status: 101, Stream: r.Stream, Length: -1}, nil
	}
	if r.Stream != nil {
		if _, err := io.Copy(io.Discard, mesh.NewReader(r.Stream)); err != nil {
			return nil, err
		}
	}
	return &mesh.Response{Status: 200, Stream: mesh.NewBody(edgetest.Zeros{}), Length: -1}, nil
}

// openFiles counts this process's descriptors.
func openFiles(tb testing.TB) int {
	tb.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	return len(entries)
}

// Clients that read or write a kilobyte a second run out of time; others go on.
func TestSlowStreamsRunOutOfTime(t *testing.T) {
	var flowing atomic.Int64
	r := edgetest.StartProxy(t, func(e *node.Edge) {
		e.ReadTimeout, e.WriteTimeout = node.Duration(500*time.Millisecond), node.Duration(500*time.Millisecond)
	}, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodPost {
			_, _ = io.Copy(io.Discard, req.Body)
			return
		}
		_, err := io.CopyN(w, edgetest.Zeros{}, 64<<20)
		if err != nil {
			flowing.Add(1)
		}
	})
	const each = 50
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var clients sync.WaitGroup
	for i := range 2 * each {
		clients.Go(func() {
			c, err := net.Dial("tcp", r.Address)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			if i%2 == 0 {
				_ = trickle("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n",
					strings.Repeat("x", 50))(ctx, c)
				return
			}
			_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
			tick := time.NewTicker(50 * time.Millisecond)
			defer tick.Stop()
			for ctx.Err() == nil {
				<-tick.C
				_, _ = io.CopyN(io.Discard, c, 50) // what has arrived can be read long after the connection was cut
			}
		})
	}
	nodetest.Eventually(t, "all stream", func() bool { return r.Conn.Streams() >= each })
	for range 20 {
		if resp, _ := r.Do(t, "POST", "/", "quick"); resp.StatusCode != http.StatusOK {
			t.Errorf("another client got %d", resp.StatusCode)
		}
	}
	nodetest.Eventually(t, "the slow ones are ended", func() bool {
		http.DefaultClient.CloseIdleConnections()
		return r.Connections() == 0
	})
	cancel()
	clients.Wait()
	r.WaitSettled(t)
	if flowing.Load() != each {
		t.Errorf("the upstream was told of %d readers that were ended", flowing.Load())
	}
}
