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
			if node.SameName(strings.Trim(entry, " \t"), word) {
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
// m reads what the client sends, if the target knows messages only; nil otherwise.
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

// accepts reports whether the target has accepted the client's WebSocket. One that knows messages only leaves the
// handshake to the edge.
func (k *socket) accepts(m *messages, x *exchange.Exchange, resp *mesh.Response) bool {
	accept := acceptKey(x.Header.Get("Sec-WebSocket-Key"))
	if m != nil {
		resp.Header.Del("Sec-WebSocket-Extensions") // nobody here could speak them
		resp.Header.Set("Sec-WebSocket-Accept", accept)
	}
	return resp.Header.Get("Sec-WebSocket-Accept") == accept
}

// socket is one open WebSocket, or a connection that was switched to another protocol.
type socket struct {
	w      Writer
	body   mesh.Body
	opaque bool // it has no frames that are known here

	mu     sync.Mutex // guards the writing end
	opened bool       // the client has its 101
	frames frames     // where the target's frames end
	gone   bool       // nothing more is written: a close frame of ours was the last thing, or the socket is over
}

// open sends the 101.
func (k *socket) open(x *exchange.Exchange, resp *mesh.Response, protocol string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.opened = true
	return k.w.Switch(x, resp, protocol) //nolint:wrapcheck // the caller only wants to know that there is one
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
		k.frames.follow(p)
	}
	return k.w.Data(p) //nolint:wrapcheck // the caller only wants to know that there is one
}

// cut breaks the connection, unless the client was told that the node goes away.
func (k *socket) cut() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.gone {
		k.gone = true
		k.w.Break()
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
