//go:build unix

package upstream

import (
	"errors"
	"net"
	"syscall"
)

// peeker inspects a socket without reading from it, and sends a request without a futile read. It belongs to one
// request at a time.
type peeker struct {
	raw       syscall.RawConn
	look      func(fd uintptr)      // allocated once: every connection is inspected before each request
	writeRead func(fd uintptr) bool // likewise

	nothing bool // result of look

	out, in []byte // arguments of writeRead
	sent    bool   // out was written
	written int
	read    int
	err     error
}

func newPeeker(c net.Conn) *peeker {
	p := &peeker{}
	p.look = func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		p.nothing = errors.Is(err, syscall.EAGAIN)
	}
	p.writeRead = p.step
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			p.raw = raw
		}
	}
	return p
}

// quiet reports whether the other end has neither closed the connection nor sent anything. It never waits, and ignores
// deadlines, since that of the last request may have passed. Without a socket to inspect it returns true.
func (p *peeker) quiet() bool {
	if p.raw == nil {
		return true
	}
	p.nothing = false
	return p.raw.Control(p.look) == nil && p.nothing
}

// writeAndRead writes out, waits, and reads the first bytes of the answer into in. A target never answers before it is
// asked, so this saves the read that would find nothing yet. If it writes less than out without an error, the socket's
// buffer is full, and it hasn't waited.
func (p *peeker) writeAndRead(out, in []byte) (written, read int, err error) {
	p.out, p.in, p.sent, p.written, p.read, p.err = out, in, false, 0, 0, nil
	if err = p.raw.Read(p.writeRead); err == nil {
		err = p.err
	}
	p.out, p.in = nil, nil
	return p.written, p.read, err
}

// step is one visit of writeAndRead to the socket. false means to wait until there is something to read.
func (p *peeker) step(fd uintptr) (done bool) {
	if !p.sent {
		p.sent = true
		p.written, p.err = syscall.Write(int(fd), p.out)
		if p.written = max(p.written, 0); temporary(p.err) {
			p.err = nil
		}
		return p.err != nil || p.written < len(p.out)
	}
	for p.err = syscall.EINTR; errors.Is(p.err, syscall.EINTR); { // waiting would miss what is there already
		p.read, p.err = syscall.Read(int(fd), p.in)
	}
	if p.read = max(p.read, 0); temporary(p.err) {
		p.err = nil
		return false
	}
	return true
}

// temporary reports whether a call may succeed later.
func temporary(err error) bool {
	return err != nil && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR))
}
