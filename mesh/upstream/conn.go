package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// maxHead bounds a response head in bytes.
const maxHead = 64 << 10

// Errors of a response that can't be forwarded.
var (
	errHeadTooLarge = errors.New("response head is larger than 64 KiB")
	errBroken       = errors.New("response breaks RFC 9112")
	errCoding       = fmt.Errorf("%w: transfer coding", errBroken)
	errUpgrade      = fmt.Errorf("%w: 101 for a protocol that wasn't asked for", errBroken)
)

// conn is one connection to a target with its read buffer. It belongs to one request at a time.
type conn struct {
	net.Conn
	socket  *peeker       // the socket below TLS, or Conn itself
	isPlain bool          // socket is Conn itself
	host    string        // the target's authority, for requests without one
	idle    time.Duration // how long it may stay idle
	expires time.Time

	buf  []byte
	r, w int // buf[r:w] is read but not consumed
	out  []byte
	eof  bool // the target closed the connection, and not within a TLS record
}

func newConn(c, raw net.Conn) *conn {
	return &conn{Conn: c, isPlain: c == raw, socket: newPeeker(raw), idle: idleTimeout, buf: make([]byte, firstBuffer)}
}

// write sends the request in out. It may also read the beginning of the response.
func (c *conn) write() error {
	written := 0
	if c.isPlain && c.socket.raw != nil && c.w == 0 {
		n, read, err := c.socket.writeAndRead(c.out, c.buf)
		c.w = read
		switch {
		case n == len(c.out) && err != nil:
			return fmt.Errorf("read response: %w", err)
		case n == len(c.out):
			return c.markNoAnswer(c.readResult(read, io.EOF))
		case err != nil:
			return fmt.Errorf("send request: %w", err)
		}
		written = n
	}
	if _, err := c.Write(c.out[written:]); err != nil {
		return fmt.Errorf("send request: %w", err)
	}
	return nil
}

// fill reads more bytes. It first moves the unread ones to the front, or grows the buffer up to limit.
func (c *conn) fill(limit int) error {
	if c.r > 0 {
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
	if c.w == len(c.buf) {
		if len(c.buf) >= limit {
			return errHeadTooLarge
		}
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := c.Read(c.buf[c.w:])
	c.w += n
	return c.readResult(n, err)
}

// readResult returns the error of a read of n bytes.
func (c *conn) readResult(n int, err error) error {
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	c.eof = err == io.EOF //nolint:errorlint // as the connection gives it
	return fmt.Errorf("read response: %w", unexpectedEOF(err))
}

// markNoAnswer replaces the error of a connection that ended before the first byte of a response, not within one.
func (c *conn) markNoAnswer(err error) error {
	if err != nil && c.eof && c.r == c.w {
		return fmt.Errorf("read response: %w", errNoAnswer)
	}
	return err
}

// line returns the bytes through the next line end. They stay valid until the next read. A line that ends in LF alone
// is refused: RFC 9112 §2.2 allows that only in start-lines and fields.
func (c *conn) line() ([]byte, error) {
	searched := 0
	for {
		if i := bytes.IndexByte(c.buf[c.r+searched:c.w], '\n'); i >= 0 {
			n := searched + i + 1
			b := c.buf[c.r : c.r+n]
			c.r += n
			if n < 2 || b[n-2] != '\r' {
				return nil, fmt.Errorf("%w: a line ends in LF alone", errBroken)
			}
			return b, nil
		}
		searched = c.w - c.r
		if err := c.fill(maxHead); err != nil {
			return nil, err
		}
	}
}

// peek returns the next byte without consuming it.
func (c *conn) peek() (byte, error) {
	for c.r == c.w {
		if err := c.fill(maxHead); err != nil {
			return 0, err
		}
	}
	return c.buf[c.r], nil
}

// readFull fills dst, first from the buffer. The last bytes are read through the buffer too. So whatever the target
// sent after them is noticed (c.r < c.w), and the connection isn't reused.
func (c *conn) readFull(dst []byte) error {
	n := copy(dst, c.buf[c.r:c.w])
	c.r += n
	for n < len(dst) {
		if rest := dst[n:]; len(rest) > len(c.buf) {
			m, err := io.ReadAtLeast(c.Conn, rest[:len(rest)-1], 1)
			if n += m; err != nil {
				return fmt.Errorf("read response body: %w", unexpectedEOF(err))
			}
			continue
		}
		if err := c.fill(maxHead); err != nil {
			return err
		}
		m := copy(dst[n:], c.buf[c.r:c.w])
		n, c.r = n+m, c.r+m
	}
	return nil
}

// unexpectedEOF turns io.EOF within a response into io.ErrUnexpectedEOF.
func unexpectedEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// maxBodyBuffer bounds the buffer of a connection that carries a long body.
const maxBodyBuffer = 256 << 10

// refill reads into the empty buffer, which grows while reads fill it.
func (c *conn) refill() error {
	full := c.w == len(c.buf)
	c.r, c.w = 0, 0
	if full && len(c.buf) < maxBodyBuffer {
		c.buf = make([]byte, 4*len(c.buf))
	}
	return c.fill(maxHead)
}

// shrinkBuffer drops a buffer that has grown for a long body, before the connection becomes idle.
func (c *conn) shrinkBuffer() {
	if len(c.buf) > maxHead {
		c.buf = make([]byte, firstBuffer)
	}
}

// firstBuffer is the initial size of the buffer. Most responses fit.
const firstBuffer = 4096
