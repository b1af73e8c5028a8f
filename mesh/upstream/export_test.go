package upstream

import (
	"bytes"
	"net"
	"time"

	"millrace/mesh"
)

// ReadResponse reads a response from bytes, as if a target had sent them and closed the connection.
func ReadResponse(answer []byte, method string) (*mesh.Response, error) {
	c := newConn(&replay{Reader: bytes.NewReader(answer)}, nil)
	resp, _, err := c.response(method)
	return resp, err
}

// replay is a connection that only reads.
type replay struct {
	*bytes.Reader
	net.Conn
}

func (r *replay) Read(p []byte) (int, error)  { return r.Reader.Read(p) }
func (r *replay) Write(p []byte) (int, error) { return len(p), nil }
func (r *replay) SetDeadline(time.Time) error { return nil }
