package front_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// spoken is an edge before an upstream that answers each request with the text that its path leads to.
func spoken(t *testing.T, change func(*node.Edge), answers map[string]string) *edgetest.Rig {
	t.Helper()
	return before(t, change, func(c net.Conn) {
		if req, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			_, _ = io.WriteString(c, answers[req.URL.Path])
		}
	})
}

// The client gets the reason phrase of the origin, and never one that says that the status is unknown.
func TestReasonPhraseIsTheOrigins(t *testing.T) {
	stream := "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"
	paths, want := map[string]string{}, map[string]string{}
	add := func(path, line, expected string) {
		paths["/"+path] = line + "\r\nContent-Length: 2\r\n\r\nok"
		paths["/stream-"+path] = line + "\r\n" + stream // whose end comes later, with the connection's
		want["/"+path], want["/stream-"+path] = expected, expected
	}
	add("ok", "HTTP/1.1 200 OK", "200 OK")
	add("own", "HTTP/1.1 200 All is well", "200 All is well")
	add("unknown", "HTTP/1.1 599 Custom", "599 Custom")
	add("unknown-bare", "HTTP/1.1 599", "599")
	add("unknown-empty", "HTTP/1.1 299 ", "299")
	add("client", "HTTP/1.1 499", "499")
	add("teapot", "HTTP/1.1 418", "418 I'm a teapot")
	add("latin", "HTTP/1.1 404 Nicht gefund\xe9n", "404 Nicht gefund\xe9n")
	add("control", "HTTP/1.1 404 a\x01b", "404 Not Found")
	add("return", "HTTP/1.1 404 a\rSet-Cookie: a=b", "404 Not Found")
	add("long", "HTTP/1.1 404 "+strings.Repeat("x", 2000), "404 Not Found")
	r := spoken(t, nil, paths)
	for path, expected := range want {
		for _, version := range []string{"1.1", "1.0"} {
			got := firstLine(t, r.Address, fmt.Sprintf("GET %s HTTP/%s\r\nHost: h\r\nConnection: close\r\n\r\n", path,
				version))
			if want := "HTTP/1.1 " + expected; strings.TrimRight(got, " ") != want || len(got) < len("HTTP/1.1 200 ") {
				t.Errorf("%s, HTTP/%s: %q, want %q", path, version, got, want)
			}
		}
	}
}

// firstLine sends a request and gives the first line of what comes back.
func firstLine(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(line, "\r\n")
}

// The reason of a member passes too; one that could break out of its line doesn't.
func TestReasonOfAMemberStaysInItsLine(t *testing.T) {
	to := edgetest.Route("", "/*")
	to.To.Name = "says"
	r := edgetest.Start(t, edgetest.Routed(to))
	reason := map[string]string{"/own": "Fine", "/none": "", "/split": "a\r\nSet-Cookie: a=b"}
	r.Service(t, "says", func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		return &mesh.Response{Status: 202, Reason: reason[q.Target]}, nil
	})
	for path, want := range map[string]string{"/own": "Fine", "/none": "Accepted", "/split": "Accepted"} {
		if got := firstLine(t, r.Address, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"); got != "HTTP/1.1 202 "+want {
			t.Errorf("%s: %q", path, got)
		}
	}
}
