package edgetest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
)

// BodyReader reads a response's body in steps.
type BodyReader struct {
	t    *testing.T
	Conn net.Conn
	Resp *http.Response
}

// OpenBody asks for a path and reads the head of the response.
func (r *Rig) OpenBody(t *testing.T, path string, header ...string) *BodyReader {
	t.Helper()
	c := r.Dial(t)
	t.Cleanup(func() { _ = c.Close() })
	if _, err := io.WriteString(c, RequestHead("GET", path, header)); err != nil {
		t.Fatal(err)
	}
	out := &BodyReader{t: t, Conn: c}
	out.Resp, _ = http.ReadResponse(bufio.NewReader(c), nil) //nolint:bodyclose // the connection is closed
	if out.Resp == nil {
		t.Fatal("no response")
	}
	return out
}

// Want checks that the text comes next.
func (r *BodyReader) Want(text string) {
	r.t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(r.Resp.Body, b); err != nil || string(b) != text {
		r.t.Errorf("read %q, %v, want %q", Shorten(string(b)), err, Shorten(text))
	}
}

// WantEnd checks that nothing more comes, and that the body is complete.
func (r *BodyReader) WantEnd() {
	r.t.Helper()
	if rest, err := io.ReadAll(r.Resp.Body); err != nil || len(rest) > 0 {
		r.t.Errorf("after the end: %q, %v", Shorten(string(rest)), err)
	}
}
