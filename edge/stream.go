package edge

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"millrace/edge/guard"
	"millrace/mesh"
	"millrace/node"
)

// stream writes a response whose body comes in pieces, each as it comes. A body that breaks off breaks the connection,
// so that it can't look complete.
func (s *Server) stream(conn *guard.Conn, x *Exchange, resp *mesh.Response) {
	defer conn.Unwatch()
	if x.kept != nil {
		defer x.kept.view.Release()
	}
	defer func() { _ = resp.Stream.Close() }() // before the look-out ends: it waits for whoever reads the connection
	if resp.Status == http.StatusSwitchingProtocols {
		s.socket(conn, x, resp)
		return
	}
	// that the target doesn't open: what the client sends is for nobody, but its end is to be seen
	if x.Socket && x.forward.Stream != nil {
		_ = x.forward.Stream.Close()
		conn.Watch()
	}
	w := s.newWriter(conn, x, resp)
	if endless(resp) {
		leave, ok := s.streams.enter(func() { _ = resp.Stream.Close() })
		if !ok {
			conn.Break()
			return
		}
		defer leave()
	}
	if err := w.copy(resp.Stream); err != nil {
		conn.Break()
	}
}

// endless reports whether a response is one that ends only when somebody ends it, as far as its head tells.
func endless(resp *mesh.Response) bool {
	return resp.Length < 0 && hasPrefixFold(resp.Header.Get("Content-Type"), "text/event-stream")
}

// writer writes one streamed response.
type writer struct {
	conn    *guard.Conn
	head    []byte
	length  int64 // that was announced, or -1
	chunked bool
	sent    int64
	route   *route
}

// newWriter decides how the body's end is told: by its length, by chunks, or to HTTP/1.0 by the connection's.
func (s *Server) newWriter(conn *guard.Conn, x *Exchange, resp *mesh.Response) *writer {
	w := &writer{conn: conn, length: resp.Length, chunked: resp.Length < 0 && !x.HTTP10, route: x.route}
	if s.draining.Load() || (x.HTTP10 && !w.chunked && w.length < 0) {
		conn.End()
	}
	b := s.appendHead(nil, x, resp)
	switch {
	case w.chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case w.length >= 0:
		b = mesh.AppendLength(b, w.length)
	}
	w.head = append(appendConnection(b, conn, x), "\r\n"...)
	return w
}

// appendHead writes status line, fields and Date.
func (s *Server) appendHead(b []byte, x *Exchange, resp *mesh.Response) []byte {
	b = appendStatus(b, resp.Status, reasonOf(resp))
	dated := x.kept != nil
	if dated {
		b = x.keptHead(b)
	}
	for _, f := range resp.Header {
		dated = dated || equalFold(f.Name, "Date")
		b = mesh.AppendField(b, f.Name, f.Value)
	}
	if !dated {
		b = mesh.AppendField(b, "Date", s.date.now())
	}
	return b
}

func appendStatus(b []byte, status int, reason string) []byte {
	b = append(strconv.AppendInt(append(b, "HTTP/1.1 "...), int64(status), 10), ' ')
	return append(append(b, reason...), "\r\n"...)
}

var errShort = errors.New("the body is shorter or longer than was announced")

// copy writes the head and then the body to its end. An error means that the client hasn't all of it.
func (w *writer) copy(body mesh.Body) error {
	if err := w.conn.Send(true, w.head); err != nil {
		return err //nolint:wrapcheck // the caller only wants to know that there is one
	}
	for {
		p, err := body.Next()
		switch {
		case errors.Is(err, io.EOF):
			return w.end(body.Trailer())
		case err != nil:
			return err //nolint:wrapcheck // see above
		}
		if err := w.piece(p.Data); err != nil {
			return err
		}
	}
}

func (w *writer) piece(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	if w.sent += int64(len(p)); w.length >= 0 && w.sent > w.length {
		return errShort
	}
	if !w.chunked {
		return w.conn.Send(true, p) //nolint:wrapcheck // see above
	}
	line := append(strconv.AppendInt(w.head[:0], int64(len(p)), 16), "\r\n"...)
	return w.conn.Send(true, line, p, line[len(line)-2:]) //nolint:wrapcheck // see above
}

// end writes what follows the last piece: the last chunk with its trailer fields.
func (w *writer) end(trailer mesh.Header) error {
	if w.length >= 0 && w.sent != w.length {
		return errShort
	}
	if !w.chunked {
		return nil
	}
	rules := w.route.Rewrite
	trailer.Delete(func(f mesh.Field) bool {
		// the route has its say in the head
		return !node.MayTrail(f.Name) || (rules != nil && rules.Response.Names(f.Name))
	})
	return w.conn.Send(true, mesh.AppendLastChunk(w.head[:0], trailer)) //nolint:wrapcheck // see above
}

// sendInterim passes an interim response on (RFC 9110 §15.2).
func sendInterim(conn *guard.Conn, status int, h mesh.Header) {
	b := appendStatus(nil, status, http.StatusText(status))
	for _, f := range h {
		b = mesh.AppendField(b, f.Name, f.Value)
	}
	_ = conn.Send(false, append(b, "\r\n"...)) // a client that is gone is noticed elsewhere
}
