//go:build unix

package upstream

import (
	"errors"
	"net"
	"syscall"
)

// peeker looks at a socket without reading from it, and asks without looking in vain. It belongs to one request at a
// time.
type peeker struct {
	raw       syscall.RawConn
	look      func(fd uintptr)      // made once, since each connection looks before each request
	writeRead func(fd uintptr) bool // likewise

	nothing bool // what look has found

	out, in []byte // of swap
	sent    bool   // it has written
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

// quiet reports whether the other end has neither closed the connection nor sent anything. It never waits, and takes no
// notice of deadlines, since that of the last request may have passed. Without a socket to look at the answer is yes.
func (p *peeker) quiet() bool {
	if p.raw == nil {
		return true
	}
	p.nothing = false
	return p.raw.Control(p.look) == nil && p.nothing
}

// ask writes out, waits, and reads what comes first into in, which saves the read that finds nothing yet: a target
// never answers before it is asked. Less written than all, without an error, means that there was no room, and nothing
// was waited for.
func (p *peeker) writeAndRead(out, in []byte) (written, read int, err error) {
	p.out, p.in, p.sent, p.written, p.read, p.err = out, in, false, 0, 0, nil
	if err = p.raw.Read(p.writeRead); err == nil {
		err = p.err
	}
	p.out, p.in = nil, nil
	return p.written, p.read, err
}

// step is one visit of ask at the socket; false waits until there is something to read.
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

// later reports whether the system only couldn't at that moment.
func temporary(err error) bool {
	return err != nil && (errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR))
}
