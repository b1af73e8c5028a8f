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

// firstPiece is what a body that streams is read into at first; the room grows when reads keep filling it.
const (
	firstPiece = 16 << 10
	largePiece = 256 << 10
)

// Stream gives the rest of the request's body in pieces, if it has at most limit bytes. Errors of Next are *node.Error.
// Nothing is read before the first Next, so a body whose Stream was closed unread can still be had from ReadBody.
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
	p := s.c.in.unread()
	if p = p[:min(n, int64(len(p)))]; len(p) > 0 {
		s.c.in.skip(len(p))
	} else if p, err = s.fresh(b, n); err != nil {
		return nil, err
	}
	b.left -= int64(len(p))
	b.pace.count(int64(len(p)), 0)
	return p, nil
}

// fresh reads at most n bytes from the client.
func (s *stream) fresh(b *body, n int64) ([]byte, error) {
	room := s.buf.room(s.c)
	if room == nil {
		return nil, errNoMemory
	}
	room = room[:min(n, int64(len(room)))]
	var read int
	err := b.wait(func() (err error) { read, err = s.c.Conn.Read(room); return err })
	if read == 0 {
		return nil, failure(err)
	}
	s.buf.filled = read == cap(room)
	return room[:read], nil
}

// Trailer gives the trailer fields of a chunked body.
func (s *stream) Trailer() node.Header { return s.c.body.trailer }

// Close ends a Next that waits.
func (s *stream) Close() error {
	s.closed.Store(true)
	if s.begun.Load() {
		s.c.interrupt()
	}
	return nil
}

// pieces is the buffer that pieces are read into, by the budget.
type pieces struct {
	buf    []byte
	filled bool // by the last read: there is more than fits
}

// room gives the buffer, larger if the last read filled it; nil if there is no memory.
func (p *pieces) room(c *Conn) []byte {
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

// Raw gives what the client sends behind its request until it ends the connection, or until close: for sockets.
func (c *Conn) Raw() http1.Body { return &raw{c: c} }

type raw struct {
	c      *Conn
	buf    pieces
	closed atomic.Bool
}

func (r *raw) Next() (http1.Piece, error) {
	if p := r.c.in.unread(); len(p) > 0 {
		r.c.in.skip(len(p))
		return http1.Piece{Data: p}, nil
	}
	room := r.buf.room(r.c)
	if room == nil {
		return http1.Piece{}, errNoMemory
	}
	r.c.readBy(time.Time{})
	if r.closed.Load() {
		return http1.Piece{}, errGone
	}
	n, err := r.c.Conn.Read(room)
	r.buf.filled = n == len(room)
	switch {
	case n > 0:
		return http1.Piece{Data: room[:n]}, nil
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

// Arrived reports whether the whole body is here already, so that reading it doesn't wait. One with trailer fields
// hasn't: they are lost unless it is taken as a stream.
func (c *Conn) Arrived() bool {
	if c.body.done() {
		return true
	}
	if !c.body.chunked {
		return c.body.left <= int64(len(c.in.unread()))
	}
	return chunksArrived(c.in.unread())
}

// chunksArrived reports whether a chunked body ends within these bytes. It needn't be right about a malformed one,
// which is refused when it is read.
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
