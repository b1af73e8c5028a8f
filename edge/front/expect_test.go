package front_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
	"millrace/node/nodetest"
)

// before is an edge whose routes lead to an upstream of which each connection is served so.
func before(t *testing.T, change func(*node.Edge), serving func(net.Conn)) *edgetest.Rig {
	t.Helper()
	url := "http://" + nodetest.Serve(t, serving)
	all := edgetest.ProxyRoute("/*")
	r := edgetest.Start(t, edgetest.Config{Edge: change, Routes: []node.Route{all}})
	r.Upstream(t, url)
	return r
}

// byHand is an edge before an upstream whose connections, once a head has come, are handled by hand: with the head, the
// connection, and what follows on it.
func byHand(t *testing.T, handle func(head string, c net.Conn, in *bufio.Reader)) *edgetest.Rig {
	t.Helper()
	return before(t, nil, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		in := bufio.NewReader(c)
		var head strings.Builder
		for {
			line, err := in.ReadString('\n')
			if head.WriteString(line); err != nil {
				return
			}
			if line == "\r\n" {
				break
			}
		}
		handle(head.String(), c, in)
	})
}

// expecting sends the head of an upload that waits for 100 Continue.
func expecting(t *testing.T, r *edgetest.Rig, path string, length int) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = fmt.Fprintf(c, "PUT %s HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", path,
		length)
	return c, bufio.NewReader(c)
}

// What the origin says to a client that waits for 100 Continue reaches it before it has sent anything: a refusal, or
// the 100.
func TestExpectReachesTheOrigin(t *testing.T) {
	const size = 700_000
	r := byHand(t, func(head string, c net.Conn, in *bufio.Reader) {
		if !strings.Contains(head, "\r\nExpect: 100-continue\r\n") {
			_, _ = io.WriteString(c, "HTTP/1.1 500 No Expectation\r\nContent-Length: 0\r\n\r\n")
			return
		}
		switch path := strings.Fields(head)[1]; path {
		case "/417", "/403", "/200":
			_, _ = fmt.Fprintf(c, "HTTP/1.1 %s Early\r\nContent-Length: 2\r\n\r\nno", path[1:])
			if n, _ := io.Copy(io.Discard, in); n > 0 {
				t.Errorf("%s: %d bytes of the body came", path, n)
			}
		case "/continue":
			_, _ = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
			fallthrough
		case "/silent":
			n, _ := io.CopyN(io.Discard, in, size)
			_, _ = fmt.Fprintf(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\nX-Got: %d\r\n\r\n", n)
		}
	})
	for _, status := range []int{417, 403, 200} {
		c, in := expecting(t, r, fmt.Sprint("/", status), size)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != status {
			t.Fatalf("%d: got %+v, %v", status, resp, err)
		}
		if body, err := io.ReadAll(resp.Body); string(body) != "no" || err != nil || !resp.Close {
			t.Errorf("%d: got %q, %v; close is %t", status, body, err, resp.Close)
		}
		_ = resp.Body.Close()
		_ = c.Close()
	}
	for path, interim := range map[string]int{"/continue": 2, "/silent": 1} {
		c, in := expecting(t, r, path, size)
		var got []string
		for range interim { // in any order
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			got = append(got, strings.TrimSpace(line))
			if line, err := in.ReadString('\n'); err != nil || line != "\r\n" {
				t.Fatalf("%s: got %q, %v", path, line, err)
			}
		}
		if !slices.Contains(got, "HTTP/1.1 100 Continue") ||
			(interim == 2 && !slices.Contains(got, "HTTP/1.1 103 Early Hints")) {
			t.Errorf("%s: got %q", path, got)
		}
		_, _ = c.Write(make([]byte, size))
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusCreated || resp.Header.Get("X-Got") != strconv.Itoa(size) {
			t.Errorf("%s: got %+v, %v", path, resp, err)
		} else {
			_ = resp.Body.Close()
		}
		_ = c.Close()
	}
	r.WaitSettled(t)
}

// A member that answers without having read says by that that the client needn't send.
func TestExpectReachesMembers(t *testing.T) {
	to := edgetest.Route("", "/*")
	to.To.Name = "members"
	r := edgetest.Start(t, edgetest.Routed(to))
	r.StreamService(t, "members", func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		if !q.Expect || q.Header.Has("Expect") {
			return &mesh.Response{Status: 500}, nil
		}
		if q.Target == "/no" {
			return &mesh.Response{Status: 403}, nil
		}
		n, err := io.Copy(io.Discard, mesh.NewReader(q.Stream))
		return &mesh.Response{Status: 201, Body: fmt.Append(nil, n)}, err
	})
	_, in := expecting(t, r, "/no", 700_000)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 403") {
		t.Errorf("got %q, %v", line, err)
	}
	c, in := expecting(t, r, "/yes", 700_000)
	if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Errorf("got %q, %v", line, err)
	}
	_, _ = in.ReadString('\n')
	_, _ = c.Write(make([]byte, 700_000))
	resp, err := http.ReadResponse(in, nil)
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("got %+v, %v", resp, err)
	}
	if body, err := io.ReadAll(resp.Body); string(body) != "700000" || err != nil {
		t.Errorf("the member got %q bytes, %v", body, err)
	}
	_ = resp.Body.Close()
	r.WaitSettled(t)
}
