//go:build !linux

package guard

import (
	"net"
	"os"
)

// fileWriter does nothing: on this system files are copied.
type fileWriter struct{}

// open returns false.
func (*fileWriter) open(net.Conn) bool { return false }

func (*Conn) sendFile(head []byte, _ *os.File, _, _ int64) (left []byte, done int64, err error) {
	return head, 0, nil
}
