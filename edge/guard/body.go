package guard

import (
	"bytes"
	"errors"
	"sync/atomic"
	"time"

	"millrace/node"
	"millrace/node/http1"
)

// Bounds on the bytes around the data of a chunked body (RFC 9112 §7.1.1 asks for some).
const (
	maxChunkLine = 256      // a chunk's size and its extensions
	maxExcess    = 16 << 10 // bytes of chunk extensions beyond an eighth of the data
	maxTrailers  = 8 << 10  // the trailer section
)

// body reads one request's body from its connection.
type body struct {
	c       *Conn
	left    int64 // unread bytes of the whole body, or of the current chunk
	chunked bool
	ended   bool  // the last chunk and its trailers have been read
	begun   bool  // a chunk has been read: its line end comes next
	expect  bool  // 100 Continue must be sent before the first read
	timed   bool  // the read deadline has been set
	broken  bool  // the rest of the connection can't be parsed
	excess  int64 // of chunk extensions: see maxExcess
	trailer node.Header
	pace    *pace        // bounds the time of a streamed body; nil for one that is read whole
	stopped *atomic.Bool // the stream was closed
}

var (
	errChunk    = node.Errorf(node.CodeInvalid, nil, "the chunked body breaks RFC 9112 section 7.1")
	errTrailers = node.Errorf(node.CodeInvalid, nil, "the trailer section is malformed or larger than 8 KiB")
	errGone     = node.Errorf(node.CodeCanceled, nil, "the client went away before its request was complete")
)

// done reports whether the whole body has been read.
func (b *body) done() bool {
	if b.chunked {
		return b.ended
	}
	return b.left == 0
}

// readAll reads the rest of the body, at most limit bytes. Memory grows with the bytes that arrive, never with a stated
// length.
func (b *body) readAll(limit int64) ([]byte, error) {
	if !b.chunked && b.left > limit {
		return nil, tooLarge(limit)
	}
	out, err := b.read(limit)
	b.broken = err != nil && node.CodeOf(err) != node.CodeTooLarge
	return out, err
}

func (b *body) read(limit int64) ([]byte, error) {
	var out []byte
	for {
		n, err := b.chunk()
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return out, nil
		}
		if int64(len(out))+n > limit {
			return nil, tooLarge(limit)
		}
		if out, err = b.append(out, n); err != nil {
			return nil, err
		}
	}
}

func tooLarge(limit int64) *node.Error {
	return node.Errorf(node.CodeTooLarge, nil, "the body is larger than %s", node.Size(limit))
}

// maxDiscard bounds how much of an unwanted body is read so that its connection can be kept.
const maxDiscard = 64 << 10

// discardable reports whether discard can succeed. It can't if the client waits for 100 Continue: it may or may not
// send the body.
func (b *body) discardable() bool {
	return b.done() || (!b.broken && !b.expect && (b.chunked || b.left <= maxDiscard))
}

// discard reads the rest of the body and drops it.
func (b *body) discard() error {
	if !b.discardable() {
		return errGone
	}
	for total := int64(0); !b.done(); {
		n, err := b.chunk()
		if err != nil {
			return err
		}
		if total += n; total > maxDiscard {
			return errGone
		}
		for b.left > 0 {
			if len(b.c.buf.unread()) == 0 {
				if err := b.fill(); err != nil {
					return err
				}
			}
			part := min(b.left, int64(len(b.c.buf.unread())))
			b.c.buf.skip(int(part))
			b.left -= part
		}
	}
	return nil
}

// chunk returns the number of bytes before the next line of the chunked coding, 0 at the end of the body. Without that
// coding, the body is one chunk.
func (b *body) chunk() (int64, error) {
	if !b.chunked || b.left > 0 || b.ended {
		return b.left, nil
	}
	if b.begun {
		if err := b.expectLineEnd(); err != nil {
			return 0, err
		}
	}
	line, err := b.line()
	if err != nil {
		return 0, err
	}
	size, extension, ok := parseChunkLine(line)
	b.excess = max(b.excess+int64(extension)-size/8, 0)
	if !ok || b.excess > maxExcess {
		return 0, errChunk
	}
	b.c.buf.skip(len(line) + 2)
	b.left, b.begun = size, true
	if size == 0 {
		return 0, b.trailers()
	}
	return size, nil
}

// parseChunkLine parses a chunk's size, at most 15 hexadecimal digits, and checks the syntax of its extensions. White
// space is allowed only before a semicolon, as in the grammar of extensions. extension is their length in bytes.
func parseChunkLine(line []byte) (size int64, extension int, ok bool) {
	digits := 0
	for digits < len(line) {
		v, isHex := node.HexDigit(line[digits])
		if !isHex {
			break
		}
		size = size<<4 | int64(v)
		digits++
		if digits > 15 {
			return 0, 0, false
		}
	}
	rest := line[digits:]
	if len(rest) == 0 {
		return size, 0, digits > 0
	}
	trimmed := bytes.TrimLeft(rest, " \t")
	if digits == 0 || len(trimmed) == 0 || trimmed[0] != ';' {
		return 0, 0, false
	}
	for _, c := range rest {
		if (c < ' ' && c != '\t') || c == 0x7f {
			return 0, 0, false
		}
	}
	return size, len(rest), true
}

