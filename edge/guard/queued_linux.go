package guard

import (
	"net"

	"golang.org/x/sys/unix"
)

// queued returns how many bytes written to a connection its other end hasn't acknowledged; 0 if that isn't known.
func queued(c *net.TCPConn) int64 {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	var n int
	if raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }) != nil || err != nil {
		return 0
	}
	return int64(n)
}
