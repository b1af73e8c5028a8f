package guard

import (
	"bytes"
	"errors"
	"io"
	"sync/atomic"
	"time"

	"millrace/node"
	"millrace/node/http1"
)

// firstPiece is the size of the first buffer of a streamed body. The buffer grows up to largePiece while reads fill it.
const (
	firstPiece = 16 << 10
	largePiece = 256 << 10
)

// Stream returns the rest of the request's body in pieces, at most limit bytes. Errors of Next are *node.Error. Nothing
// is read before the first Next, so after a Stream that was closed unread ReadBody still works.
func (c *Conn) Stream(limit int64) http1.Body {
	return &stream{c: c, limit: limit}
}

// stream is a request's body in pieces.
type stream struct {
	c      *Conn
	limit  int64
	read   int64
	buf    pieces
	begun  atomic.Bool
	closed atomic.Bool
}

func (s *stream) Next() (http1.Piece, error) {
	b := &s.c.body
	s.begun.Store(true)
	if b.pace == nil {
		b.pace = &pace{grace: s.c.l.limits.Load().ReadTimeout}
		b.stopped = &s.closed
	}
	p, err := s.next(b)
	if err == nil && s.read+int64(len(p)) > s.limit {
		err = tooLarge(s.limit)
	}
	s.read += int64(len(p))
	if err != nil {
		s.buf.drop()
		b.broken = !errors.Is(err, io.EOF)
		return http1.Piece{}, err
	}
	return http1.Piece{Data: p}, nil
}

func (s *stream) next(b *body) ([]byte, error) {
	n, err := b.chunk()
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, io.EOF
	}
	p := s.c.buf.unread()
	if p = p[:min(n, int64(len(p)))]; len(p) > 0 {
		s.c.buf.skip(len(p))
	} else if p, err = s.readFresh(b, n); err != nil {
		return nil, err
	}
	b.left -= int64(len(p))
	b.pace.count(int64(len(p)), 0)
	return p, nil
}

// readFresh reads at most n bytes from the client.
func (s *stream) readFresh(b *body, n int64) ([]byte, error) {
	buf := s.buf.buffer(s.c)
	if buf == nil {
		return nil, errNoMemory
	}
	buf = buf[:min(n, int64(len(buf)))]
	var read int
	err := b.wait(func() (err error) { read, err = s.c.Conn.Read(buf); return err })
	if read == 0 {
		return nil, bodyError(err)
	}
	s.buf.filled = read == cap(buf)
	return buf[:read], nil
}

// Trailer returns the trailer fields of a chunked body.
func (s *stream) Trailer() node.Header { return s.c.body.trailer }

// Close ends a Next that waits.
func (s *stream) Close() error {
	s.closed.Store(true)
	if s.begun.Load() {
		s.c.interrupt()
	}
	return nil
}

// pieces is the buffer into which pieces are read. It is counted against the budget.
type pieces struct {
	buf    []byte
	filled bool // the last read filled buf, so there may be more
}

// buffer returns the buffer, after it has grown if the last read filled it; nil if the budget is used up.
func (p *pieces) buffer(c *Conn) []byte {
	switch {
	case p.buf == nil:
		if !c.Hold(firstPiece) {
			return nil
		}
		p.buf = make([]byte, firstPiece)
	case p.filled && len(p.buf) < largePiece && c.Hold(3*len(p.buf)):
		p.buf = make([]byte, 4*len(p.buf))
	}
	return p.buf
}

func (p *pieces) drop() { p.buf = nil }

// Raw returns what the client sends after its request, until it ends the connection or Close is called. It is for
// connections that switch protocols.
func (c *Conn) Raw() http1.Body { return &raw{c: c} }

type raw struct {
	c      *Conn
	buf    pieces
	closed atomic.Bool
}

func (r *raw) Next() (http1.Piece, error) {
	if p := r.c.buf.unread(); len(p) > 0 {
		r.c.buf.skip(len(p))
		return http1.Piece{Data: p}, nil
	}
	buf := r.buf.buffer(r.c)
	if buf == nil {
		return http1.Piece{}, errNoMemory
	}
	r.c.setReadDeadline(time.Time{})
	if r.closed.Load() {
		return http1.Piece{}, errGone
	}
	n, err := r.c.Conn.Read(buf)
	r.buf.filled = n == len(buf)
	switch {
	case n > 0:
		return http1.Piece{Data: buf[:n]}, nil
	case errors.Is(err, io.EOF):
		return http1.Piece{}, io.EOF
	}
	return http1.Piece{}, errGone
}

func (r *raw) Trailer() node.Header { return nil }

func (r *raw) Close() error {
	r.closed.Store(true)
	r.c.interrupt()
	return nil
}

// Arrived reports whether the whole body has arrived, so that reading it doesn't wait. It returns false for a body with
// trailer fields: they are lost unless the body is read as a stream.
func (c *Conn) Arrived() bool {
	if c.body.done() {
		return true
	}
	if !c.body.chunked {
		return c.body.left <= int64(len(c.buf.unread()))
	}
	return chunksArrived(c.buf.unread())
}

// chunksArrived reports whether a chunked body ends within p. The result for a malformed body doesn't matter: it is
// refused when it is read.
func chunksArrived(p []byte) bool {
	for {
		line, rest, ok := bytes.Cut(p, []byte("\r\n"))
		if !ok {
			return false
		}
		size, _, ok := parseChunkLine(line)
		switch {
		case !ok:
			return true
		case size == 0:
			return bytes.HasPrefix(rest, []byte("\r\n"))
		case size+2 > int64(len(rest)):
			return false
		}
		p = rest[size+2:]
	}
}
