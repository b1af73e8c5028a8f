package upstream_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"millrace/node"
	"millrace/node/nodetest"
)

// backlog returns the address of a socket that accepts nothing. Connections beyond its backlog get no answer.
func backlog(tb testing.TB) string {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err == nil {
		tb.Cleanup(func() { _ = syscall.Close(fd) })
		err = errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0))
	}
	if err != nil {
		tb.Fatal(err)
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	own, _ := addr.(*syscall.SockaddrInet4)
	return (&net.TCPAddr{IP: own.Addr[:], Port: own.Port}).String()
}

// A node without a free file descriptor can't connect. That is reported as its own failure, and no target is ejected
// for it.
func TestNodeDescriptorLimitIsNoTargetFailure(t *testing.T) {
	// no idle connection
	last := func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") }
	one, two := startServer(t, last).URL, startServer(t, last).URL
	for name, cfg := range map[string]node.Upstream{
		"addresses": config(one, two),
		"a name":    config(strings.Replace(one, "127.0.0.1", "localhost", 1)),
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Resolve = 0 // for each connection instead
			testDescriptorLimit(t, cfg)
		})
	}
}

func testDescriptorLimit(t *testing.T, cfg node.Upstream) {
	t.Helper()
	r, log := startWithLog(t, cfg)
	if _, err := r.do(t, "GET", "/", ""); err != nil {
		t.Fatal(err)
	}
	release := exhaustDescriptors(t)
	for range 20 {
		_, err := r.do(t, "GET", "/", "")
		e, ok := errors.AsType[*node.Error](err)
		if !ok || e.Code != node.CodeBusy || !strings.Contains(e.Text, "the node") {
			t.Errorf("got %v", err)
			break
		}
	}
	for _, target := range r.set.Status()[0].Targets {
		if target.State != "up" || target.Failures != 0 || target.Ejected != 0 {
			t.Errorf("for want of descriptors of the node's own a target is %+v", target)
		}
	}
	release()
	if resp, err := r.do(t, "GET", "/", ""); err != nil || resp.Status != 200 {
		t.Errorf("with descriptors: %+v, %v", resp, err)
	}
	told := log.of(t, "upstream request failed")
	if len(told) == 0 || told[0]["failure"] != "own_limit" {
		t.Errorf("the log tells %v", told)
	}
}

// A health check that fails for lack of the node's descriptors says nothing about the target.
func TestNodeDescriptorLimitFailsNoHealthCheck(t *testing.T) {
	var checks atomic.Int64
	s := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		checks.Add(1)
		w.Header().Set("Connection", "close")
	})
	cfg := config(s.URL)
	cfg.Health = &node.Health{Path: "/"}
	cfg.Health.Defaults()
	cfg.Health.Interval, cfg.Health.Fails = node.Duration(10*time.Millisecond), 3 // one may be running
	r, log := startWithLog(t, cfg)
	nodetest.Eventually(t, "it is checked", func() bool { return checks.Load() > 0 })
	release := exhaustDescriptors(t)
	nodetest.Eventually(t, "checks can't be made", func() bool {
		return len(log.of(t, "upstream request failed")) >= 2
	})
	if state := r.state(s.URL); state != "up" {
		t.Errorf("for want of descriptors of the node's own the target is %s", state)
	}
	release()
	if told := log.of(t, "upstream request failed"); told[0]["failure"] != "own_limit" {
		t.Errorf("the log tells %v", told)
	}
}

// exhaustDescriptors lowers the process's limit and takes every descriptor, also those that become free.
func exhaustDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	few := before
	few.Cur = min(few.Cur, 400)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var taken []*os.File
	var quietOnce, once sync.Once
	quiet, done, ended := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for still := 0; ; still++ {
			for f, err := os.Open(os.DevNull); err == nil; f, err = os.Open(os.DevNull) {
				taken, still = append(taken, f), 0
			}
			if still == 50 {
				quietOnce.Do(func() { close(quiet) })
			}
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	release = func() {
		once.Do(func() {
			close(done)
			<-ended
			for _, f := range taken {
				_ = f.Close()
			}
			if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(release)
	<-quiet
	return release
}
