//go:build !unix

package upstream

import "net"

// peeker can't look on this system: connections are believed to stand.
type peeker struct{ raw any }

func newPeeker(net.Conn) *peeker { return &peeker{} }

func (*peeker) quiet() bool { return true }

func (*peeker) ask([]byte, []byte) (written, read int, err error) { return 0, 0, nil }
