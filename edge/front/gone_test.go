package front_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/node/nodetest"
)

// A client that goes away while its response is under way ends it, whoever reads its connection at that moment: an
// upload that goes on behind the response's head, or the reader of a socket that the upstream has refused with a
// response that streams.
func TestClientThatGoesAwayEndsItsResponse(t *testing.T) {
	for name, text := range map[string]string{
		"upload": "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\nabc",
		"socket": "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
				_ = http.NewResponseController(w).EnableFullDuplex()
				_, _ = io.WriteString(w, "hello")
				w.(http.Flusher).Flush()
				select {
				case <-req.Context().Done():
				case <-release:
				}
			})
			t.Cleanup(func() { close(release) })
			c, err := net.Dial("tcp", r.Address)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			_, _ = fmt.Fprint(c, text)
			if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != 200 {
				t.Fatal(resp, err)
			}
			_ = c.Close()
			nodetest.Eventually(t, "the gateway has noticed", func() bool { return r.Conn.Streams() == 0 })
		})
	}
}
