package upstream_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// keepAliveTarget answers with the function on connections that stay open, and counts the connections.
func keepAliveTarget(tb testing.TB, answer func(c net.Conn, r *http.Request)) (url string, connections *atomic.Int64) {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	connections = new(atomic.Int64)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				in := bufio.NewReader(c)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					answer(c, r)
				}
			})
		}
	})
	tb.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range open {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "http://" + l.Addr().String(), connections
}

const realAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nreal"

// Bytes after a response never become the answer to the next request, for bodies of all sizes near those of the
// buffers.
func TestLeftoversAreNotAnAnswer(t *testing.T) {
	const forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	url, _ := keepAliveTarget(t, func(c net.Conn, r *http.Request) {
		var size int
		if _, err := fmt.Sscanf(r.URL.Path, "/leave/%d", &size); err != nil {
			_, _ = io.WriteString(c, realAnswer)
			return
		}
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s%s", size, strings.Repeat("x", size), forged)
	})
	r := start(t, config(url))
	for _, size := range []int{0, 1, 4000, 4096, 4097, 8000, 65536, 100_000} {
		if resp, err := r.do(t, "GET", fmt.Sprintf("/leave/%d", size), ""); err != nil || len(resp.Body) != size {
			t.Fatalf("size %d: %v", size, err)
		}
		for _, method := range []string{"GET", "POST"} {
			if resp, err := r.do(t, method, "/", ""); err != nil || string(resp.Body) != "real" {
				t.Errorf("after a body of %d the next %s got %+v, %v", size, method, resp, err)
			}
		}
	}
}

// What a target sends unasked on an idle connection isn't an answer either.
func TestUnsolicitedResponse(t *testing.T) {
	sendMore, sentMore := make(chan struct{}), make(chan struct{})
	var first sync.Once
	url, connections := keepAliveTarget(t, func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, realAnswer)
		first.Do(func() {
			go func() {
				<-sendMore
				_, _ = io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
				close(sentMore)
			}()
		})
	})
	r := start(t, config(url))
	if _, err := r.do(t, "GET", "/", ""); err != nil {
		t.Fatal(err)
	}
	close(sendMore) // the response is read: let the target send more
	<-sentMore
	nodetest.Eventually(t, "a new connection is made", func() bool {
		resp, err := r.do(t, "GET", "/", "")
		if err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
		return connections.Load() == 2
	})
}

// A request that makes its target close the connection is sent at most twice, however many idle connections there are.
func TestClosingRequestIsSentAtMostTwice(t *testing.T) {
	var closing atomic.Int64
	var arrived sync.WaitGroup
	arrived.Add(20)
	url, _ := keepAliveTarget(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/poison" {
			closing.Add(1)
			c.Close()
			return
		}
		arrived.Done()
		arrived.Wait() // so that each needs its own connection
		_, _ = io.WriteString(c, realAnswer)
	})
	r := start(t, config(url))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.do(t, "GET", "/", ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := r.do(t, "DELETE", "/poison", ""); node.CodeOf(err) != node.CodeUpstream {
		t.Errorf("got %v", err)
	}
	if n := closing.Load(); n > 2 {
		t.Errorf("one DELETE ran %d times", n)
	}
}

// A connection is reused after the last request's deadline has passed.
func TestReuseAfterDeadline(t *testing.T) {
	url, connections := keepAliveTarget(t, func(c net.Conn, _ *http.Request) { _, _ = io.WriteString(c, realAnswer) })
	cfg := config(url)
	cfg.Timeout = node.Duration(200 * time.Millisecond)
	r := start(t, cfg)
	for range 3 {
		if _, err := r.do(t, "POST", "/", ""); err != nil {
			t.Fatal(err)
		}
		<-time.After(250 * time.Millisecond)
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("three requests took %d connections", n)
	}
}

// An upstream that failed to start isn't a member: the next Apply makes one that serves every request.
func TestFailedApplyLeavesNoMember(t *testing.T) {
	s := startServer(t, func(http.ResponseWriter, *http.Request) {})
	cfg := config(s.URL)
	r := start(t, cfg)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	both := map[string]node.Upstream{"api": cfg, "b": cfg}
	if err := r.set.Apply(ctx, both); err == nil {
		t.Fatal("applied with a canceled context")
	}
	if err := r.set.Apply(t.Context(), both); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := r.conn.Do(t.Context(), r.conn.Upstream("b"),
			&mesh.Request{
				Method: "POST", Target: "/", Host: "h",
				Deadline: time.Now().Add(5 * time.Second),
			}); err != nil {
			t.Fatal(err)
		}
	}
}

