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

// framing is the state of one response's body in HTTP/1.1 (RFC 9112 §6).
type framing struct {
	buf     []byte // for the head and the lines of chunks
	length  int64  // the announced Content-Length, or -1
	chunked bool
	sent    int64 // bytes of the body
}

var errLength = errors.New("the body is shorter or longer than was announced")

// Begin writes the head. The body's end is marked by its length if that is known, else by chunks, or in HTTP/1.0 by the
// end of the connection.
func (c *client) Begin(x *exchange.Exchange, resp *mesh.Response) error {
	c.makeHead(x, resp)
	return c.Send(true, c.buf)
}

// File writes head and body, which has a length, from the file.
func (c *client) File(x *exchange.Exchange, resp *mesh.Response, body exchange.FileBody) error {
	c.makeHead(x, resp)
	if _, _, length := body.File(); length != c.length {
		return errLength
	}
	return sendFile(c.Conn, c.buf, body)
}

// makeHead begins the framing of a response and writes its head into buf.
func (c *client) makeHead(x *exchange.Exchange, resp *mesh.Response) {
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
	c.buf = append(appendConnection(b, c.Conn, x), "\r\n"...)
}

// Switch writes the head of a 101.
func (c *client) Switch(x *exchange.Exchange, resp *mesh.Response, protocol string) error {
	c.framing = framing{length: -1}
	b := http1.AppendField(c.front.appendHead(nil, x, resp), "Upgrade", protocol)
	return c.Send(true, append(b, "Connection: Upgrade\r\n\r\n"...))
}

// Data writes bytes of the body: one chunk, if it is chunked.
func (c *client) Data(parts ...[]byte) error {
	for _, p := range parts {
		c.sent += int64(len(p))
	}
	if c.length >= 0 && c.sent > c.length {
		return errLength
	}
	if !c.chunked {
		return c.Send(true, parts...)
	}
	p := parts[0] // a chunked body comes one piece at a time; only sockets write several
	line := append(strconv.AppendInt(c.buf[:0], int64(len(p)), 16), "\r\n"...)
	return c.Send(true, line, p, line[len(line)-2:])
}

// End writes the last chunk with the trailer fields, if the body is chunked. Trailer fields that the route's response
// rules name are dropped, because the rules were applied to the head.
func (c *client) End(x *exchange.Exchange, trailer mesh.Header) error {
	if c.length >= 0 && c.sent != c.length {
		return errLength
	}
	if !c.chunked {
		return nil
	}
	rules := x.Route.Rewrite
	trailer.Delete(func(f mesh.Field) bool {
		return !node.MayTrail(f.Name) || (rules != nil && rules.Response.Names(f.Name))
	})
	return c.Send(true, http1.AppendLastChunk(c.buf[:0], trailer))
}

// appendHead appends status line, fields and Date.
func (f *Front) appendHead(b []byte, x *exchange.Exchange, resp *mesh.Response) []byte {
	b = appendStatus(b, resp.Status, reasonOf(resp))
	dated := x.Outcome.Stored != nil
	if dated {
		b = f.appendLines(b, x.Outcome.Stored)
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

// sendInterim writes an interim response (RFC 9110 §15.2).
func sendInterim(conn *guard.Conn, status int, h mesh.Header) {
	b := appendStatus(nil, status, http.StatusText(status))
	for _, f := range h {
		b = http1.AppendField(b, f.Name, f.Value)
	}
	_ = conn.Send(false, append(b, "\r\n"...)) // if the client has gone, writing the response fails too
}
