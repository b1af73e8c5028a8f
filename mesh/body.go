package mesh

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
)

// Body is a message body, or one direction of a socket, read in pieces. One goroutine calls Next and then Trailer.
// Close may be called from any goroutine.
type Body interface {
	// Next waits for the next piece, which stays valid until the following call. The error is io.EOF at the end of a
	// complete body; after any other error the body can't be completed.
	Next() (Piece, error)
	// Trailer returns the trailer fields (RFC 9110 §6.5). Call it after io.EOF.
	Trailer() Header
	// Close discards the rest of the body and ends a waiting Next. It doesn't block for long and may be called again.
	Close() error
}

// Piece is a part of a body.
type Piece struct {
	Data []byte
	Kind Kind
}

// Kind is what a piece holds.
type Kind uint8

// The kinds of a piece. A WebSocket message is one piece; bytes may be split anywhere.
const (
	KindBytes Kind = iota
	KindText
	KindBinary
)

// MaxMessage is the largest message of a socket to a service, in bytes. It is the socket's whole window.
const MaxMessage = 64 << 10

// maxPiece is the largest payload of one stream message, in bytes.
const maxPiece = 256 << 10

var errBodyClosed = errors.New("body is closed")

// NewBody returns a Body that reads from r. Each piece is the result of one Read, so nothing waits for a buffer to
// fill. If r is an io.Closer, Close closes it, which must end a waiting Read.
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
			return Piece{}, err // io.EOF must stay itself
		}
	}
}

func (b *readerBody) Trailer() Header { return nil }

func (b *readerBody) Close() error {
	c, ok := b.r.(io.Closer)
	if b.closed.Swap(true) || !ok {
		return nil
	}
	return c.Close()
}

// NewReader returns an io.ReadCloser that reads the bytes of b.
func NewReader(b Body) io.ReadCloser { return &bodyReader{b: b} }

type bodyReader struct {
	b    Body
	rest []byte
}

func (r *bodyReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		piece, err := r.b.Next()
		if err != nil {
			return 0, err // io.EOF must stay itself
		}
		r.rest = piece.Data
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *bodyReader) Close() error { return r.b.Close() }

// closeBody closes a body that other code has made. A panic there is logged.
func closeBody(log *slog.Logger, b Body) {
	defer func() {
		if p := recover(); p != nil {
			log.Error("closing a body panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	_ = b.Close() // nobody reads it any more
}
