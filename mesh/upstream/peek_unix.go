//go:build unix

package upstream

import (
	"errors"
	"net"
	"syscall"
)

// peeker looks at a socket without reading from it.
type peeker struct{ raw syscall.RawConn }

func newPeeker(c net.Conn) peeker {
	if sc, ok := c.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			return peeker{raw}
		}
	}
	return peeker{}
}

// quiet tells whether the other end has neither closed the connection nor sent anything. It never waits, and takes no
// notice of deadlines, since that of the last request may have passed. Without a socket to look at the answer is yes.
func (p peeker) quiet() bool {
	if p.raw == nil {
		return true
	}
	nothing := false
	err := p.raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, e := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		nothing = errors.Is(e, syscall.EAGAIN)
	})
	return err == nil && nothing
}
