package guard

import (
	"fmt"
	"io"
	"net"
	"time"
)

// Send writes to the client past the server, in one system call if it can: responses that stream, and interim ones.
// What the server has to write for the request after a Send with answer is thrown away. The client must read at the
// pace of a body.
func (c *Conn) Send(answer bool, parts ...[]byte) error {
	if answer && !c.answered {
		c.out.Lock()
		c.answered = true
		c.out.Unlock()
	}
	if c.sending == nil {
		c.pace = pace{grace: c.l.limits.Load().WriteTimeout}
		c.sending = &c.pace
	}
	for len(parts) > 0 {
		n := len(parts)
		if c.sending.slow {
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

// slowPiece is how much a client that was slow gets at once, so that its pace is known soon.
const slowPiece = 64 << 10

// noWait is the time that a write may take without a sign that the client held it up.
const noWait = 20 * time.Millisecond

// write writes once. What the system's buffers take at once is no sign of the client, and doesn't count for it.
func (c *Conn) write(parts [][]byte) error {
	begun := time.Now()
	c.writeBy(c.sending.deadline(begun), c.sending.grace)
	c.buffers = append(c.room[:0], parts...) // so that the caller's list need not live on the heap
	n, err := c.buffers.WriteTo(c.Conn)
	if err != nil {
		return fmt.Errorf("write to the client: %w", err)
	}
	c.sending.sent += n
	c.moved = time.Now()
	if waited := c.moved.Sub(begun); waited > noWait {
		c.sending.count(c.sending.taken(n, c.unacknowledged()), waited)
		c.sending.slow = waited > 100*time.Millisecond
	}
	return nil
}

// unacknowledged is how much of what was written is still in the system's buffers, as far as that is known.
func (c *Conn) unacknowledged() int64 {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return queued(tcp)
	}
	return 0
}

// proceed sends the 100 Continue that a client waits for (RFC 9110 §10.1.1), unless its response has begun already.
func (c *Conn) proceed() bool {
	c.out.Lock()
	defer c.out.Unlock()
	if c.answered {
		return false
	}
	// fails only on a closed connection, as the write does
	_ = c.SetWriteDeadline(time.Now().Add(c.l.limits.Load().ReadTimeout))
	_, err := io.WriteString(c.Conn, "HTTP/1.1 100 Continue\r\n\r\n")
	return err == nil
}

// Write takes what the server writes.
func (c *Conn) Write(p []byte) (int, error) {
	if c.answered {
		return len(p), nil
	}
	return c.Conn.Write(p) //nolint:wrapcheck // a wrapped connection's errors are its own
}

// Break ends the connection so that the client sees its response cut off: with a reset, since without a length or
// chunks the plain end would look like the end of the body.
func (c *Conn) Break() {
	c.answered, c.over = true, true
	c.linger.Store(false)
	c.reset()
}

// reset ends the connection at once. Whoever serves it finds it closed, and closes it again, which counts.
func (c *Conn) reset() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed connection
	}
	_ = c.Conn.Close()
}
