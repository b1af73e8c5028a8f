package admin

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConnections bounds the connections of the API: more than operators, collectors of metrics and probes need, and few
// enough to leave the descriptors of the process to its clients.
const maxConnections = 256

// connections bounds the connections of the API. When there is one too many, the one is closed that has waited longest
// without a request that was let in, so that strangers can't keep the operator out. Safe for concurrent use.
type connections struct {
	mu   sync.Mutex // guards what follows
	open map[net.Conn]*connection
}

// connection is one of them.
type connection struct {
	conn    net.Conn
	since   time.Time // when it was opened, or its last request was over that was let in
	serving bool      // a request that was let in runs
}

// connectionKey is where a request's context has its connection.
type connectionKey struct{}

// add takes in a new connection; it is http.Server.ConnContext.
func (c *connections) add(ctx context.Context, conn net.Conn) context.Context {
	one := &connection{conn: conn, since: time.Now()}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= maxConnections {
		c.makePlace(one)
	}
	if c.open == nil {
		c.open = map[net.Conn]*connection{}
	}
	c.open[conn] = one
	return context.WithValue(ctx, connectionKey{}, one)
}

// makePlace closes the connection that has waited longest, or the new one if all others serve. The caller holds mu.
func (c *connections) makePlace(newest *connection) {
	oldest := newest
	for _, one := range c.open {
		if !one.serving && one.since.Before(oldest.since) {
			oldest = one
		}
	}
	_ = oldest.conn.Close() // it is closed already, or will be
	delete(c.open, oldest.conn)
}

// changed forgets connections that are closed; it is http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	if state != http.StateClosed && state != http.StateHijacked {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// serve marks the request's connection as one that serves, until done is called.
func (c *connections) serve(r *http.Request) (done func()) {
	one, ok := r.Context().Value(connectionKey{}).(*connection)
	if !ok { // a request of a test, without a connection
		return func() {}
	}
	c.set(one, true)
	return func() { c.set(one, false) }
}

func (c *connections) set(one *connection, serving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	one.serving, one.since = serving, time.Now()
}