// A slow upstream doesn't use up the others' time to finish.
func TestShutdownIsParallel(t *testing.T) {
	entered := make(chan struct{}, 2)
	finish := make(chan struct{})
	slow := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done() // never ends by itself
	})
	quick := startServer(t, func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-finish
	})
	r := start(t, config(slow.URL))
	if err := r.set.Apply(t.Context(),
		map[string]node.Upstream{"api": config(slow.URL), "quick": config(quick.URL)}); err != nil {
		t.Fatal(err)
	}
	answers := make(chan error, 1)
	go func() { _, _ = r.do(t, "POST", "/", "") }()
	go func() {
		_, err := r.conn.Do(t.Context(), r.conn.Upstream("quick"),
			&mesh.Request{Method: "POST", Target: "/", Host: "h", Deadline: time.Now().Add(20 * time.Second)})
		answers <- err
	}()
	<-entered
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	down := make(chan error, 1)
	go func() { down <- r.set.Shutdown(ctx) }()
	close(finish)
	if err := <-answers; err != nil {
		t.Errorf("the quick upstream's request was cut off: %v", err)
	}
	if err := <-down; err == nil {
		t.Error("the slow upstream finished, which it can't")
	}
}

// A hanging target soon gets almost no requests.
func TestHangingTarget(t *testing.T) {
	var hung atomic.Int64
	hangs := startServer(t, func(_ http.ResponseWriter, r *http.Request) {
		hung.Add(1)
		<-r.Context().Done()
	})
	good := startServer(t, func(http.ResponseWriter, *http.Request) {})
	r := start(t, config(hangs.URL, good.URL))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range 200 {
		done := make(chan struct{})
		before := hung.Load()
		wg.Go(func() {
			defer close(done)
			_, _ = r.conn.Do(ctx, r.conn.Upstream("api"),
				&mesh.Request{Method: "POST", Target: "/", Host: "h", Deadline: time.Now().Add(20 * time.Second)})
		})
		nodetest.Eventually(t, "the request is answered, or hangs", func() bool {
			select {
			case <-done:
				return true
			default:
				return hung.Load() > before
			}
		})
	}
	if n := hung.Load(); n > 5 {
		t.Errorf("the hanging target got %d of 200 requests", n)
	}
}

// crashingTarget accepts connections and closes each of them at its second request.
func crashingTarget(tb testing.TB) (url string, got *atomic.Int64) {
	tb.Helper()
	got = &atomic.Int64{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 4096)
				for i := 0; ; i++ {
					if _, err := c.Read(b); err != nil {
						return
					}
					if got.Add(1); i == 1 {
						return // the second request was read, and crashes the worker
					}
					_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	return "http://" + l.Addr().String(), got
}

// A reused connection that turns out to be closed is no failure, if a new one works.
func TestClosedConnectionIsNoFailure(t *testing.T) {
	url, got := crashingTarget(t)
	cfg := config(url, newApp(t, 200).url)
	cfg.Targets[0].Weight, cfg.Eject.Failures, cfg.Retry.Budget = 1000, 1, 100
	r := start(t, cfg)
	for range 30 {
		if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
			t.Fatalf("got %+v, %v", resp, err)
		}
	}
	if s := r.set.Status()[0].Targets[0]; s.State != "up" || s.Failures != 0 || got.Load() < 40 {
		t.Errorf("it had %d requests and is %+v", got.Load(), s)
	}
}

// A target that crashes on requests over reused connections can't double its load, and its failures show.
func TestSendAgainBudget(t *testing.T) {
	url, got := crashingTarget(t)
	r := start(t, config(url))
	const requests = 100
	for range requests {
		_, _ = r.do(t, "GET", "/", "") // some fail, as the target does
	}
	s := r.set.Status()[0]
	if extra := got.Load() - requests; extra < 10 || extra > requests/5+10 || s.Retries != uint64(extra) ||
		s.Targets[0].Failures == 0 {
		t.Errorf("%d requests arrived %d times; %d retries, %d failures", requests, got.Load(), s.Retries,
			s.Targets[0].Failures)
	}
}
