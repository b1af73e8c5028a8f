package front_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// What other servers take is taken, or refused with the status that says why, and what can't be trusted ends its
// connection.
func TestRefusalEndsAConnectionThatCanNotBeTrusted(t *testing.T) {
	r := edgetest.Start(t, edgetest.Routed(edgetest.EchoRoute("/*")))
	const post = "POST /x HTTP/1.1\r\nHost: h\r\n"
	signed := ";chunk-signature=" + strings.Repeat("a", 64)
	for name, c := range map[string]struct {
		request string
		status  int
		closes  bool
		body    string // what the target got, or a part of the problem
	}{
		"options of the node":     {"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 204, false, ""},
		"asterisk with GET":       {"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400, true, "target"},
		"two equal lengths":       {post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 200, false, "abc"},
		"equal lengths in a list": {post + "Content-Length: 3, 3\r\n\r\nabc", 400, true, "length"},
		"two different lengths": {
			post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, true,
			"length",
		},
		"different lengths in a list": {post + "Content-Length: 3, 4\r\n\r\nabcd", 400, true, "length"},
		"a list of nothing":           {post + "Content-Length: 3,\r\n\r\nabc", 400, true, "length"},
		"two empty lines":             {"\r\n\r\nGET /x HTTP/1.1\r\nHost: h\r\n\r\n", 200, false, ""},
		"twenty empty lines": {
			strings.Repeat("\r\n", 20) + "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", 400, true,
			"line",
		},
		"HTTP/1.2":  {"GET /x HTTP/1.2\r\nHost: h\r\n\r\n", 200, false, ""},
		"HTTP/1.9":  {"GET /x HTTP/1.9\r\nHost: h\r\n\r\n", 200, false, ""},
		"HTTP/1.10": {"GET /x HTTP/1.10\r\nHost: h\r\n\r\n", 400, true, "HTTP/1"},
		"HTTP/3.1":  {"GET /x HTTP/3.1\r\nHost: h\r\n\r\n", 400, true, "HTTP/1"},
		"connect":   {"CONNECT b.test:80 HTTP/1.1\r\nHost: b.test:80\r\n\r\n", 405, true, "method"},
		"trace":     {"TRACE /x HTTP/1.1\r\nHost: h\r\n\r\n", 405, true, "method"},
		"gzip, chunked": {
			post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, true,
			"coding",
		},
		"gzip": {post + "Transfer-Encoding: gzip\r\n\r\n", 400, true, "length"},
		"chunked twice": {
			post + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400, true,
			"length",
		},
		"a host that isn't one": {"GET /x HTTP/1.1\r\nHost: a b\r\n\r\n", 400, true, "Host"},
		"two hosts":             {"GET /x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, true, "Host"},
		"no host":               {"GET /x HTTP/1.1\r\n\r\n", 400, true, "Host"},
		"a path that climbs":    {"GET /../x HTTP/1.1\r\nHost: h\r\n\r\n", 400, true, "target"},
		"an encoded slash":      {"GET /a%2fb HTTP/1.1\r\nHost: h\r\n\r\n", 400, false, "encoded_slash: keep"},
		"200 signed chunks": {
			post + "Transfer-Encoding: chunked\r\n\r\n" +
				strings.Repeat("400"+signed+"\r\n"+strings.Repeat("x", 1024)+"\r\n", 200) + "0" + signed + "\r\n\r\n",
			200, false, strings.Repeat("x", 200<<10),
		},
		"extensions that outweigh what they surround": {
			post + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1"+signed+"\r\nx\r\n", 400) + "0\r\n\r\n",
			400, true, "chunked",
		},
	} {
		t.Run(name, func(t *testing.T) {
			resp, body := r.Raw(t, c.request)
			if resp.StatusCode != c.status || !strings.Contains(body, c.body) {
				t.Errorf("got %d %.200s", resp.StatusCode, body)
			}
			if resp.Close != c.closes {
				t.Errorf("the connection ends: %t", resp.Close)
			}
			if (c.status == 405 || c.status == 204) && !strings.Contains(resp.Header.Get("Allow"), "GET") {
				t.Errorf("Allow is %q", resp.Header.Get("Allow"))
			}
		})
	}
}

// A 205 has no content, whoever answers with some, in one message or as a stream (RFC 9110 §15.3.6).
func TestResetContentHasNoContent(t *testing.T) {
	r := edgetest.Start(t, edgetest.Config{})
	r.StreamService(t, "reset", func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		if strings.HasPrefix(q.Target, "/stream") {
			return &mesh.Response{
				Status: 205, Stream: mesh.NewBody(io.NopCloser(strings.NewReader("content"))),
				Length: -1,
			}, nil
		}
		if q.Target == "/none" {
			return &mesh.Response{Status: 205, Header: edgetest.Fields("ETag", `"v"`)}, nil
		}
		return &mesh.Response{
			Status: 205,
			Header: edgetest.Fields("Content-Type", "text/plain"),
			Body:   []byte("content"),
		}, nil
	})
	to := edgetest.Route("reset", "/*")
	to.To.Name = "reset"
	fixed := edgetest.Route("fixed", "/fixed", func(n *node.Route) {
		n.To, n.Respond = node.Target{}, &node.Respond{Status: 205, Body: "content"}
	})
	r.SetRoutes(node.Default().Edge, []node.Route{to, fixed})
	for _, path := range []string{"/whole", "/stream", "/fixed", "/none"} {
		c, err := net.Dial("tcp", r.Address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		from := bufio.NewReader(c)
		for range 2 { // the second would be read out of the first one's content
			_, _ = io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n")
			resp, err := http.ReadResponse(from, nil)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			body, _ := io.ReadAll(resp.Body)
			if path == "/none" && resp.Header.Get("ETag") != `"v"` {
				t.Errorf("%s: fields of a 205 without content are lost: %v", path, resp.Header)
			}
			if resp.StatusCode != 205 || len(body) > 0 || resp.Header.Get("Content-Length") != "0" ||
				len(resp.TransferEncoding) > 0 {
				t.Errorf("%s: %d %q, %v", path, resp.StatusCode, body, resp.Header)
			}
		}
		_ = c.Close()
	}
}

// A request of HTTP/1.0 without Host reaches the target with the target's own authority, as any client of it would send
// (RFC 9112 §3.2).
func TestHTTP10WithoutHostGetsTheTargetsAuthority(t *testing.T) {
	hosts := make(chan [2]string, 1)
	r := edgetest.StartProxy(t, nil, func(_ http.ResponseWriter, req *http.Request) {
		own := req.Context().Value(http.LocalAddrContextKey).(net.Addr)
		hosts <- [2]string{req.Host, own.String()}
	})
	resp, _ := r.Raw(t, "GET /x HTTP/1.0\r\n\r\n")
	if got := <-hosts; resp.StatusCode != 200 || got[0] != got[1] {
		t.Errorf("%d, the target %s got the host %q", resp.StatusCode, got[1], got[0])
	}
}

// A length of a WebSocket frame is written in as few bytes as it takes, and has 63 bits (RFC 6455 §5.2).
func TestSocketLengthsAreMinimal(t *testing.T) {
	r := sockets(t)
	mask := "\x01\x02\x03\x04"
	for name, frame := range map[string]string{
		"5 in two bytes":      "\x82\xfe\x00\x05" + mask + "abcde",
		"5 in eight bytes":    "\x82\xff\x00\x00\x00\x00\x00\x00\x00\x05" + mask + "abcde",
		"300 in eight bytes":  "\x82\xff\x00\x00\x00\x00\x00\x00\x01\x2c" + mask + strings.Repeat("x", 300),
		"64 bits":             "\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00" + mask,
		"a ping in two bytes": "\x89\xfe\x00\x01" + mask + "a",
	} {
		conn := dialSocket(t, "ws://"+r.Address+"/service/x")
		_, _ = io.WriteString(conn, frame)
		if code := closed(t, conn); code != ws.StatusProtocolError {
			t.Errorf("%s: close code %d", name, code)
		}
	}
	conn := dialSocket(t, "ws://"+r.Address+"/service/x")
	_ = ws.WriteFrame(conn, ws.MaskFrame(ws.NewBinaryFrame([]byte(strings.Repeat("x", 300)))))
	if f, err := readFrame(conn); err != nil || f.Header.Length != 300 {
		t.Errorf("a length that needs two bytes: %+v, %v", f.Header, err)
	}
	_ = conn.Close()
	r.WaitSettled(t)
}
