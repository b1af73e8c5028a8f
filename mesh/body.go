package mesh

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
)

// Body is a message body, or one direction of a socket, that comes in pieces. One goroutine calls Next and then
// Trailer; Close may come from any.
type Body interface {
	// Next waits for the next piece, which stays valid until the following call. io.EOF tells that the body is
	// complete, any other error that it never will be.
	Next() (Piece, error)
	// Trailer gives the fields that followed the body (RFC 9110 §6.5). Call it after io.EOF.
	Trailer() Header
	// Close ends the interest in the body, and a Next that waits. It never blocks for long and can be called again.
	Close() error
}

// Piece is a part of a body.
type Piece struct {
	Data []byte
	Kind Kind
}

// Kind says what a piece is.
type Kind uint8

// The kinds of a piece. A message of a WebSocket is one piece; bytes may be cut anywhere.
const (
	KindBytes Kind = iota
	KindText
	KindBinary
)

// MaxMessage is the largest message of a socket to a service, in bytes: its whole window.
const MaxMessage = 64 << 10

// maxPiece is the most that one message of a stream carries in bytes.
const maxPiece = 256 << 10

var errBodyClosed = errors.New("body is closed")

// NewBody makes a Body of what r gives: each piece is what one Read gave, so that nothing waits for more. If r is an
// io.Closer, Close closes it, and must then end a Read that waits.
func NewBody(r io.Reader) Body { return &readerBody{r: r} }

type readerBody struct {
	r      io.Reader
	buf    []byte
	closed atomic.Bool
}

func (b *readerBody) Next() (Piece, error) {
	if b.closed.Load() {
		return Piece{}, errBodyClosed
	}
	if b.buf == nil {
		b.buf = make([]byte, 32<<10)
	}
	for {
		n, err := b.r.Read(b.buf)
		if n > 0 {
			return Piece{Data: b.buf[:n]}, nil
		}
		if err != nil {
			return Piece{}, err //nolint:wrapcheck // io.EOF must stay itself
		}
	}
}

func (b *readerBody) Trailer() Header { return nil }

func (b *readerBody) Close() error {
	c, ok := b.r.(io.Closer)
	if b.closed.Swap(true) || !ok {
		return nil
	}
	return c.Close() //nolint:wrapcheck // a wrapped reader's errors are its own
}

// NewReader reads a Body as a stream of bytes.
func NewReader(b Body) io.ReadCloser { return &bodyReader{b: b} }

type bodyReader struct {
	b    Body
	rest []byte
}

func (r *bodyReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		piece, err := r.b.Next()
		if err != nil {
			return 0, err //nolint:wrapcheck // io.EOF must stay itself
		}
		r.rest = piece.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *bodyReader) Close() error { return r.b.Close() } //nolint:wrapcheck // see above

// closeBody closes a body that somebody else has made, whose mistakes aren't ours.
func closeBody(log *slog.Logger, b Body) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("closing a body panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	_ = b.Close() // nobody reads it any more
}
