package front

import (
	"errors"
	"net/http"
	"sync"

	"millrace/edge/exchange"
	"millrace/edge/guard"
	"millrace/mesh"
	"millrace/node/http1"
)

var headPool = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// writeStored writes a stored response to the connection, past fasthttp, and releases it. The stored field lines become
// the head, and the body is written from where it lies.
func (f *Front) writeStored(conn *guard.Conn, x *exchange.Exchange, resp *mesh.Response) {
	stored := x.Outcome.Stored
	buf := headPool.Get().(*[]byte)
	b := f.appendStored((*buf)[:0], conn, x, resp)
	body := resp.Body
	if x.Method == http.MethodHead || resp.Status == http.StatusNotModified {
		body = nil
	}
	var err error
	switch {
	case resp.Stream != nil:
		err = sendStream(conn, b, resp)
	case len(body) == 0:
		err = conn.Send(true, b)
	default:
		err = conn.Send(true, b, body)
	}
	if *buf = b; cap(b) <= 16<<10 {
		headPool.Put(buf)
	}
	stored.Release()
	if err != nil {
		conn.Break()
	}
}

// sendStream writes a head and the stream of a response of the short way, and closes it.
func sendStream(conn *guard.Conn, head []byte, resp *mesh.Response) error {
	defer exchange.CloseBody(resp)
	if file, ok := resp.Stream.(exchange.FileBody); ok {
		return sendFile(conn, head, file)
	}
	left := resp.Length
	err := conn.Send(true, head)
	for err == nil && left > 0 {
		var p mesh.Piece
		if p, err = resp.Stream.Next(); err != nil {
			return err // io.EOF too: the body is shorter than was announced
		}
		left -= int64(len(p.Data))
		err = conn.Send(true, p.Data)
	}
	return err
}

// sendFile writes a head and what is left of a file.
func sendFile(conn *guard.Conn, head []byte, body exchange.FileBody) error {
	f, offset, length := body.File()
	n, err := conn.SendFile(head, f, offset, length)
	if errors.Is(err, guard.ErrFile) {
		body.Sent(n, err)
	} else {
		body.Sent(n, nil)
	}
	return err
}

// appendStored appends the head of a stored response.
func (f *Front) appendStored(b []byte, conn *guard.Conn, x *exchange.Exchange, resp *mesh.Response) []byte {
	b = f.appendLines(appendStatus(b, resp.Status, reasonOf(resp)), x.Outcome.Stored)
	for _, f := range resp.Header {
		b = http1.AppendField(b, f.Name, f.Value)
	}
	if resp.Status != http.StatusNotModified && resp.Status != http.StatusNoContent { // RFC 9110 §8.6
		b = http1.AppendLength(b, resp.Length)
	}
	return append(appendConnection(b, conn, x), "\r\n"...)
}

// appendLines appends the field lines of a stored response, and Date if it isn't one of them.
func (f *Front) appendLines(b []byte, s exchange.Stored) []byte {
	b, dated := s.AppendHead(b)
	if !dated {
		b = http1.AppendField(b, "Date", f.date.now())
	}
	return b
}

// appendConnection appends a Connection field, unless the version's default holds: HTTP/1.1 keeps the connection.
func appendConnection(b []byte, conn *guard.Conn, x *exchange.Exchange) []byte {
	switch {
	case conn.ClosesAfter():
		return append(b, "Connection: close\r\n"...)
	case x.HTTP10:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}
