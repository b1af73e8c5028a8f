package front_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"millrace/edge/edgetest"
	"millrace/mesh"
	"millrace/node"
)

// sockets is an edge with an upstream that echoes frames at /up, control frames too, and a service that echoes messages
// at /service.
func sockets(t *testing.T) *edgetest.Rig {
	t.Helper()
	r := edgetest.StartProxy(t, nil, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/up/no" || req.Header.Get("Upgrade") == "" {
			http.Error(w, "no sockets here", http.StatusForbidden)
			return
		}
		c, _, _, err := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == "two" }}.Upgrade(req, w)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		for {
			f, err := readFrame(c)
			if err != nil {
				return
			}
			f = ws.UnmaskFrameInPlace(f)
			if f.Header.OpCode == ws.OpPing {
				f.Header.OpCode = ws.OpPong
			}
			if err := ws.WriteFrame(c, f); err != nil || f.Header.OpCode == ws.OpClose {
				return
			}
		}
	})
	up, inService := edgetest.Route("up", "/up/*"), edgetest.Route("sockets", "/service/*")
	up.To = node.Target{Kind: node.KindUpstream, Name: "app"}
	inService.To.Name = "sockets"
	r.SetRoutes(node.Default().Edge, []node.Route{up, inService})
	r.StreamService(t, "sockets", func(_ context.Context, q *mesh.Request) (*mesh.Response, error) {
		if q.Upgrade != mesh.UpgradeMessages || strings.HasSuffix(q.Target, "/no") {
			return &mesh.Response{Status: 403, Body: []byte("no sockets here")}, nil
		}
		return &mesh.Response{
			Status: 101, Header: edgetest.Fields("Sec-WebSocket-Protocol", "two"), Stream: q.Stream,
			Length: -1,
		}, nil
	})
	return r
}

// readFrame reads one frame; what these tests send is short.
func readFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

func dialSocket(t *testing.T, url string) net.Conn {
	t.Helper()
	d := ws.Dialer{Protocols: []string{"one", "two"}, Timeout: 10 * time.Second}
	c, rest, hs, err := d.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	if rest != nil || hs.Protocol != "two" {
		t.Errorf("subprotocol %q, %v read ahead", hs.Protocol, rest)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c
}

// Messages of both kinds and all lengths, pings, subprotocols and close codes pass, to an upstream and to a service; a
// reload doesn't end sockets.
func TestSocketsPassMessagesPingsAndCloses(t *testing.T) {
	r := sockets(t)
	for _, path := range []string{"/up/x", "/service/x"} {
		c := dialSocket(t, "ws://"+r.Address+path)
		for _, size := range []int{0, 1, 125, 126, 65_535, 65_536} {
			for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} {
				if err := wsutil.WriteClientMessage(c, op, bytes.Repeat([]byte("x"), size)); err != nil {
					t.Fatal(err)
				}
				got, gotOp, err := wsutil.ReadServerData(c)
				if err != nil || gotOp != op || len(got) != size {
					t.Fatalf("%s, %d bytes: got %d bytes of %v, %v", path, size, len(got), gotOp, err)
				}
			}
		}
		r.SetRoutes(node.Default().Edge, nil)
		if err := ws.WriteFrame(c, ws.MaskFrame(ws.NewPingFrame([]byte("hello")))); err != nil {
			t.Fatal(err)
		}
		if f, err := readFrame(c); err != nil || f.Header.OpCode != ws.OpPong || string(f.Payload) != "hello" {
			t.Errorf("%s: ping got %+v, %v", path, f, err)
		}
		fragments := ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(ws.OpText, false, []byte("ab"))))
		fragments = append(fragments,
			ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(ws.OpContinuation, true, []byte("cd"))))...)
		if _, err := c.Write(fragments); err != nil {
			t.Fatal(err)
		}
		if got, err := wsutil.ReadServerText(c); err != nil || string(got) != "abcd" {
			t.Errorf("%s: fragments came back as %q, %v", path, got, err)
		}
		if err := ws.WriteFrame(c, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(4001, "done")))); err != nil {
			t.Fatal(err)
		}
		if code := closed(t, c); code != 4001 {
			t.Errorf("%s: close code %d", path, code)
		}
		r = sockets(t)
	}
	r.WaitSettled(t)
}

// closed reads until the close frame and the end behind it, and gives its code.
func closed(t *testing.T, c net.Conn) ws.StatusCode {
	t.Helper()
	in := bufio.NewReader(c)
	for {
		f, err := readFrame(in)
		if err != nil {
			t.Fatalf("no close frame: %v", err)
		}
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("after the close frame: %v", err)
		}
		code, _ := ws.ParseCloseFrameData(f.Payload)
		return code
	}
}

// A target that doesn't want a socket answers like to any request.
func TestRefusedSocketIsAnsweredAsARequest(t *testing.T) {
	r := sockets(t)
	for _, path := range []string{"/up/no", "/service/no"} {
		_, _, _, err := ws.Dial(t.Context(), "ws://"+r.Address+path)
		var status ws.StatusError
		if !errors.As(err, &status) || int(status) != http.StatusForbidden {
			t.Errorf("%s: %v", path, err)
		}
	}
	r.WaitSettled(t)
}

