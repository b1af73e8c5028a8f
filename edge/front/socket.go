package front

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

	"millrace/edge/exchange"
	"millrace/edge/guard"
	"millrace/mesh"
	"millrace/node"
)

// wantsWebSocket reports whether the request is a WebSocket handshake in the form of RFC 6455 §4.2.1. If its form is
// wrong, it is served as an ordinary request.
func wantsWebSocket(r *guard.Request) bool {
	if !r.Upgrade || r.Method != http.MethodGet || r.HTTP10 || r.Length != 0 || r.Close || r.Refusal != nil {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(r.Header.Get("Sec-WebSocket-Key"))
	return err == nil && len(key) == 16 && len(r.Header.Values("Sec-WebSocket-Key")) == 1 &&
		r.Header.Get("Sec-WebSocket-Version") == "13" &&
		hasToken(r.Header, "Upgrade", "websocket")
}

// hasToken reports whether the list in a field has the word, in any case.
func hasToken(h mesh.Header, name, word string) bool {
	for _, value := range h.Values(name) {
		for entry := range strings.SplitSeq(value, ",") {
			if node.SameName(strings.Trim(entry, " \t"), word) {
				return true
			}
		}
	}
	return false
}

// acceptKey returns the Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 §4.2.2).
func acceptKey(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11")) //nolint:gosec // G401: see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

// socket writes the target's 101 to the client, and then what the target sends, until one side ends. m reads what the
// client sends if the target takes messages; it is nil if the target takes bytes.
func (f *Front) socket(w Writer, m *messages, x *exchange.Exchange, resp *mesh.Response) {
	k := &socket{w: w, body: resp.Stream, opaque: x.Upgrade.Protocol != ""}
	leave, ok := f.streams.enter(k.goAway)
	defer leave()
	defer k.finish()
	protocol := x.Upgrade.Protocol
	if !k.opaque {
		protocol = "websocket"
		ok = ok && k.accepts(m, x, resp)
	}
	if !ok {
		w.Break()
		return
	}
	w.Unwatch()
	if k.open(x, resp, protocol) != nil {
		return
	}
	if m != nil {
		m.open(k)
		k.relay(resp.Stream)
		return
	}
	k.splice(resp.Stream)
}

// accepts reports whether the target has accepted the client's WebSocket. For a target that takes messages (m isn't
// nil) the edge completes the handshake itself.
func (k *socket) accepts(m *messages, x *exchange.Exchange, resp *mesh.Response) bool {
	accept := acceptKey(x.Header.Get("Sec-WebSocket-Key"))
	if m != nil {
		resp.Header.Del("Sec-WebSocket-Extensions") // the edge implements none
		resp.Header.Set("Sec-WebSocket-Accept", accept)
	}
	return resp.Header.Get("Sec-WebSocket-Accept") == accept
}

// socket is one open WebSocket, or a connection that was switched to another protocol.
type socket struct {
	w      Writer
	body   mesh.Body
	opaque bool // not a WebSocket: its bytes have no frames that the edge could track

	mu       sync.Mutex // guards what follows, and writing to w
	opened   bool       // the client has its 101
	frames   frames     // where the target's frames end
	finished bool       // nothing more may be written: this node has sent a close frame, or the socket has ended
}

// open sends the 101.
func (k *socket) open(x *exchange.Exchange, resp *mesh.Response, protocol string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened = true
	return k.w.Switch(x, resp, protocol)
}

// splice writes the target's bytes to the client as they come, until either side ends. If the target's stream breaks
// off, so does the client's connection.
func (k *socket) splice(body mesh.Body) {
	for {
		p, err := body.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				k.abort()
			}
			return
		}
		if k.write(p.Data) != nil {
			return
		}
	}
}

// write writes bytes of the target. After a close frame of this node they are dropped.
func (k *socket) write(p []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.finished {
		return nil
	}
	if !k.opaque {
		k.frames.follow(p)
	}
	return k.w.Data(p)
}

// abort breaks the connection, unless this node has sent a close frame.
func (k *socket) abort() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.finished {
		k.finished = true
		k.w.Break()
	}
}

// finish makes every further write fail or do nothing, because the connection belongs to fasthttp again.
func (k *socket) finish() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.finished = true
}

// closeTimeout is how long the other side has to end the connection after a close frame.
const closeTimeout = 2 * time.Second

// goAway closes the socket because the node shuts down. Between two frames of the target it sends close code 1001, and
// the client has closeTimeout to end the connection. In any other case it ends the socket at once.
func (k *socket) goAway() {
	k.mu.Lock()
	sent := k.opened && !k.opaque && k.frames.between() &&
		k.writeFrame(ws.OpClose, ws.NewCloseFrameBody(ws.StatusGoingAway, "")) == nil
	k.mu.Unlock()
	if !sent {
		_ = k.body.Close()
		return
	}
	time.AfterFunc(closeTimeout, func() { _ = k.body.Close() })
}
