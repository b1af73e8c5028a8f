package upstream_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
	"millrace/mesh/upstream"
	"millrace/node"
	"millrace/node/nodetest"
)

// lines is a log that tests can read.
type lines struct{ nodetest.Output }

// of returns the lines with that message.
func (l *lines) of(tb testing.TB, msg string) (out []map[string]any) {
	tb.Helper()
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			tb.Fatal(err)
		}
		if m["msg"] == msg {
			out = append(out, m)
		}
	}
	return out
}

// startWithLog is start with a log.
func startWithLog(tb testing.TB, cfg node.Upstream) (*rig, *lines) {
	tb.Helper()
	conn, log := natsservertest.Connect(tb, natsservertest.Start(tb)), &lines{}
	set, err := upstream.New(upstream.Config{Conn: conn, Log: slog.New(slog.NewJSONHandler(log, nil))})
	if err == nil {
		err = set.Apply(tb.Context(), map[string]node.Upstream{"api": cfg})
	}
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = set.Close() })
	return &rig{conn, set}, log
}

// listeningTarget is a target that calls answer with each connection once a request has come.
func listeningTarget(tb testing.TB, answer func(net.Conn)) (url string) {
	tb.Helper()
	return "http://" + nodetest.Serve(tb, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			answer(c)
		}
	})
}

func answering(answer string) func(net.Conn) {
	return func(c net.Conn) { _, _ = io.WriteString(c, answer) }
}

// Each way in which a target can fail is distinguished: for the client without an address, and in the log with target,
// route and request.
func TestFailuresAreClassified(t *testing.T) {
	untrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	untrusted.StartTLS()
	defer untrusted.Close()
	plain := listeningTarget(t, answering("HTTP/1.1 400 Bad Request\r\n\r\n"))
	for kind, tc := range map[string]struct {
		url  string
		code node.Code
		text string
	}{
		"refused":     {"http://127.0.0.1:1", node.CodeUpstream, "the upstream refused the connection"},
		"certificate": {untrusted.URL, node.CodeUpstream, "the upstream's certificate isn't valid"},
		"tls": {
			strings.Replace(plain, "http", "https", 1), node.CodeUpstream,
			"no TLS connection to the upstream came about",
		},
		"reset": {
			listeningTarget(t, func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }), node.CodeUpstream,
			"the upstream reset the connection",
		},
		"no_answer": {
			listeningTarget(t, func(net.Conn) {}), node.CodeUpstream,
			"the upstream closed the connection without an answer",
		},
		"cut_off": {
			listeningTarget(t, answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")), node.CodeUpstream,
			"the upstream broke off in the middle of its response",
		},
		"malformed": {
			listeningTarget(t, answering("HTTP/1.1 200 OK\r\nno colon\r\n\r\n")), node.CodeUpstream,
			"the upstream's response is malformed",
		},
		"too_large": {
			listeningTarget(t, answering("HTTP/1.1 200 OK\r\nX: "+strings.Repeat("a", 70<<10))), node.CodeUpstream,
			"the head of the upstream's response is too large",
		},
		"too_large many": {
			listeningTarget(t, answering("HTTP/1.1 200 OK\r\n"+strings.Repeat("X: a\r\n", 257)+"\r\n")),
			node.CodeUpstream,
			"the head of the upstream's response is too large",
		},
		"timeout": {
			listeningTarget(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }), node.CodeTimeout,
			"the upstream didn't answer in time",
		},
		"connect_timeout": {fullBacklog(t), node.CodeTimeout, "no connection to the upstream came about in time"},
	} {
		t.Run(kind, func(t *testing.T) {
			cfg := config(tc.url)
			within := 20 * time.Second
			cfg.ConnectTimeout = node.Duration(within)
			switch kind {
			case "connect_timeout":
				cfg.ConnectTimeout = node.Duration(300 * time.Millisecond)
			case "timeout":
				within = 3 * time.Second
			}
			r, log := startWithLog(t, cfg)
			_, err := r.conn.Do(t.Context(), r.conn.Upstream("api"), &mesh.Request{
				Method: "GET", Target: "/", Host: "h", Route: "orders",
				Header: mesh.Header{{Name: "X-Request-Id", Value: "id7"}}, Deadline: time.Now().Add(within),
			})
			e, ok := errors.AsType[*node.Error](err)
			if !ok || e.Code != tc.code || e.Text != tc.text {
				t.Fatalf("got %v, want %s: %s", err, tc.code, tc.text)
			}
			if unreached := slices.Contains([]string{"refused", "certificate", "tls", "connect_timeout"},
				kind); e.Unreached != unreached {
				t.Errorf("unreached is %t", e.Unreached)
			}
			told := log.of(t, "upstream request failed")
			if len(told) != 1 {
				t.Fatalf("%d lines in the log", len(told))
			}
			want, _, _ := strings.Cut(kind, " ")
			for key, value := range map[string]any{
				"level": "WARN", "upstream": "api", "target": tc.url,
				"route": "orders", "request_id": "id7", "failure": want,
			} {
				if told[0][key] != value {
					t.Errorf("%s is %v, want %v", key, told[0][key], value)
				}
			}
			if cause, _ := told[0]["cause"].(string); cause == "" || strings.Contains(cause, e.Text) {
				t.Errorf("the cause is %q", cause)
			}
		})
	}
}

// fullBacklog is a target whose backlog is full: the system doesn't answer a further connection.
func fullBacklog(tb testing.TB) (url string) {
	tb.Helper()
	fd := backlog(tb)
	dialer := net.Dialer{Timeout: 100 * time.Millisecond}
	for range 8 {
		c, err := dialer.DialContext(tb.Context(), "tcp", fd)
		if err != nil {
			break
		}
		tb.Cleanup(func() { _ = c.Close() })
	}
	return "http://" + fd
}