// A client that breaks the protocol of a socket that ends here is told how.
func TestSocketViolationIsClosedWithItsCode(t *testing.T) {
	r := sockets(t)
	for name, c := range map[string]struct {
		frame ws.Frame
		code  ws.StatusCode
	}{
		"not masked": {ws.NewTextFrame([]byte("a")), ws.StatusProtocolError},
		"not UTF-8":  {ws.MaskFrame(ws.NewTextFrame([]byte{0xff})), ws.StatusInvalidFramePayloadData},
		"too long": {
			ws.MaskFrame(ws.NewTextFrame(bytes.Repeat([]byte("x"), mesh.MaxMessage+1))),
			ws.StatusMessageTooBig,
		},
		"continued":     {ws.MaskFrame(ws.NewFrame(ws.OpContinuation, true, nil)), ws.StatusProtocolError},
		"reserved":      {ws.MaskFrame(ws.NewFrame(3, true, nil)), ws.StatusProtocolError},
		"bad close":     {ws.MaskFrame(ws.NewCloseFrame([]byte{0})), ws.StatusProtocolError},
		"unknown close": {ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(999, ""))), ws.StatusProtocolError},
	} {
		conn := dialSocket(t, "ws://"+r.Address+"/service/x")
		_ = ws.WriteFrame(conn, c.frame)
		if code := closed(t, conn); code != c.code {
			t.Errorf("%s: close code %d, want %d", name, code, c.code)
		}
	}
	r.WaitSettled(t)
}

// Sockets end when one of their ends goes without a word.
func TestSocketEndsWithEitherEnd(t *testing.T) {
	r := sockets(t)
	for _, path := range []string{"/up/x", "/service/x"} {
		for _, reset := range []bool{false, true} {
			c := dialSocket(t, "ws://"+r.Address+path)
			if reset {
				_ = c.(*net.TCPConn).SetLinger(0)
			}
			_ = c.Close()
			r.WaitSettled(t)
		}
	}
}

// A node that goes away tells its sockets with 1001, in the middle of nothing, and doesn't wait for event streams.
func TestShutdownClosesSocketsWithGoingAway(t *testing.T) {
	r := sockets(t)
	var conns []net.Conn
	for i := range 20 {
		conns = append(conns, dialSocket(t, fmt.Sprint("ws://", r.Address, []string{"/up/x", "/service/x"}[i%2])))
	}
	down := make(chan error, 1)
	go func() { down <- r.Shutdown(t.Context()) }()
	for _, c := range conns {
		f, err := readFrame(c)
		if err != nil {
			t.Fatal(err)
		}
		if code, _ := ws.ParseCloseFrameData(f.Payload); f.Header.OpCode != ws.OpClose || code != ws.StatusGoingAway {
			t.Errorf("got %+v", f)
		}
		_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewCloseFrame(f.Payload)))
		_ = c.Close()
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// Only a whole and correct handshake asks for a socket; everything else is a plain request without its Upgrade.
func TestIncompleteHandshakeIsAPlainRequest(t *testing.T) {
	r := sockets(t)
	whole := "GET /up/x HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	if resp, _ := r.Raw(t, whole); resp.StatusCode != http.StatusSwitchingProtocols ||
		resp.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		t.Errorf("the handshake of RFC 6455 got %+v", resp)
	}
	for _, change := range [][2]string{
		{"GET", "POST"},
		{"HTTP/1.1", "HTTP/1.0"},
		{"keep-alive, Upgrade", "keep-alive"},
		{"Upgrade: websocket", "Upgrade: h2c"},
		{"Version: 13", "Version: 8"},
		{"dGhlIHNhbXBsZSBub25jZQ==", "short"},
		{"\r\n\r\n", "\r\nContent-Length: 1\r\n\r\nx"},
	} {
		text := strings.Replace(whole, change[0], change[1], 1)
		if resp, _ := r.Raw(t, text); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%q instead of %q: got %d", change[1], change[0], resp.StatusCode)
		}
	}
}

// A ping may come in the middle of a message, even of one that is as long as may be.
func TestPingMayComeInAMessage(t *testing.T) {
	r := sockets(t)
	c := dialSocket(t, "ws://"+r.Address+"/service/x")
	_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewFrame(ws.OpBinary, false, make([]byte, mesh.MaxMessage-1))))
	_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewPingFrame([]byte("0123456789"))))
	_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewFrame(ws.OpContinuation, true, []byte("x"))))
	if f, err := readFrame(c); err != nil || f.Header.OpCode != ws.OpPong {
		t.Fatalf("the ping got %v, %v", f.Header, err)
	}
	if got, _, err := wsutil.ReadServerData(c); err != nil || len(got) != mesh.MaxMessage {
		t.Errorf("the message came back with %d bytes, %v", len(got), err)
	}
}

// A WebSocket needs its own fields, and loses what else Connection names.
func TestSocketLosesWhatElseConnectionNames(t *testing.T) {
	r := sockets(t)
	const head = "GET /up/x HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for connection, want := range map[string]int{
		"Upgrade": 101, "keep-alive, Upgrade, X-Other": 101,
		"Upgrade, Sec-WebSocket-Key": 403,
	} {
		if got, _ := r.Raw(t, head+"Connection: "+connection+"\r\n\r\n"); got.StatusCode != want {
			t.Errorf("Connection: %s gave %d", connection, got.StatusCode)
		}
	}
}
