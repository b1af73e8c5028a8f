package guard_test

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"

	"millrace/edge/guard"
	"millrace/embedded/natsserver/natsservertest"
)

func listen(t *testing.T, inner net.Listener, limits guard.Limits) *guard.Listener {
	t.Helper()
	l := guard.New(inner, guard.Config{Limits: limits, Budget: guard.NewBudget(1 << 20), Busy: []byte("HTTP/1.1 503 Busy\r\n\r\n"), Log: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestTooManyConnections(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	few := limits
	few.MaxConnections = 2
	l := listen(t, inner, few)
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	dial()
	dial()
	first := <-accepted
	<-accepted
	if got, err := io.ReadAll(dial()); err != nil || !strings.HasPrefix(string(got), "HTTP/1.1 503") {
		t.Errorf("one too many got %q, %v", got, err)
	}
	if l.Connections() != 2 || l.Refused() != 1 {
		t.Errorf("%d connections, %d refused", l.Connections(), l.Refused())
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	dial()
	<-accepted
	few.MaxConnections = 3
	l.SetLimits(few)
	dial()
	<-accepted
}

// scarce fails with what the system says when it has no descriptor left, a few times.
type scarce struct {
	net.Listener
	failures int
}

func (s *scarce) Accept() (net.Conn, error) {
	if s.failures > 0 {
		s.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return s.Listener.Accept()
}

// A listener outlives the want of descriptors, and its end isn't delayed by it.
func TestStarved(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := listen(t, &scarce{Listener: inner, failures: 3}, limits)
	client, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	c, err := l.Accept()
	if err != nil || l.Starved() {
		t.Fatalf("got %v, starved %t", err, l.Starved())
	}
	_ = c.Close()
	forever := listen(t, &scarce{Listener: inner, failures: 1 << 30}, limits)
	ended := make(chan error)
	go func() {
		_, err := forever.Accept()
		ended <- err
	}()
	natsservertest.Eventually(t, "the listener is starved", forever.Starved)
	_ = forever.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