// A response that ends within its stream is reported as the upstream's failure.
func TestBrokenStreamIsReported(t *testing.T) {
	url := listeningTarget(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000\r\n"+
		strings.Repeat("x", 0x10000)+"\r\n"))
	r, log := startWithLog(t, config(url))
	resp, err := r.conn.Do(t.Context(), r.conn.Upstream("api"), &mesh.Request{
		Method: "GET", Target: "/", Host: "h", Route: "orders",
		Header: mesh.Header{{Name: "X-Request-Id", Value: "id7"}}, Deadline: time.Now().Add(20 * time.Second),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Stream.Close()
	n, err := io.Copy(io.Discard, mesh.NewReader(resp.Stream))
	e, ok := errors.AsType[*node.Error](err)
	if !ok || e.Code != node.CodeUpstream || e.Text != "the upstream broke off in the middle of its response" {
		t.Errorf("after %d bytes: %v", n, err)
	}
	if told := log.of(t, "upstream request failed"); len(told) != 1 || told[0]["failure"] != "cut_off" ||
		told[0]["request_id"] != "id7" {
		t.Errorf("the log tells %v", told)
	}
}

// When everything fails, the log isn't flooded, but each kind of failure of each target is logged.
func TestFailureLogIsThrottled(t *testing.T) {
	var n atomic.Int64
	url := listeningTarget(t, func(c net.Conn) {
		if n.Add(1)%2 == 0 {
			_ = c.(*net.TCPConn).SetLinger(0)
		}
	})
	r, log := startWithLog(t, config(url))
	begun := time.Now()
	for range 500 {
		if _, err := r.do(t, "POST", "/", "x"); err == nil {
			t.Fatal("answered")
		}
	}
	told := log.of(t, "upstream request failed")
	most := 2 * (2 + int(time.Since(begun)/time.Second))
	kinds, leftOut := map[any]int{}, 0.0
	for _, line := range told {
		kinds[line["failure"]]++
		n, _ := line["left_out"].(float64)
		leftOut += n
	}
	if len(told) > most || len(kinds) != 2 {
		t.Errorf("500 failures are %d lines, %v; want at most %d", len(told), kinds, most)
	}
	if len(told) > 2 && leftOut == 0 {
		t.Error("nothing tells of those that are left out")
	}
}

// A caller on another node also learns whether a request has reached a target, and what failed.
func TestUnreachedCrossesTheMesh(t *testing.T) {
	server := natsservertest.Start(t)
	set, err := upstream.New(upstream.Config{Conn: natsservertest.Connect(t, server), Log: nodetest.Discard()})
	if err == nil {
		err = set.Apply(t.Context(), map[string]node.Upstream{
			"away": config("http://127.0.0.1:1"), "hangs-up": config(listeningTarget(t, func(net.Conn) {})),
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	other := natsservertest.Connect(t, server)
	for name, is := range map[string]node.Failure{"away": node.FailureRefused, "hangs-up": node.FailureTerminated} {
		_, err := other.Do(t.Context(), other.Upstream(name), &mesh.Request{
			Method: "GET", Target: "/", Host: "h", Deadline: time.Now().Add(20 * time.Second),
		})
		if e, ok := errors.AsType[*node.Error](err); !ok || e.Unreached != (name == "away") || e.Failure != is {
			t.Errorf("%s: got %+v", name, err)
		}
	}
}

// Errors that tests can't provoke: they need a broken network, or a node that stops.
func TestErrorsAreClassified(t *testing.T) {
	dial := func(err error) error { return upstream.ConnectError(&net.OpError{Op: "dial", Net: "tcp", Err: err}) }
	for want, err := range map[node.Failure]error{
		node.FailureName:           dial(&net.DNSError{Err: "no such host", IsNotFound: true}),
		node.FailureNameTimeout:    dial(&net.DNSError{Err: "i/o timeout", IsTimeout: true}),
		node.FailureUnroutable:     dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH)),
		node.FailureRefused:        dial(os.NewSyscallError("connect", syscall.ECONNREFUSED)),
		node.FailureConnectTimeout: dial(os.ErrDeadlineExceeded),
		node.FailureTimeout:        os.ErrDeadlineExceeded,
		node.FailureInternal:       net.ErrClosed,
	} {
		if got := upstream.FailureOf(err); got != want {
			t.Errorf("%v is %s, want %s", err, got, want)
		}
	}
}

// A request that the stopping node ends isn't reported as the upstream's failure.
func TestNodeCutOffIsNoUpstreamFailure(t *testing.T) {
	asked := make(chan struct{})
	url := listeningTarget(t, func(c net.Conn) { close(asked); _, _ = io.Copy(io.Discard, c) })
	r, log := startWithLog(t, config(url))
	failed := make(chan error, 1)
	go func() {
		_, err := r.conn.Do(t.Context(), r.conn.Upstream("api"), &mesh.Request{
			Method: "GET", Target: "/", Host: "h", Deadline: time.Now().Add(20 * time.Second),
		})
		failed <- err
	}()
	<-asked
	if err := r.set.Close(); err != nil {
		t.Fatal(err)
	}
	e, ok := errors.AsType[*node.Error](<-failed)
	if !ok || e.Code != node.CodeUnavailable || e.Failure != node.FailureInternal {
		t.Errorf("got %v", e)
	}
	if told := log.of(t, "upstream request failed"); len(told) != 0 {
		t.Errorf("told as the upstream's: %v", told)
	}
	if told := log.of(t, "upstream request cut off by the node"); len(told) != 1 || told[0]["level"] != "INFO" {
		t.Errorf("told %v", told)
	}
}
