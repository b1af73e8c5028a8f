package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync/atomic"

	"millrace/edge/exchange"
	"millrace/kvcache/httpcache"
	"millrace/mesh"
	"millrace/node"
)

// setBody sets a span of a file as the body of a response: from memory, from this node's disk, or as it comes from
// other nodes. size is that of the file.
func setBody(
	ctx context.Context, x *exchange.Exchange, f File, size int64, s httpcache.Span, resp *mesh.Response,
) error {
	if x.Method == http.MethodHead {
		return nil
	}
	content := f.Bytes()
	if content == nil && size <= small {
		within, cancel := context.WithTimeout(ctx, x.Timeout())
		defer cancel()
		watch(x, f)
		var err error
		if content, err = f.Load(within); err != nil {
			return notHere(within, err)
		}
	}
	if content != nil {
		resp.Body = content[s.First : s.Last+1]
		return nil
	}
	if f.Here() {
		if file, err := f.Acquire(); err == nil {
			resp.Stream = &fileBody{of: f, file: file, offset: s.First, length: s.Len()}
			return nil
		}
	}
	watch(x, f)
	r, err := f.Stream(ctx, s.First, s.Len())
	if err != nil {
		return notHere(ctx, err)
	}
	resp.Stream = mesh.NewBody(r)
	return nil
}

// watch starts to detect that the client disconnects, if the file must be fetched.
func watch(x *exchange.Exchange, f File) {
	if x.Incoming != nil && x.Length == 0 && !f.Here() {
		x.Watch()
	}
}

// notHere returns the error for a file that this node doesn't have and can't get.
func notHere(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return exchange.Ended(ctx)
	}
	return node.Errorf(node.CodeUnavailable, err, "this node doesn't have the file, and can't get it now")
}

// fileBody is a part of a file on this node's disk.
type fileBody struct {
	of             File
	file           *os.File
	offset, length int64
	buf            []byte
	closed         atomic.Bool
}

// pieceSize is the size of a piece that Next reads, in bytes.
const pieceSize = 64 << 10

// File returns the file and what is left to send.
func (b *fileBody) File() (f *os.File, offset, length int64) { return b.file, b.offset, b.length }

// Sent counts bytes that were sent, and reports a file that can't be read.
func (b *fileBody) Sent(n int64, failed error) {
	b.offset, b.length = b.offset+n, b.length-n
	if failed != nil {
		b.of.Bad(failed)
	}
}

// Next reads the next piece.
func (b *fileBody) Next() (mesh.Piece, error) {
	if b.length <= 0 {
		return mesh.Piece{}, io.EOF
	}
	if b.buf == nil {
		b.buf = make([]byte, min(b.length, pieceSize))
	}
	p := b.buf[:min(b.length, pieceSize)]
	if n, err := b.file.ReadAt(p, b.offset); n < len(p) {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		b.of.Bad(err)
		return mesh.Piece{}, fmt.Errorf("read a file of a site: %w", err)
	}
	b.offset, b.length = b.offset+int64(len(p)), b.length-int64(len(p))
	return mesh.Piece{Data: p}, nil
}

// Trailer returns nil: files have no trailer fields.
func (b *fileBody) Trailer() mesh.Header { return nil }

// Close ends the use of the file.
func (b *fileBody) Close() error {
	if !b.closed.Swap(true) {
		b.of.Release()
	}
	return nil
}