// line returns the next line without its end. The line remains unread until it is skipped.
func (b *body) line() ([]byte, error) {
	for {
		unread := b.c.buf.unread()
		if i := bytes.IndexByte(unread, '\n'); i >= 0 {
			if i == 0 || unread[i-1] != '\r' || i > maxChunkLine {
				return nil, errChunk
			}
			return unread[:i-1], nil
		}
		if len(unread) > maxChunkLine {
			return nil, errChunk
		}
		if err := b.fill(); err != nil {
			return nil, err
		}
	}
}

// expectLineEnd reads the CRLF after a chunk's data.
func (b *body) expectLineEnd() error {
	for len(b.c.buf.unread()) < 2 {
		if err := b.fill(); err != nil {
			return err
		}
	}
	if !bytes.HasPrefix(b.c.buf.unread(), []byte("\r\n")) {
		return errChunk
	}
	b.c.buf.skip(2)
	return nil
}

// trailers reads the trailer section with its empty line.
func (b *body) trailers() error {
	for {
		unread := b.c.buf.unread()
		if bytes.HasPrefix(unread, []byte("\r\n")) {
			b.c.buf.skip(2)
			b.ended = true
			return nil
		}
		if i := bytes.Index(unread, headEnd); i >= 0 && i <= maxTrailers {
			section := unread[:i+len(headEnd)]
			fields, _, err := http1.ParseFields(bytes.Clone(section))
			if err != nil {
				return errTrailers
			}
			b.trailer = fields
			b.c.buf.skip(len(section))
			b.ended = true
			return nil
		}
		if bareLF(unread) || len(unread) > maxTrailers {
			return errTrailers
		}
		if err := b.fill(); err != nil {
			return err
		}
	}
}

// append reads n bytes of data and appends them to out.
func (b *body) append(out []byte, n int64) ([]byte, error) {
	for n > 0 {
		unread := b.c.buf.unread()
		if len(unread) == 0 && n >= baseBuffer { // read the rest of a large body without a copy
			read, err := b.appendDirect(&out, n)
			if err != nil {
				return nil, err
			}
			n -= read
			continue
		}
		if len(unread) == 0 {
			if err := b.fill(); err != nil {
				return nil, err
			}
			continue
		}
		part := unread[:min(n, int64(len(unread)))]
		if err := b.grow(&out, len(part)); err != nil {
			return nil, err
		}
		out = append(out, part...)
		b.c.buf.skip(len(part))
		n -= int64(len(part))
		b.left -= int64(len(part))
	}
	return out, nil
}

// appendDirect reads once from the connection, at most n bytes, and appends them to out.
func (b *body) appendDirect(out *[]byte, n int64) (int64, error) {
	if err := b.grow(out, 1); err != nil {
		return 0, err
	}
	free := (*out)[len(*out):cap(*out)]
	var read int
	err := b.wait(func() (err error) { read, err = b.c.Conn.Read(free[:min(n, int64(len(free)))]); return err })
	*out = (*out)[:len(*out)+read]
	b.left -= int64(read)
	if read == 0 {
		return 0, bodyError(err)
	}
	return int64(read), nil
}

// grow makes space for n more bytes within the budget. It at least doubles the size, but never exceeds the body's
// length.
func (b *body) grow(out *[]byte, n int) error {
	have := cap(*out)
	if len(*out)+n <= have {
		return nil
	}
	want := max(2*have, len(*out)+n, baseBuffer)
	if !b.chunked {
		want = min(want, len(*out)+int(b.left))
	}
	if !b.c.Hold(want - have) {
		return errNoMemory
	}
	*out = append(make([]byte, 0, want), *out...)
	return nil
}

// fill waits for bytes from the client.
func (b *body) fill() error {
	if err := b.wait(func() error { return b.c.buf.fill(b.c.Conn, maxTrailers+baseBuffer) }); err != nil {
		return bodyError(err)
	}
	return nil
}

// wait calls read to read from the client. Before, it sends a 100 Continue that the client waits for, and sets the read
// deadline.
func (b *body) wait(read func() error) error {
	if b.expect {
		b.expect = false
		if !b.c.sendContinue() {
			return errGone
		}
	}
	if b.pace != nil {
		return b.paced(read)
	}
	if !b.timed {
		b.timed = true
		b.c.setReadDeadline(time.Now().Add(b.c.l.limits.Load().ReadTimeout))
	}
	return read()
}

// paced calls read under the deadline of a streamed body.
func (b *body) paced(read func() error) error {
	begun := time.Now()
	b.c.setReadDeadline(b.pace.deadline(begun))
	if b.stopped.Load() {
		return errGone
	}
	err := read()
	b.pace.count(0, time.Since(begun)) // the stream counts the bytes
	return err
}

func bodyError(err error) error {
	switch {
	case timedOut(err):
		return errSlow
	case errors.Is(err, errBudget):
		return errNoMemory
	case errors.Is(err, errFull):
		return errChunk
	}
	return errGone
}
