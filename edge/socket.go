package edge

import (
	"crypto/sha1" //nolint:gosec // G505: RFC 6455 §4.2.2 asks for it, and it protects nothing
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"millrace/edge/guard"
	"millrace/mesh"
)

// socketAsked reports whether a request asks for a WebSocket, in the form of RFC 6455 §4.2.1. What doesn't is an
// ordinary request.
func socketAsked(r *guard.Request) bool {
	if !r.Upgrade || r.Method != http.MethodGet || r.HTTP10 || r.Length != 0 || r.Close || r.Refusal != nil {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	return err == nil && len(key) == 16 && len(r.Header.Values("Sec-WebSocket-Key")) == 1 &&
		r.Header.Get("Sec-WebSocket-Version") == "13" &&
		lists(r.Header, "Upgrade", "websocket")
}

// lists reports whether a field holds the word in its list.
func lists(h mesh.Header, name, word string) bool {
	for _, value := range h.Values(name) {
		for entry := range strings.SplitSeq(value, ",") {
			if equalFold(strings.Trim(entry, " \t"), word) {
				return true
			}
		}
	}
	return false
}

// acceptKey answers a Sec-WebSocket-Key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // G401: see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

// socket opens the client's WebSocket when the target answered 101, and passes on what it sends until one side ends.
func (s *Server) socket(conn *guard.Conn, x *Exchange, resp *mesh.Response) {
	k := &socket{conn: conn, body: resp.Stream, opaque: x.protocol != ""}
	leave, ok := s.streams.enter(k.goAway)
	defer leave()
	defer k.finish()
	if k.opaque {
		s.passBytes(k, ok, x, resp)
		return
	}
	accept := acceptKey(x.Header.Get("Sec-WebSocket-Key"))
	if x.messages != nil {
		resp.Header.Del("Sec-WebSocket-Extensions") // nobody here could speak them
		resp.Header.Set("Sec-WebSocket-Accept", accept)
	}
	if !ok || resp.Header.Get("Sec-WebSocket-Accept") != accept {
		conn.Break()
		return
	}
	conn.Unwatch()
	if k.open(s.appendSwitch(x, resp, "websocket")) != nil {
		return
	}
	if x.messages != nil {
		x.messages.open(k)
		k.pass(resp.Stream)
		return
	}
	k.splice(resp.Stream)
}

// passBytes opens a socket of another protocol than WebSocket, of which nothing is known but its name.
func (s *Server) passBytes(k *socket, ok bool, x *Exchange, resp *mesh.Response) {
	if !ok {
		k.conn.Break()
		return
	}
	k.conn.Unwatch()
	if k.open(s.appendSwitch(x, resp, x.protocol)) == nil {
		k.splice(resp.Stream)
	}
}

// appendSwitch writes the head of a 101.
func (s *Server) appendSwitch(x *Exchange, resp *mesh.Response, protocol string) []byte {
	b := mesh.AppendField(s.appendHead(nil, x, resp), "Upgrade", protocol)
	return append(b, "Connection: Upgrade\r\n\r\n"...)
}

// socket is one open WebSocket, or a connection that was switched to another protocol.
type socket struct {
	conn   *guard.Conn
	body   mesh.Body
	opaque bool // it has no frames that are known here

	mu     sync.Mutex // guards the writing end
	opened bool       // the client has its 101
	frames frames     // where the target's frames end
	gone   bool       // nothing more is written: a close frame of ours was the last thing, or the socket is over
}

// open sends the 101.
func (k *socket) open(head []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened = true
	return k.conn.Send(true, head) //nolint:wrapcheck // the caller only wants to know that there is one
}

// splice writes the target's bytes as they come. It stands in no frame when it ends well.
func (k *socket) splice(body mesh.Body) {
	for {
		p, err := body.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				k.cut()
			}
			return
		}
		if k.write(p.Data) != nil {
			return
		}
	}
}

func (k *socket) write(p []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gone {
		return nil
	}
	if !k.opaque {
		k.frames.pass(p)
	}
	return k.conn.Send(true, p) //nolint:wrapcheck // the caller only wants to know that there is one
}

// cut breaks the connection, unless the client was told that the node goes away.
func (k *socket) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.gone {
		k.gone = true
		k.conn.Break()
	}
}

// finish lets nothing more be written: the connection is the server's again.
func (k *socket) finish() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.gone = true
}

// byeTime is how long the other side has after a close frame to end the connection.
const byeTime = 2 * time.Second

// goAway tells the client with 1001 that the node leaves, unless the target is in the middle of a frame, and gives it a
// while to close.
func (k *socket) goAway() {
	k.mu.Lock()
	told := k.opened && !k.opaque && k.frames.between() &&
		k.writeFrame(ws.OpClose, ws.NewCloseFrameBody(ws.StatusGoingAway, "")) == nil
	k.mu.Unlock()
	if !told {
		_ = k.body.Close()
		return
	}
	time.AfterFunc(byeTime, func() { _ = k.body.Close() })
}

// frames follows the frames of a WebSocket as they pass, to know where they end (RFC 6455 §5.2).
type frames struct {
	head [14]byte // of the frame that begins
	have int      // bytes of it
	left uint64   // bytes of the payload that are still to pass
}

func (f *frames) between() bool { return f.have == 0 && f.left == 0 }

func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		p = p[1:]
		f.begin()
	}
}

// begin finds out how long the frame is, once its head is there.
func (f *frames) begin() {
	if f.have < 2 {
		return
	}
	size, need := uint64(f.head[1]&0x7f), 2
	extended := 0
	switch size {
	case 126:
		extended = 2
	case 127:
		extended = 8
	}
	need += extended
	if f.head[1]&0x80 != 0 {
		need += 4
	}
	if f.have < need {
		return
	}
	if extended > 0 {
		size = 0
		for _, c := range f.head[2 : 2+extended] {
			size = size<<8 | uint64(c)
		}
	}
	f.have, f.left = 0, size
}
