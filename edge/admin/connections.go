package admin

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections bounds the connections of the API. It is more than operators, metrics collectors and probes need, and
// leaves most descriptors of the process to clients.
const maxConnections = 256

// connections bounds the connections of the API. If there is one too many, the one is closed that was idle longest
// since its last authorized request. So unauthorized clients can't lock the operator out. It is safe for concurrent
// use.
type connections struct {
	mu   sync.Mutex // guards what follows
	open map[net.Conn]*connection
}

// connection is one connection of the API.
type connection struct {
	conn    net.Conn
	since   time.Time // when it was opened, or its last authorized request began or ended
	serving bool      // an authorized request runs
}

// connectionKey is the key of a request's *connection in its context.
type connectionKey struct{}

// add adds a new connection; it is http.Server.ConnContext.
func (c *connections) add(ctx context.Context, conn net.Conn) context.Context {
	one := &connection{conn: conn, since: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= maxConnections {
		c.evict(one)
	}
	if c.open == nil {
		c.open = map[net.Conn]*connection{}
	}
	c.open[conn] = one
	return context.WithValue(ctx, connectionKey{}, one)
}

// evict closes the connection that was idle longest, or the new one if all others serve. The caller holds mu.
func (c *connections) evict(newest *connection) {
	oldest := newest
	for _, one := range c.open {
		if !one.serving && one.since.Before(oldest.since) {
			oldest = one
		}
	}
	_ = oldest.conn.Close() // it is closed already, or will be
	delete(c.open, oldest.conn)
}

// changed removes closed connections; it is http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// serve marks the request's connection as serving until done is called.
func (c *connections) serve(r *http.Request) (done func()) {
	one, ok := r.Context().Value(connectionKey{}).(*connection)
	if !ok { // a test's request without a connection
		return func() {}
	}
	c.set(one, true)
	return func() { c.set(one, false) }
}

// set marks a connection as serving or idle.
func (c *connections) set(one *connection, serving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one.serving, one.since = serving, time.Now()
}
