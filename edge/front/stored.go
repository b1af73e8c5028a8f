package front

import (
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
	if len(body) == 0 {
		err = conn.Send(true, b)
	} else {
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

// appendStored appends the head of a stored response.
func (f *Front) appendStored(b []byte, conn *guard.Conn, x *exchange.Exchange, resp *mesh.Response) []byte {
	b, dated := x.Outcome.Stored.AppendHead(appendStatus(b, resp.Status, reasonOf(resp)))
	if !dated {
		b = http1.AppendField(b, "Date", f.date.now())
	}
	for _, f := range resp.Header {
		b = http1.AppendField(b, f.Name, f.Value)
	}
	if resp.Status != http.StatusNotModified && resp.Status != http.StatusNoContent { // RFC 9110 §8.6
		b = http1.AppendLength(b, resp.Length)
	}
	return append(appendConnection(b, conn, x), "\r\n"...)
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
