//go:build unix

package upstream

import (
	"errors"
	"syscall"
	"time"
)

// alive tells whether a connection that rested can carry a request: the target hasn't closed it and hasn't sent anything.
// It looks without reading (MSG_PEEK) and never waits. The deadline of the last request must not stop it.
func (c *conn) alive() bool {
	if c.SetDeadline(time.Time{}) != nil {
		return false
	}
	sc, ok := c.raw.(syscall.Conn)
	if !ok {
		return true
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	var b [1]byte
	err = rc.Read(func(fd uintptr) bool {
		_, _, e := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = errors.Is(e, syscall.EAGAIN)
		return true
	})
	return err == nil && quiet
}
