package edgetest

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"millrace/embedded/natsserver"
	"millrace/embedded/natsserver/natsservertest"
	"millrace/mesh"
)

// connect starts a NATS server and connects to it. The close function closes the server.
func connect(tb testing.TB, change ...func(*mesh.Config)) (conn *mesh.Conn, closeServer func()) {
	tb.Helper()
	s := natsservertest.Start(tb)
	return natsservertest.Connect(tb, s, change...), func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	}
}

// connectCache connects the cache with its NATS server.
func (r *Rig) connectCache(tb testing.TB) {
	tb.Helper()
	switch cfg := r.cfg.Cache; {
	case cfg.Slow != nil:
		r.nats, r.CloseCache = connect(tb, func(c *mesh.Config) {
			cfg.Slow.Server, _ = c.InProcess.(*natsserver.Server)
			c.InProcess = cfg.Slow
		})
	case cfg.Apart:
		r.nats, r.CloseCache = connect(tb)
	default:
		r.nats = r.Conn
	}
}

// SlowServer gives connections whose answers take a while.
type SlowServer struct {
	*natsserver.Server

	Delay atomic.Int64 // of what the server sends, in nanoseconds
}

// InProcessConn gives such a connection.
func (s *SlowServer) InProcessConn() (net.Conn, error) {
	c, err := s.Server.InProcessConn()
	return &slowConn{c, s}, err
}

type slowConn struct {
	net.Conn

	s *SlowServer
}

func (c *slowConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if d := time.Duration(c.s.Delay.Load()); d > 0 {
		<-time.After(d) // this is what a slow network does
	}
	return n, err
}
