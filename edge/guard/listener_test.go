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
	"sync"
	"syscall"
	"testing"

	"millrace/edge/guard"
	"millrace/node/nodetest"
)

func listen(t *testing.T, inner net.Listener, limits guard.Limits) *guard.Listener {
	t.Helper()
	l := guard.New(inner, guard.Config{
		Limits: limits, Budget: guard.NewBudget(1 << 20),
		Busy: []byte("HTTP/1.1 503 Busy\r\n\r\n"), Log: slog.New(slog.DiscardHandler),
	})
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
	nodetest.Eventually(t, "the listener is starved", forever.Starved)
	_ = forever.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

// visitors makes a listener for few connections, and gives how a client comes to it: it connects from an address and
// sends text, after which so many connections wait for a request, so many of them of clients that have proven nothing.
// ended tells the names of those that end.
func visitors(t *testing.T, most, share int) (come func(name, from, text string, waiting, unproven int),
	ended <-chan string,
) {
	t.Helper()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	few := limits
	few.MaxConnections, few.MaxPerClient = most, share
	l := guard.New(inner, guard.Config{
		Limits: few, Budget: guard.NewBudget(1 << 20), Busy: []byte("HTTP/1.1 503 Busy\r\n\r\n"),
		Log:    slog.New(slog.DiscardHandler),
		Exempt: func(a netip.Addr) bool { return a.String() == "127.0.0.9" },
	})
	t.Cleanup(func() { _ = l.Close() })
	names, ends := sync.Map{}, make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				for err == nil {
					_, err = c.Read(make([]byte, 128))
				}
				_ = c.Close()
				name, _ := names.Load(c.RemoteAddr().String())
				ends <- fmt.Sprint(name)
			}()
		}
	}()
	return func(name, from, text string, waiting, unproven int) {
		t.Helper()
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		names.Store(c.LocalAddr().String(), name)
		_, _ = io.WriteString(c, text)
		nodetest.Eventually(t, name+" waits", func() bool {
			all, some := l.Waiting()
			return all == waiting && some == unproven
		})
	}, ends
}

// Which connection that waits is closed for a new one: of the client that has the most, the one that has waited
// longest. One whose client may have any number counts as its client's only one.
func TestWhoGivesWay(t *testing.T) {
	come, ended := visitors(t, 5, 3)
	come("proxy", "127.0.0.9", "", 1, 1)
	come("bob 1", "127.0.0.3", "", 2, 2)
	come("alice 1", "127.0.0.2", "", 3, 3)
	come("alice 2", "127.0.0.2", "", 4, 4)
	come("bob 2", "127.0.0.3", "", 5, 5)
	for i, want := range []string{"bob 1", "alice 1", "proxy"} { // two each, then alice has the most, then each has one
		come(fmt.Sprint("carol ", i), "127.0.0."+strconv.Itoa(20+i), "", 5, 5)
		if got := <-ended; got != want {
			t.Errorf("for newcomer %d %s was closed, not %s", i, got, want)
		}
	}
}

// Half a head keeps nobody out: of connections that are equal else, those give way first that haven't sent a whole
// request yet, or that have begun one.
func TestHalfHeadsGiveWayFirst(t *testing.T) {
	const whole = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
	come, ended := visitors(t, 4, 3)
	come("silent", "127.0.0.2", "", 1, 1)
	come("proven", "127.0.0.3", whole, 2, 1)
	come("half", "127.0.0.4", "G", 3, 2)
	come("second half", "127.0.0.5", whole+whole[:20], 4, 3)
	for i, want := range []string{"silent", "half", "second half", "proven"} {
		come(fmt.Sprint("newcomer ", i), "127.0.0."+strconv.Itoa(20+i), whole, 4, max(2-i, 0))
		if got := <-ended; got != want {
			t.Errorf("for newcomer %d %s was closed, not %s", i, got, want)
		}
	}
}
