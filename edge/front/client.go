package front

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"millrace/edge/exchange"
	"millrace/edge/guard"
	"millrace/mesh"
	"millrace/node"
)

// client is one connection of HTTP/1.1 as the front sees it. It is the Incoming and the Writer of the exchange that the
// connection has at the moment, so neither costs memory of its own.
type client struct {
	*guard.Conn
	framing

	front    *Front
	interim  func(status int, h mesh.Header)
	messages *messages          // of the exchange's socket, if its target knows messages only
	spare    *exchange.Exchange // that nobody keeps: for the next request on the short way
	pending  *exchange.Exchange // that the short way leaves for handle
}

// clientOf gives the client of a connection.
func (f *Front) clientOf(conn *guard.Conn) *client {
	if c, ok := conn.UserData.(*client); ok {
		return c
	}
	c := &client{Conn: conn, front: f}
	c.interim = func(status int, h mesh.Header) { sendInterim(conn, status, h) }
	conn.UserData = c
	return c
}

// Messages gives what follows the request as messages of a WebSocket.
func (c *client) Messages() mesh.Body {
	c.messages = newMessages(c.Raw())
	return c.messages
}

// read fills an empty exchange, field by field: it is large. Its strings are the request's own and outlive the
// connection. What the guard refused becomes the exchange's refusal.
func (c *client) read(x *exchange.Exchange) {
	r := c.Request()
	x.Method, x.Target, x.Scheme, x.Header, x.HTTP10, x.Started = r.Method, r.Target, "http", r.Header, r.HTTP10,
		r.Arrived
	x.Peer, x.Incoming, x.Length, x.Penalized = peer(c.RemoteAddr()), c, r.Length, r.Penalized
	if r.Upgrade {
		x.Upgrade.Socket, x.Upgrade.Offered = socketAsked(r), offered(r)
	}
	if r.Refusal != nil {
		x.Outcome.Refusal = r.Refusal
	}
	c.messages = nil
}

func peer(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// offered gives the protocols that a request offers to switch its connection to (RFC 9110 §7.8); "" if it can't be
// switched.
func offered(r *guard.Request) string {
	if r.HTTP10 || r.Length == guard.Chunked || r.Length > int64(node.MaxMessageBody) || r.Close || r.Refusal != nil {
		return ""
	}
	return strings.Join(r.Header.Values("Upgrade"), ",")
}

// quick answers a request on the short way of its route, as soon as its head is read. Anything else it leaves to
// handle, with the exchange that it has made.
func (f *Front) quick(conn *guard.Conn) (done bool) {
	r := conn.Request()
	if r.Refusal != nil || r.Length != 0 || r.Method != http.MethodGet || r.Penalized || !f.core.ShortWay() {
		return false
	}
	c := f.clientOf(conn)
	x := c.spare
	if c.spare = nil; x == nil { // unless nobody keeps it
		x = f.core.New()
	} else {
		x.Reset()
	}
	c.read(x)
	defer func() {
		if p := recover(); p != nil {
			f.panicked(x, p)
			c.pending, done = nil, false // handle begins again
		}
	}()
	f.core.Enter(x)
	resp := x.Route.ShortWay(x)
	if resp == nil {
		c.pending = x
		return false
	}
	if f.draining.Load() {
		conn.CloseAfter()
	}
	conn.Keepable()
	f.writeStored(conn, x, resp)
	x.Route.Done(x, resp)
	if !x.Settings.AccessLog { // a log handler may keep strings of the request
		c.spare = x
		return true
	}
	conn.Retain()
	return true
}

// panicked takes back what a request that begins anew has taken on the short way.
func (f *Front) panicked(x *exchange.Exchange, p any) {
	f.logPanic(p, x.ID)
	if x.Route != nil {
		x.Route.Cancel(x)
	}
	if s := x.Outcome.Stored; s != nil {
		s.View.Release() // which may be for the second time
		x.Outcome.Stored = nil
	}
}
