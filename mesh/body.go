package mesh

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime/debug"
	"sync/atomic"

	"millrace/node/http1"
)

// Aliases of the types of package http1, which every package that passes bodies on shares.
type (
	// Body is a message body, or one direction of a socket, that comes in pieces.
	Body = http1.Body
	// Piece is a part of a body.
	Piece = http1.Piece
	// Kind says what a piece is.
	Kind = http1.Kind
)

// The kinds of a piece: see http1.
const (
	KindBytes  = http1.KindBytes
	KindText   = http1.KindText
	KindBinary = http1.KindBinary
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
