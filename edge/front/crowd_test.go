package front_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// crowd is an edge that takes four connections, two of each client, whose route /run answers when the test says so.
type crowd struct {
	*edgetest.Rig

	run chan struct{}
}

func startCrowd(t *testing.T, change func(*node.Edge)) *crowd {
	t.Helper()
	c := &crowd{run: make(chan struct{})}
	held := edgetest.Route("run", "/run")
	held.To.Name = "held"
	c.Rig = edgetest.Start(t, edgetest.Config{Edge: func(e *node.Edge) {
		e.MaxConnections, e.MaxClientShare = 4, 50
		if change != nil {
			change(e)
		}
	}, Routes: []node.Route{edgetest.EchoRoute("/*"), held}})
	c.StreamService(t, "held", func(ctx context.Context, _ *mesh.Request) (*mesh.Response, error) {
		select {
		case <-c.run:
		case <-ctx.Done():
		}
		return &mesh.Response{Status: 200}, nil
	})
	return c
}

// visitor is a client's connection, with the status of what was read on it last.
type visitor struct {
	net.Conn

	from *bufio.Reader
}

// visit connects from an address of the loopback and sends a request for the path, unless that is empty.
func (c *crowd) visit(t *testing.T, from, path string) *visitor {
	t.Helper()
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", c.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if path != "" {
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
	}
	return &visitor{conn, bufio.NewReader(conn)}
}

// status reads a response.
func (v *visitor) status(t *testing.T) int {
	t.Helper()
	resp, err := http.ReadResponse(v.from, nil)
	if err != nil {
		t.Fatalf("no response: %v", err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

const alice, bob, carol = "127.0.0.2", "127.0.0.3", "127.0.0.4"

// One client has its share of the connections at most, and the node says whose they are, also when they are gone.
func TestOneClientHoldsItsShare(t *testing.T) {
	c := startCrowd(t, nil)
	running := []*visitor{c.visit(t, alice, "/run"), c.visit(t, alice, "/run")}
	nodetest.Eventually(t, "both run", func() bool { return c.InFlight() == 2 })
	if _, _, ok := c.Crowded(); ok {
		t.Error("crowded before anybody was refused")
	}
	if got := c.visit(t, alice, "/").status(t); got != 503 {
		t.Errorf("beyond the share: %d", got)
	}
	if got := c.visit(t, bob, "/").status(t); got != 200 {
		t.Errorf("another client: %d", got)
	}
	close(c.run)
	for _, v := range running {
		if got := v.status(t); got != 200 {
			t.Errorf("a running request got %d", got)
		}
		v.Close()
	}
	nodetest.Eventually(t, "they are gone", func() bool { return c.Connections() <= 1 })
	if client, n, ok := c.Crowded(); client != alice || n != 2 || !ok {
		t.Errorf("the most connections are said to be %s's, %d, %t", client, n, ok)
	}
}

// A client at its share gets a new connection in the place of one of its own that is idle, and of nobody else's.
func TestIdleConnectionsOfTheSameClientGiveWay(t *testing.T) {
	c := startCrowd(t, nil)
	other := c.visit(t, bob, "/")
	other.status(t)
	for range 5 {
		nodetest.Eventually(t, "a new one is served", func() bool {
			return c.visit(t, alice, "/").status(t) == 200
		})
	}
	if n := c.Connections(); n > 3 {
		t.Errorf("%d connections", n)
	}
	_, _ = io.WriteString(other, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	if got := other.status(t); got != 200 {
		t.Errorf("another client's connection: %d", got)
	}
}

// A full node closes a connection that is idle for one that comes, also one on which nothing has come yet
// (guard.TestWhoGivesWay tells which).
func TestIdleConnectionsGiveWay(t *testing.T) {
	c := startCrowd(t, nil)
	for range 2 {
		c.visit(t, alice, "")
		c.visit(t, bob, "/").status(t)
	}
	nodetest.Eventually(t, "all are there", func() bool { return c.Connections() == 4 })
	for range 2 {
		nodetest.Eventually(t, "a newcomer is served", func() bool {
			return c.visit(t, carol, "/").status(t) == 200
		})
	}
	if n := c.Connections(); n > 4 {
		t.Errorf("%d connections", n)
	}
}

// Connections on which a request runs are closed for nobody.
func TestBusyConnectionsStay(t *testing.T) {
	c := startCrowd(t, nil)
	var running []*visitor
	for _, from := range []string{alice, alice, bob, bob} {
		running = append(running, c.visit(t, from, "/run"))
	}
	nodetest.Eventually(t, "all run", func() bool { return c.InFlight() == 4 })
	if got := c.visit(t, carol, "/").status(t); got != 503 {
		t.Errorf("one too many got %d", got)
	}
	close(c.run)
	for _, v := range running {
		if got := v.status(t); got != 200 {
			t.Errorf("a running request got %d", got)
		}
	}
	if got := c.visit(t, carol, "/").status(t); got != 200 {
		t.Errorf("afterwards: %d", got)
	}
}

// A trusted proxy has many clients behind it, and no share.
func TestTrustedProxiesHaveNoShare(t *testing.T) {
	c := startCrowd(t, func(e *node.Edge) { e.TrustedProxies = edgetest.Prefixes(alice + "/32") })
	for range 4 {
		if got := c.visit(t, alice, "/").status(t); got != 200 {
			t.Errorf("got %d", got)
		}
	}
}
