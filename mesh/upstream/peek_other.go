//go:build !unix

package upstream

import "net"

// peeker can't inspect sockets on this system. Connections are assumed to be usable.
type peeker struct{ raw any }

func newPeeker(net.Conn) *peeker { return &peeker{} }

func (*peeker) quiet() bool { return true }

func (*peeker) writeAndRead([]byte, []byte) (written, read int, err error) { return 0, 0, nil }
