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

// client is one HTTP/1.1 connection. It is both the Incoming and the Writer of the connection's current exchange, so
// neither needs an allocation.
type client struct {
	*guard.Conn
	framing

	front    *Front
	interim  func(status int, h mesh.Header)
	messages *messages          // set if the exchange is a socket to a target that takes messages, not bytes
	spare    *exchange.Exchange // nothing refers to it any more: for the next request on the short way
	pending  *exchange.Exchange // made on the short way, which didn't answer it; handle goes on with it
}

// clientOf returns the client of a connection, and makes it for the first request.
func (f *Front) clientOf(conn *guard.Conn) *client {
	if c, ok := conn.UserData.(*client); ok {
		return c
	}
	c := &client{Conn: conn, front: f}
	c.interim = func(status int, h mesh.Header) { sendInterim(conn, status, h) }
	conn.UserData = c
	return c
}

// Messages returns what follows the request as messages of a WebSocket.
func (c *client) Messages() mesh.Body {
	c.messages = newMessages(c.Raw())
	return c.messages
}

// read fills an empty exchange from the connection's request. It assigns single fields, since an Exchange is too large
// to copy. The strings alias the request's memory, which may outlive the connection. A refusal of the guard becomes the
// exchange's.
func (c *client) read(x *exchange.Exchange) {
	r := c.Request()
	x.Method, x.Target, x.Scheme, x.Header, x.HTTP10, x.Started = r.Method, r.Target, "http", r.Header, r.HTTP10,
		r.Arrived
	x.Peer, x.Incoming, x.Length, x.Penalized = peer(c.RemoteAddr()), c, r.Length, r.Penalized
	if r.Upgrade {
		x.Upgrade.Socket, x.Upgrade.Offered = wantsWebSocket(r), offered(r)
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

// offered returns the protocols to which the client offers to switch the connection (RFC 9110 §7.8), or "" if a request
// of this form can't switch it.
func offered(r *guard.Request) string {
	if r.HTTP10 || r.Length == guard.Chunked || r.Length > int64(node.MaxMessageBody) || r.Close || r.Refusal != nil {
		return ""
	}
	return strings.Join(r.Header.Values("Upgrade"), ",")
}

// serveShortWay answers a request on the short way of its route, as soon as its head is read. If it returns false,
// handle serves the request, with the exchange in c.pending if there is one.
func (f *Front) serveShortWay(conn *guard.Conn) (done bool) {
	r := conn.Request()
	if r.Refusal != nil || r.Length != 0 || r.Method != http.MethodGet || r.Penalized || !f.core.ShortWay() {
		return false
	}
	c := f.clientOf(conn)
	x := c.spare
	if c.spare = nil; x == nil { // set again below, if nothing keeps the exchange
		x = f.core.New()
	} else {
		x.Reset()
	}
	c.read(x)
	var resp *mesh.Response
	writing, written := false, false
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		f.logPanic(p, x.ID)
		c.pending = nil
		if !writing { // handle starts again with a new exchange
			cancel(x)
			done = false
			return
		}
		// The client has a response, or a part of one. A second one would answer its next request.
		if done = true; !written {
			conn.Break()
			exchange.CloseBody(resp)
			x.Outcome.Stored.Release()
		}
		conn.Retain()
	}()
	f.core.Enter(x)
	resp = x.Route.ShortWay(x)
	if resp == nil {
		c.pending = x
		return false
	}
	if f.draining.Load() {
		conn.CloseAfter()
	}
	conn.Keepable() // for its effect: it decides what the head says of the connection
	writing = true
	f.writeStored(conn, x, resp)
	written = true
	x.Route.Done(x, resp)
	if !x.Settings.AccessLog { // a log handler may keep strings of the request
		c.spare = x
		return true
	}
	conn.Retain()
	return true
}

// cancel undoes what the policies did on the short way of a request that starts again on the full way.
func cancel(x *exchange.Exchange) {
	if x.Route != nil {
		x.Route.Cancel(x)
	}
	if s := x.Outcome.Stored; s != nil {
		s.Release() // which may be for the second time
		x.Outcome.Stored = nil
	}
}
