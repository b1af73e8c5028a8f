package admin_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"millrace/edge/admin"
)

// send opens a connection, writes a request as it is, and leaves the connection open until the test ends.
func send(t *testing.T, s *admin.Server, request string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return c
}

// answer reads one response of a connection.
func answer(t *testing.T, c net.Conn) *http.Response {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return resp
}

// ended fails the test unless the server closes the connection.
func ended(t *testing.T, what string, c net.Conn) {
	t.Helper()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: the connection is still open", what)
	}
}

// An unauthorized request can't hold its connection: the answer doesn't wait for the body, and ends the connection.
func TestRefusalDoesNotWaitForBody(t *testing.T) {
	s := start(t, token, func(s *admin.Server) { s.SetBodyTimeout(100 * time.Millisecond) })
	const unfinished = " HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\nbegin"
	const bearer = " HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token
	const chunked = " HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
	large := strings.Repeat(" ", 70000)
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"no token":            {"POST /v1/reload" + unfinished, 401},
		"no token, chunked":   {"POST /v1/purge" + chunked + "5\r\nbegin\r\n", 401},
		"no token, a GET":     {"GET /v1/status" + unfinished, 401},
		"a wrong token":       {"POST /v1/reload" + bearer + "x\r\nContent-Length: 9\r\n\r\n", 401},
		"no such path":        {"POST /none" + unfinished, 401},
		"a probe with a body": {"GET /healthz" + unfinished, 413},
		"a late body":         {"POST /v1/purge" + bearer + "\r\nContent-Length: 9\r\n\r\nbegin", 408},
		"a late body, reload": {"POST /v1/reload" + bearer + "\r\nContent-Length: 9\r\n\r\n", 408},
		"a large body":        {"POST /v1/purge" + bearer + "\r\nContent-Length: 70000\r\n\r\n" + large, 413},
		"a malformed body":    {"POST /v1/purge" + bearer + "\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400},
	} {
		conn := send(t, s, c.request)
		if resp := answer(t, conn); resp.StatusCode != c.status || !resp.Close {
			t.Errorf("%s: answered %d, close %t, want %d and the end", name, resp.StatusCode, resp.Close, c.status)
		}
		ended(t, name, conn)
	}
}

// A body that arrives in time is read, and its deadline doesn't apply to what follows: a tail runs for longer than a
// body may take.
func TestWholeBodyIsTakenWithoutLaterDeadline(t *testing.T) {
	s := start(t, token, func(s *admin.Server) { s.SetBodyTimeout(100 * time.Millisecond) })
	const bearer = "\r\nHost: a\r\nAuthorization: Bearer " + token
	conn := send(t, s, "POST /v1/purge HTTP/1.1"+bearer+"\r\nContent-Length: 13\r\n\r\n{\"all\": true}")
	if resp := answer(t, conn); resp.StatusCode != http.StatusOK || resp.Close {
		t.Errorf("a purge was answered %d, close %t", resp.StatusCode, resp.Close)
	}
	tail := send(t, s, "GET /v1/tail HTTP/1.1"+bearer+"\r\nContent-Length: 2\r\n\r\n{}")
	if err := tail.SetDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, tail); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a tail with a body ended before its reader did: %v", err)
	}
}

// Unauthorized connections are bounded and never lock the operator out: neither a new request nor one that runs.
func TestBoundedConnectionsLeaveTheOperatorIn(t *testing.T) {
	s := start(t, token, nil)
	ask := "GET /v1/status HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + token + "\r\n\r\n"
	tail := send(t, s, "GET /v1/tail HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer "+token+"\r\n\r\n")
	events := bufio.NewReader(tail)
	if resp, err := http.ReadResponse(events, nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("tail: %v", err)
	}
	var held []net.Conn
	for range admin.MaxConnections + 50 {
		c := send(t, s, "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
		answer(t, c)
		held = append(held, c)
	}
	for i, c := range held[:50] {
		ended(t, "connection "+string(rune('0'+i%10)), c)
	}
	if resp := answer(t, send(t, s, ask)); resp.StatusCode != http.StatusOK {
		t.Errorf("the operator was answered %d", resp.StatusCode)
	}
	if err := tail.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, events); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the operator's tail ended: %v", err)
	}
}

// No web page of another site gets an answer, whichever fields its browser sends, nor one whose name resolves to this
// machine.
func TestOtherSitesAreRefused(t *testing.T) {
	guarded, open := start(t, token, nil), start(t, "", nil)
	const own, bearer = "127.0.0.1:8081", "Authorization: Bearer " + token
	for name, c := range map[string]struct {
		s         *admin.Server
		ask, host string
		fields    string
		status    int
	}{
		"the operator":                   {open, "GET /v1/status", own, "", 200},
		"its own page":                   {open, "GET /v1/status", own, "Sec-Fetch-Site: same-origin", 200},
		"its own page, an older browser": {open, "POST /v1/reload", own, "Origin: http://" + own, 200},
		"typed":                          {open, "GET /metrics", own, "Sec-Fetch-Site: none", 200},
		"another site reads":             {open, "GET /v1/tail", own, "Sec-Fetch-Site: cross-site", 403},
		"another port reads":             {open, "GET /v1/status", own, "Sec-Fetch-Site: same-site", 403},
		"another site writes":            {open, "POST /v1/reload", own, "Sec-Fetch-Site: cross-site", 403},
		"another site, an older browser": {open, "GET /v1/status", own, "Origin: http://127.0.0.1:3000", 403},
		"a page without an origin":       {open, "GET /v1/status", own, "Origin: null", 403},
		"another site, with the token": {
			guarded, "GET /v1/status", "a",
			bearer + "\r\nSec-Fetch-Site: cross-site", 403,
		},
		"another site asks a probe": {open, "GET /readyz", own, "Sec-Fetch-Site: cross-site", 403},
		"a name that resolves here": {open, "GET /v1/status", "evil.example", "", 421},
		"a name that resolves here, a page": {
			open, "GET /readyz", "evil.example", "Sec-Fetch-Site: same-origin",
			421,
		},
		"a probe by name":                     {open, "GET /readyz", "gateway.internal", "", 200},
		"by name, with the token":             {guarded, "GET /v1/status", "gateway.internal", bearer, 200},
		"by name, without the token":          {guarded, "GET /v1/status", "gateway.internal", "", 401},
		"no such path, without the token":     {guarded, "GET /favicon.ico", "a", "", 401},
		"no such path, with nothing to guard": {open, "GET /favicon.ico", own, "", 404},
	} {
		head := c.ask + " HTTP/1.1\r\nHost: " + c.host + "\r\n"
		if c.fields != "" {
			head += c.fields + "\r\n"
		}
		resp := answer(t, send(t, c.s, head+"\r\n"))
		if resp.StatusCode != c.status {
			t.Errorf("%s: answered %d, want %d", name, resp.StatusCode, c.status)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: a browser may guess the type: %v", name, resp.Header)
		}
	}
}
