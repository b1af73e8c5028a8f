package guard_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
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

// Which idle connection is closed for a new one: of the client that has the most, the one that has been idle longest. One whose client may have any number
// counts as alone.
func TestWhoGivesWay(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	few := limits
	few.MaxConnections, few.MaxPerClient = 5, 3
	l := guard.New(inner, guard.Config{
		Limits: few, Budget: guard.NewBudget(1 << 20), Busy: []byte("HTTP/1.1 503 Busy\r\n\r\n"), Log: slog.New(slog.DiscardHandler),
		Exempt: func(a netip.Addr) bool { return a.String() == "127.0.0.9" },
	})
	t.Cleanup(func() { _ = l.Close() })
	ended := make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, err := c.Read(make([]byte, 128))
				_ = c.Close()
				ended <- c.RemoteAddr().(*net.TCPAddr).IP.String() + " " + strconv.Itoa(c.RemoteAddr().(*net.TCPAddr).Port) + " " + fmt.Sprint(err) //nolint:forcetypeassert // it listens on TCP
			}()
		}
	}()
	ports := map[string]int{}
	come := func(name, from string, idle int) {
		t.Helper()
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		ports[name] = c.LocalAddr().(*net.TCPAddr).Port //nolint:forcetypeassert // see above
		natsservertest.Eventually(t, name+" waits for a request", func() bool { return l.Idle() == idle })
	}
	come("proxy", "127.0.0.9", 1)
	come("bob 1", "127.0.0.3", 2)
	come("alice 1", "127.0.0.2", 3)
	come("alice 2", "127.0.0.2", 4)
	come("bob 2", "127.0.0.3", 5)
	for i, want := range []string{"bob 1", "alice 1", "proxy"} { // two each, then alice has the most, then each has one
		come(fmt.Sprint("carol ", i), "127.0.0."+strconv.Itoa(20+i), 5)
		if got := <-ended; !strings.Contains(got, " "+strconv.Itoa(ports[want])+" ") {
			t.Errorf("for newcomer %d %s was closed, not %s (%d)", i, got, want, ports[want])
		}
	}
}
