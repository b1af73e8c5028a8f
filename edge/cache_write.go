package edge

import (
	"net/http"
	"strconv"
	"sync"

	"millrace/edge/guard"
	"millrace/mesh"
)

var heads = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// sendKept writes a response of the store straight to the connection: a head made of lines that are there already, and
// the body as it lies in the store's memory.
func (s *Server) sendKept(conn *guard.Conn, x *Exchange, resp *mesh.Response) {
	k := x.kept
	buf := heads.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	b := s.appendKept((*buf)[:0], conn, x, resp)
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
		heads.Put(buf)
	}
	k.view.Release()
	if err != nil {
		conn.Break()
	}
}

// appendKept writes the head.
func (s *Server) appendKept(b []byte, conn *guard.Conn, x *Exchange, resp *mesh.Response) []byte {
	b = x.keptHead(appendStatus(b, resp.Status, reasonOf(resp)))
	for _, f := range resp.Header {
		b = mesh.AppendField(b, f.Name, f.Value)
	}
	if resp.Status != http.StatusNotModified && resp.Status != http.StatusNoContent { // RFC 9110 §8.6
		b = mesh.AppendLength(b, resp.Length)
	}
	return append(appendConnection(b, conn, x), "\r\n"...)
}

// appendConnection says whether the connection is kept, where it isn't as the version has it.
func appendConnection(b []byte, conn *guard.Conn, x *Exchange) []byte {
	switch {
	case conn.Ends():
		return append(b, "Connection: close\r\n"...)
	case x.HTTP10:
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return b
}

// keptHead appends the fields of a response of the store.
func (x *Exchange) keptHead(b []byte) []byte {
	k := x.kept
	b = append(b, k.head...)
	b = append(strconv.AppendInt(append(b, "Age: "...), int64(k.age.Seconds()), 10), "\r\nCache-Status: "...)
	return append(k.status.Append(b), "\r\n"...)
}
