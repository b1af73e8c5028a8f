package front

import (
	"errors"
	"net/http"
	"strconv"

	"millrace/edge/exchange"
	"millrace/edge/guard"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// framing is how the body of one response is framed in HTTP/1.1 (RFC 9112).
type framing struct {
	head    []byte // room for heads and lines
	length  int64  // that was announced, or -1
	chunked bool
	sent    int64
}

var errShort = errors.New("the body is shorter or longer than was announced")

// Begin decides how the body's end is told: by its length, by chunks, or to HTTP/1.0 by the connection's.
func (c *client) Begin(x *exchange.Exchange, resp *mesh.Response) error {
	c.framing = framing{length: resp.Length, chunked: resp.Length < 0 && !x.HTTP10}
	if c.front.draining.Load() || (x.HTTP10 && !c.chunked && c.length < 0) {
		c.CloseAfter()
	}
	b := c.front.appendHead(nil, x, resp)
	switch {
	case c.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case c.length >= 0:
		b = http1.AppendLength(b, c.length)
	}
	c.head = append(appendConnection(b, c.Conn, x), "\r\n"...)
	return c.Send(true, c.head) //nolint:wrapcheck // the caller only wants to know that there is one
}

// Switch writes the head of a 101.
func (c *client) Switch(x *exchange.Exchange, resp *mesh.Response, protocol string) error {
	c.framing = framing{length: -1}
	b := http1.AppendField(c.front.appendHead(nil, x, resp), "Upgrade", protocol)
	return c.Send(true, append(b, "Connection: Upgrade\r\n\r\n"...)) //nolint:wrapcheck // see Begin
}

// Data writes bytes of the body: one chunk, if it is chunked.
func (c *client) Data(parts ...[]byte) error {
	for _, p := range parts {
		c.sent += int64(len(p))
	}
	if c.length >= 0 && c.sent > c.length {
		return errShort
	}
	if !c.chunked {
		return c.Send(true, parts...) //nolint:wrapcheck // see Begin
	}
	p := parts[0] // the body of a response comes in single pieces
	line := append(strconv.AppendInt(c.head[:0], int64(len(p)), 16), "\r\n"...)
	return c.Send(true, line, p, line[len(line)-2:]) //nolint:wrapcheck // see Begin
}

// End writes what follows the last piece: the last chunk with its trailer fields.
func (c *client) End(x *exchange.Exchange, trailer mesh.Header) error {
	if c.length >= 0 && c.sent != c.length {
		return errShort
	}
	if !c.chunked {
		return nil
	}
	rules := x.Route.Rewrite
	trailer.Delete(func(f mesh.Field) bool {
		// the route has its say in the head
		return !node.MayTrail(f.Name) || (rules != nil && rules.Response.Names(f.Name))
	})
	return c.Send(true, http1.AppendLastChunk(c.head[:0], trailer)) //nolint:wrapcheck // see Begin
}

// appendHead writes status line, fields and Date.
func (f *Front) appendHead(b []byte, x *exchange.Exchange, resp *mesh.Response) []byte {
	b = appendStatus(b, resp.Status, reasonOf(resp))
	dated := x.Outcome.Stored != nil
	if dated {
		b = x.Outcome.Stored.AppendHead(b)
	}
	for _, f := range resp.Header {
		dated = dated || node.SameName(f.Name, "Date")
		b = http1.AppendField(b, f.Name, f.Value)
	}
	if !dated {
		b = http1.AppendField(b, "Date", f.date.now())
	}
	return b
}

func appendStatus(b []byte, status int, reason string) []byte {
	b = append(strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10), ' ')
	return append(append(b, reason...), "\r\n"...)
}

// sendInterim passes an interim response on (RFC 9110 §15.2).
func sendInterim(conn *guard.Conn, status int, h mesh.Header) {
	b := appendStatus(nil, status, http.StatusText(status))
	for _, f := range h {
		b = http1.AppendField(b, f.Name, f.Value)
	}
	_ = conn.Send(false, append(b, "\r\n"...)) // a client that is gone is noticed elsewhere
}
