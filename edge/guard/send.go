package guard

import (
	"fmt"
	"io"
	"net"
	"time"
)

// Send writes to the client directly, not through the server, if possible in one system call. It is for interim
// responses, and for responses that stream or that Config.Short answers with. After a Send with answer, what the server
// writes for the request is discarded. The client must read fast enough: see pace.
func (c *Conn) Send(answer bool, parts ...[]byte) error {
	c.beginSend(answer)
	for len(parts) > 0 {
		n := len(parts)
		if c.streaming.slow {
			n = 1
			if rest := parts[0]; len(rest) > slowPiece {
				parts[0] = rest[slowPiece:]
				parts = append([][]byte{rest[:slowPiece]}, parts...)
			}
		}
		if err := c.write(parts[:n]); err != nil {
			return err
		}
		parts = parts[n:]
	}
	return nil
}

// beginSend prepares for writes past the server. If they answer the request, what the server writes for it is
// discarded.
func (c *Conn) beginSend(answer bool) {
	if answer && !c.answered {
		c.outMu.Lock()
		c.answered = true
		c.outMu.Unlock()
	}
	if c.streaming == nil {
		c.pace = pace{grace: c.l.limits.Load().WriteTimeout}
		c.streaming = &c.pace
	}
}

// slowPiece is the largest write to a client that was slow, so that its pace is measured often.
const slowPiece = 64 << 10

// minWait is the duration of a write from which on it counts as a wait for the client.
const minWait = 20 * time.Millisecond

// write writes once.
func (c *Conn) write(parts [][]byte) error {
	begun := c.beginWrite()
	c.buffers = append(c.bufferArray[:0], parts...) // a copy, so that the caller's slice doesn't escape to the heap
	n, err := c.buffers.WriteTo(c.Conn)
	return c.endWrite(begun, n, err)
}

// beginWrite sets the deadline of one write, which begins at the time that it returns.
func (c *Conn) beginWrite() (begun time.Time) {
	begun = time.Now()
	c.extendWriteDeadline(c.streaming.deadline(begun), c.streaming.grace)
	return begun
}

// endWrite counts n bytes of one write. Bytes that the system's buffers take at once say nothing about the client, and
// don't count in its favor.
func (c *Conn) endWrite(begun time.Time, n int64, err error) error {
	if err != nil {
		return fmt.Errorf("write to the client: %w", err)
	}
	c.streaming.sent += n
	c.lastWrite = time.Now()
	if waited := c.lastWrite.Sub(begun); waited > minWait {
		c.streaming.count(c.streaming.acknowledged(n, c.unacknowledged()), waited)
		c.streaming.slow = waited > 100*time.Millisecond
	}
	return nil
}

// unacknowledged returns how many written bytes are still in the system's buffers, as far as that is known.
func (c *Conn) unacknowledged() int64 {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return queued(tcp)
	}
	return 0
}

// sendContinue sends the 100 Continue that the client waits for (RFC 9110 §10.1.1), unless its response has begun. It
// reports whether it was sent.
func (c *Conn) sendContinue() bool {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	if c.answered {
		return false
	}
	// It fails only on a closed connection, as the write does.
	_ = c.SetWriteDeadline(time.Now().Add(c.l.limits.Load().ReadTimeout))
	_, err := io.WriteString(c.Conn, "HTTP/1.1 100 Continue\r\n\r\n")
	return err == nil
}

// Write is for the server. What it writes is discarded if Send has answered the request.
func (c *Conn) Write(p []byte) (int, error) {
	if c.answered {
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// Break resets the connection, so that the client sees that its response is incomplete. Without a length or chunks a
// normal close would look like the end of the body.
func (c *Conn) Break() {
	c.answered, c.last = true, true
	c.linger.Store(false)
	c.reset()
}

// reset ends the connection at once. The goroutine that serves it finds it closed and calls Close, which updates the
// counts.
func (c *Conn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed connection
	}
	_ = c.Conn.Close()
}
