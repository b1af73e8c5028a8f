package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"millrace/mesh"
	"millrace/node"
	"millrace/node/http1"
)

// body reads a response's body from its connection, framed by RFC 9112 §6.3.
type body struct {
	c          *conn
	framing    framing
	remaining  int64 // unread bytes of the whole body, or of the current chunk
	length     int64 // of the whole body, or -1
	chunkRead  bool  // a chunk's data was read; its line end comes next
	ended      bool
	closesConn bool // the connection can't be reused after the body
	trailer    mesh.Header
	listed     map[string]bool // lower-case names that the head's Connection field lists
}

type framing uint8

const (
	sized      framing = iota // by Content-Length
	chunked                   // by the chunked transfer coding
	untilClose                // by the end of the connection; also what follows a 101
)

// frame determines how the response's body is framed.
func (c *conn) frame(h head, method string) (*body, error) {
	b := &body{c: c}
	codings, lengths := h.fields.Values("Transfer-Encoding"), h.fields.Values("Content-Length")
	switch {
	case h.status == 101:
		b.framing, b.length, b.closesConn = untilClose, -1, true
	case mesh.Bodyless(method, h.status):
		b.ended = true
	case len(codings) > 0:
		if len(codings) > 1 || !strings.EqualFold(codings[0], "chunked") || h.http10 {
			return nil, errCoding
		}
		b.framing, b.length, b.closesConn = chunked, -1, len(lengths) > 0
	case len(lengths) > 0:
		n, err := parseLength(lengths)
		if err != nil {
			return nil, err
		}
		b.length, b.remaining, b.ended = n, n, n == 0
	default:
		b.framing, b.length, b.closesConn = untilClose, -1, true
	}
	return b, nil
}

func parseLength(lengths []string) (int64, error) {
	n, err := strconv.ParseInt(lengths[0], 10, 62)
	if err != nil || strings.Trim(lengths[0], "0123456789") != "" {
		return 0, fmt.Errorf("%w: Content-Length", errBroken)
	}
	for _, other := range lengths[1:] {
		if other != lengths[0] {
			return 0, fmt.Errorf("%w: two different Content-Lengths", errBroken)
		}
	}
	return n, nil
}

// readSmall reads the whole body if it fits one message and is either known to be short or buffered already. Otherwise
// ok is false and the body is streamed.
func (b *body) readSmall() (all []byte, ok bool, err error) {
	switch {
	case b.ended:
		return nil, true, nil
	case b.framing == sized && b.remaining <= int64(mesh.MaxBody):
		all = make([]byte, b.remaining)
		b.remaining, b.ended = 0, true
		return all, true, b.c.readFull(all)
	case b.framing == chunked:
		all, used, ok := wholeChunks(b.c.buf[b.c.r:b.c.w])
		b.c.r += used
		b.ended = ok
		return all, ok, nil
	}
	return nil, false, nil
}

// wholeChunks decodes a chunked body that is completely buffered and has no trailer fields.
func wholeChunks(p []byte) (all []byte, used int, ok bool) {
	for {
		line, rest, found := bytes.Cut(p[used:], []byte("\r\n"))
		if !found {
			return nil, 0, false
		}
		n, err := parseChunkLine(line)
		if err != nil || n+2 > int64(len(rest)) {
			return nil, 0, false
		}
		used += len(line) + 2 + int(n) + 2
		if end := rest[n : n+2]; end[0] != '\r' || end[1] != '\n' {
			return nil, 0, false
		}
		if n == 0 {
			return all, used, true
		}
		all = append(all, rest[:n]...)
	}
}

// parseChunkLine parses the size of a chunk (RFC 9112 §7.1) and ignores its extensions.
func parseChunkLine(line []byte) (int64, error) {
	size, _, _ := bytes.Cut(line, []byte(";"))
	n, err := strconv.ParseUint(string(bytes.TrimRight(size, " \t")), 16, 62)
	if err != nil {
		return 0, errChunkSize
	}
	return int64(n), nil
}

// next returns the next bytes, which stay valid until the following call, or io.EOF at the end.
func (b *body) next() ([]byte, error) {
	if b.ended {
		return nil, io.EOF
	}
	if b.framing == chunked && b.remaining == 0 {
		if err := b.nextChunk(); err != nil {
			return nil, err
		}
	}
	if b.c.r == b.c.w {
		err := b.c.refill()
		if b.framing == untilClose && err != nil && b.c.eof {
			b.ended = true
			return nil, io.EOF
		}
		if err != nil {
			return nil, err
		}
	}
	p := b.c.buf[b.c.r:b.c.w]
	if b.framing != untilClose {
		p = p[:min(int64(len(p)), b.remaining)]
		b.remaining -= int64(len(p))
		b.ended = b.framing == sized && b.remaining == 0
	}
	b.c.r += len(p)
	return p, nil
}

// nextChunk reads up to the data of the next chunk. It returns io.EOF after the last one. What can't be a chunk is
// refused at its first byte.
func (b *body) nextChunk() error {
	if b.chunkRead {
		if next, err := b.c.peek(); err != nil {
			return err
		} else if next != '\r' {
			return errChunkEnd
		}
		if line, err := b.c.line(); err != nil {
			return err
		} else if len(line) != 2 {
			return errChunkEnd
		}
	}
	if next, err := b.c.peek(); err != nil {
		return err
	} else if _, ok := node.HexDigit(next); !ok {
		return errChunkSize
	}
	line, err := b.c.line()
	if err != nil {
		return err
	}
	b.chunkRead = true
	if b.remaining, err = parseChunkLine(line[:len(line)-2]); err != nil || b.remaining > 0 {
		return err
	}
	b.ended = true
	if err := b.readTrailer(); err != nil {
		return err
	}
	return io.EOF
}

var (
	errChunkEnd  = fmt.Errorf("%w: chunk end", errBroken)
	errChunkSize = fmt.Errorf("%w: chunk size", errBroken)
)

// readTrailer reads the trailer section through its empty line.
func (b *body) readTrailer() error {
	var section []byte
	for range http1.MaxFields + 1 {
		line, err := b.c.line()
		if err != nil {
			return err
		}
		if section = append(section, line...); len(section) > maxTrailer {
			break
		}
		if len(line) == 2 {
			if b.trailer, _, err = parseFields(section); err != nil {
				return fmt.Errorf("%w: %w", errBroken, err)
			}
			return nil
		}
	}
	return errors.Join(errBroken, http1.ErrFieldCount)
}

// maxTrailer bounds a trailer section in bytes.
const maxTrailer = 8 << 10
