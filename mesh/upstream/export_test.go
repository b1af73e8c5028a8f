package upstream

import (
	"bytes"
	"io"
	"net"
	"time"

	"millrace/mesh"
)

// ReadResponse reads a response from bytes, as if a target had sent them and closed the connection.
func ReadResponse(answer []byte, method string) (*mesh.Response, error) {
	p, err := newPool("http://127.0.0.1:1", time.Second, time.Now)
	if err != nil {
		return nil, err
	}
	x := &exchange{t: &target{pool: p}, c: newConn(&replay{Reader: bytes.NewReader(answer)}, nil), req: &mesh.Request{Method: method}, stop: func() bool { return true }}
	resp, err := x.run(time.Minute)
	if err != nil || resp.Stream == nil {
		x.end(false)
		return resp, err
	}
	resp.Body, err = io.ReadAll(mesh.NewReader(resp.Stream))
	return resp, err
}

// replay is a connection that only reads.
type replay struct {
	*bytes.Reader
	net.Conn
}

func (r *replay) Read(p []byte) (int, error)  { return r.Reader.Read(p) }
func (r *replay) Close() error                { return nil }
func (r *replay) Write(p []byte) (int, error) { return len(p), nil }
func (r *replay) SetDeadline(time.Time) error { return nil }

// ShareAfter is the share of a target that returned so long ago.
func ShareAfter(weight int64, since, slowStart time.Duration) int {
	now := time.Now()
	t := &target{now: func() time.Time { return now }}
	t.weight.Store(weight)
	t.returned.Store(now.Add(-since).UnixNano())
	return t.share(slowStart)
}
