package front_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"millrace/edge/edgetest"
	"millrace/node"
	"millrace/node/nodetest"
)

// upgrades is an edge whose route /up/* lets spdy/3.1 and tcp pass, and /no/* nothing. Its upstream echoes what comes
// on a connection that it has switched; what it saw of the request stands in X-Saw.
func upgrades(t *testing.T) *edgetest.Rig {
	t.Helper()
	r := byHand(t, func(head string, c net.Conn, in *bufio.Reader) {
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
		if err != nil {
			t.Error(err)
			return
		}
		body := make([]byte, max(req.ContentLength, 0))
		_, _ = io.ReadFull(in, body)
		saw := fmt.Sprintf("%s %s|%s|%s", req.Method, req.Header.Get("Upgrade"), req.Header.Get("Connection"), body)
		switch {
		case req.URL.Path == "/up/refused" || req.Header.Get("Upgrade") == "":
			_, _ = fmt.Fprintf(c, "HTTP/1.1 403 No\r\nContent-Length: 2\r\nX-Saw: %s\r\n\r\nno", saw)
		case req.URL.Path == "/up/other":
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		case req.URL.Path == "/up/unsaid":
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
		default:
			_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n"+
				"X-Saw: %s\r\n\r\nhello", req.Header.Get("Upgrade"), saw)
			_, _ = io.Copy(c, in)
		}
	})
	up, no := edgetest.Route("up", "/up/*"), edgetest.Route("no", "/no/*")
	up.To, no.To = node.Target{Kind: node.KindUpstream, Name: "app"}, node.Target{Kind: node.KindUpstream, Name: "app"}
	up.Upgrade = node.Protocols{"spdy/3.1", "tcp"}
	r.SetRoutes(node.Default().Edge, []node.Route{up, no})
	return r
}

// switching sends a request and reads the head of the answer.
func switching(t *testing.T, r *edgetest.Rig, request string) (*http.Response, net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", r.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("%q: %v", request, err)
	}
	return resp, c, in
}

// A client may switch its connection to a protocol that the route lists: then bytes pass both ways, whatever they are.
func TestListedUpgradePassesBytes(t *testing.T) {
	r := upgrades(t)
	for request, saw := range map[string]string{
		"GET /up/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n" +
			"Upgrade: SPDY/3.1\r\n\r\n": "GET SPDY/3.1|Upgrade|",
		"POST /up/a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: keep-alive, upgrade\r\n" +
			"Upgrade: tcp\r\n\r\n": "POST tcp|Upgrade|",
		"POST /up/a HTTP/1.1\r\nHost: h\r\nContent-Length: 7\r\nConnection: upgrade\r\nUpgrade: tcp\r\n\r\n" +
			"{\"a\":1}": "POST tcp|Upgrade|{\"a\":1}",
		"GET /up/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n" +
			"Upgrade: irc/6.9, spdy/3.1, tcp\r\n\r\n": "GET spdy/3.1|Upgrade|",
	} {
		resp, c, in := switching(t, r, request)
		h := resp.Header
		if resp.StatusCode != http.StatusSwitchingProtocols || h.Get("X-Saw") != saw ||
			h.Get("Connection") != "Upgrade" ||
			h.Get("Upgrade") != strings.Fields(strings.ReplaceAll(saw, "|", " "))[1] {
			t.Fatalf("%q: got %d %q", request, resp.StatusCode, h)
		}
		sent := append([]byte("\x81\x05abcde\x88\x00"), bytes.Repeat([]byte{0x88, 0xff, 0x7f}, 100_000)...)
		go func() {
			_, _ = c.Write(sent)
			_ = c.(*net.TCPConn).CloseWrite()
		}()
		if got, err := io.ReadAll(in); err != nil || string(got) != "hello"+string(sent) {
			t.Errorf("%q: %d bytes of %d came back, %v", request, len(got), len(sent)+5, err)
		}
		_ = c.Close()
	}
	r.WaitSettled(t)
}

// What a route doesn't list, or can't be switched, is an ordinary request.
func TestOtherUpgradeIsAnOrdinaryRequest(t *testing.T) {
	r := upgrades(t)
	for name, tc := range map[string]struct{ request, saw string }{
		"not of the route": {
			"GET /no/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\n\r\n",
			"GET ||",
		},
		"not listed": {"GET /up/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n" +
			"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "GET ||"},
		"not announced": {"GET /up/a HTTP/1.1\r\nHost: h\r\nUpgrade: spdy/3.1\r\n\r\n", "GET ||"},
		"HTTP/1.0": {
			"GET /up/a HTTP/1.0\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\n\r\n",
			"GET ||",
		},
		"chunked": {"POST /up/a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nConnection: Upgrade\r\n" +
			"Upgrade: tcp\r\n\r\n0\r\n\r\n", "POST ||"},
		"refused": {
			"GET /up/refused HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
			"GET tcp|Upgrade|",
		},
	} {
		resp, c, _ := switching(t, r, tc.request)
		if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden || string(body) != "no" ||
			resp.Header.Get("X-Saw") != tc.saw {
			t.Errorf("%s: got %d %q, %q", name, resp.StatusCode, body, resp.Header)
		}
		_ = c.Close()
	}
	for _, path := range []string{"other", "unsaid"} {
		resp, c, _ := switching(t, r,
			"GET /up/"+path+" HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\n\r\n")
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("switched to another protocol (%s): got %d %q", path, resp.StatusCode, resp.Header)
		}
		_ = c.Close()
	}
	r.WaitSettled(t)
}

// A connection that was switched counts as a socket: one on which nothing moves is ended, and one of a node that goes
// away, without bytes that neither side has written.
func TestUpgradedConnectionEndsAsASocket(t *testing.T) {
	const request = "GET /up/a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: spdy/3.1\r\n\r\n"
	for name, end := range map[string]func(r *edgetest.Rig){
		"goes away": func(r *edgetest.Rig) {
			if err := r.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"idle": func(r *edgetest.Rig) { r.Conn.SetStreamIdle(time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			r := upgrades(t)
			_, _, in := switching(t, r, request)
			got := make([]byte, 5)
			if _, err := io.ReadFull(in, got); err != nil || string(got) != "hello" {
				t.Fatalf("got %q, %v", got, err)
			}
			end(r)
			if more, _ := io.ReadAll(in); len(more) > 0 {
				t.Errorf("%q was written into the stream", more)
			}
			nodetest.Eventually(t, "no stream is left", func() bool { return r.Conn.Streams() == 0 })
		})
	}
}

// The same route serves WebSockets as ever.
func TestRouteWithUpgradesServesWebSockets(t *testing.T) {
	r := sockets(t)
	up := edgetest.Route("up", "/up/*")
	up.To, up.Upgrade = node.Target{Kind: node.KindUpstream, Name: "app"}, node.Protocols{"spdy/3.1"}
	r.SetRoutes(node.Default().Edge, []node.Route{up})
	c := dialSocket(t, "ws://"+r.Address+"/up/x")
	if err := ws.WriteFrame(c, ws.MaskFrame(ws.NewTextFrame([]byte("hi")))); err != nil {
		t.Fatal(err)
	}
	if f, err := readFrame(c); err != nil || string(f.Payload) != "hi" {
		t.Errorf("got %+v, %v", f, err)
	}
}
