package mesh

import (
	"time"

	"millrace/node"
)

// WireVersion is the version of the protocol, sent as Millrace-Wire.
const WireVersion = 1

// MaxBody is the largest body, in bytes, of a request or reply that travels in one message.
const MaxBody = int(node.MaxMessageBody)

// Request is an HTTP request on the mesh. What Do gets may not be changed until it returns; what a Handler gets is its
// own and stays valid after the handler.
type Request struct {
	Method string
	Target string // origin-form: canonical path, and the query as the client sent it
	Host   string
	Header Header // end-to-end fields only; Host and Content-Length are written from the fields above and below
	Body   []byte

	// Stream, if not nil, is the body in place of Body: longer than MaxBody, or of unknown length. Do closes it.
	Stream Body
	Length int64 // of Stream in bytes, or -1
	// Upgrade, if not empty, asks for a socket: Stream is what the client sends once the answer is 101. See
	// PROTOCOL.md, section 7.
	Upgrade Upgrade
	// Interim, if not nil, passes an interim response (102 to 199) towards the client, before the response itself; what
	// is beyond node.MaxInterim, or 64 KiB, is dropped. For Do it is called while Do runs; a Handler may call it until
	// it returns.
	Interim func(status int, h Header)

	Route    string    // name of the route that was taken, for logs
	Deadline time.Time // by when the answer must be there; Do needs it, a Handler finds it in its context too
	// it was sent before, and not answered in time: who handles it shouldn't repeat it, or tries would multiply
	Again bool
	// Expect says that the sender of Stream waits with it until it is read (Expect: 100-continue, RFC 9110 §10.1.1). An
	// answer without that tells it that the body isn't wanted.
	Expect bool
	Nonce  string // names this try of the request; set by the sender's Conn
}

// Upgrade says what a socket carries.
type Upgrade string

// The kinds of socket.
const (
	// the bytes of the WebSocket protocol (RFC 6455): for upstreams. Others by name.
	UpgradeBytes Upgrade = "websocket"
	// each piece is one message, KindText or KindBinary, of at most MaxMessage bytes: for services.
	UpgradeMessages Upgrade = "messages"
)

// Response is an HTTP response on the mesh.
type Response struct {
	Status int // 200 to 599, or 101 to a request with Upgrade
	// reason phrase; empty for the usual one. One that isn't printable, or longer than 128 bytes, is dropped
	Reason string
	Header Header
	Body   []byte // empty for HEAD, 204 and 304
	Member string // who answered, if the member named itself

	// Stream, if not nil, is the body in place of Body. Whoever gets a Response from Do must close it, which also ends
	// a request body that is still being sent; what a Handler gives is closed by the Service.
	Stream Body
	Length int64 // of Stream in bytes, or -1
}

// Repeatable reports whether a request of this method may be run again when nobody knows whether it ran: the idempotent
// methods of RFC 9110 §9.2.2.
func Repeatable(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}
