//go:build !linux

package guard

import "net"

// queued returns 0: on this system it isn't known how many bytes aren't acknowledged.
func queued(*net.TCPConn) int64 { return 0 }
