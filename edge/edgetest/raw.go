package edgetest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// RequestHead writes a request's head, with header fields in turn.
func RequestHead(method, path string, header []string) string {
	var b strings.Builder
	b.WriteString(method + " " + path + " HTTP/1.1\r\nHost: example.test\r\n")
	for i := 0; i < len(header); i += 2 {
		b.WriteString(header[i] + ": " + header[i+1] + "\r\n")
	}
	return b.String() + "\r\n"
}

// Dial connects, for 20 s at most.
func (r *Rig) Dial(tb testing.TB) net.Conn {
	tb.Helper()
	c, err := (&net.Dialer{}).DialContext(tb.Context(), "tcp", r.Address)
	if err != nil {
		tb.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// SendRaw sends bytes as they are on a connection, and gives what the server sends on it until it closes it. A reset is
// an error.
func (r *Rig) SendRaw(tb testing.TB, text string) string {
	tb.Helper()
	c := r.Dial(tb)
	defer func() { _ = c.Close() }()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.WriteString(c, text) // the server may not want all of it
	}()
	<-sent
	got, err := io.ReadAll(c)
	if err != nil {
		tb.Errorf("%.60q: after %d bytes: %v", text, len(got), err)
	}
	return string(got)
}

// Raw sends bytes as they are and reads one response.
func (r *Rig) Raw(tb testing.TB, request string) (*http.Response, string) {
	tb.Helper()
	c := r.Dial(tb)
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		tb.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		tb.Fatalf("%q: %v", request, err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp, string(b)
}
