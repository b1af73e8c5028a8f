package mesh

import (
	"time"

	"millrace/node"
)

// WireVersion is the version of the protocol, sent as Millrace-Wire.
const WireVersion = 1

// MaxBody is the largest body, in bytes, of a request or reply that travels in one message.
const MaxBody = int(node.MaxMessageBody)

// Request is an HTTP request on the mesh. The caller of Do must not change it until Do returns. A Handler owns the
// request that it gets, which stays valid after the handler returns.
type Request struct {
	Method string
	Target string // origin-form: canonical path, and the query as the client sent it
	Host   string
	Header Header // end-to-end fields only; Host and Content-Length are written from the fields above and below
	Body   []byte

	// Stream, if not nil, replaces Body. It is for bodies that are longer than MaxBody or of unknown length. Do closes
	// it.
	Stream Body
	Length int64 // of Stream in bytes, or -1
	// Upgrade, if not empty, asks for a socket: Stream is then what the client sends after the answer 101 (PROTOCOL.md,
	// section 7).
	Upgrade Upgrade
	// Interim, if not nil, forwards an interim response (status 102 to 199) to the client before the response itself.
	// It drops what exceeds node.MaxInterim responses or 64 KiB. Do calls it until Do returns; a Handler may call it
	// until the handler returns.
	Interim func(status int, h Header)

	Route    string    // name of the matched route, for logs
	Deadline time.Time // when the answer must be there; required by Do, and also in the Handler's context
	// Again says that the request was sent before and not answered in time. Whoever handles it shouldn't retry, or
	// retries would multiply.
	Again bool
	// Expect says that the client sends Stream only once it is read (Expect: 100-continue, RFC 9110 §10.1.1). An answer
	// before the first read tells the client that the body isn't wanted.
	Expect bool
	Nonce  string // names this try of the request; set by the sender's Conn
}

// Upgrade is what a socket carries.
type Upgrade string

// The kinds of socket.
const (
	// UpgradeBytes carries the bytes of the WebSocket protocol (RFC 6455), for upstreams. Other protocols go by their
	// names.
	UpgradeBytes Upgrade = "websocket"
	// UpgradeMessages carries one message in each piece, KindText or KindBinary, of at most MaxMessage bytes: for
	// services.
	UpgradeMessages Upgrade = "messages"
)

// Response is an HTTP response on the mesh.
type Response struct {
	Status int // 200 to 599, or 101 to a request with Upgrade
	// Reason is the reason phrase, empty for the usual one. It is dropped if it isn't printable or has more than 128
	// bytes.
	Reason string
	Header Header
	Body   []byte // empty for HEAD, 204 and 304
	Member string // who answered, if the member named itself

	// Stream, if not nil, replaces Body. The caller of Do must close it, which also ends a request body that is still
	// being sent. The Service closes the Stream that its Handler returns.
	Stream Body
	Length int64 // of Stream in bytes, or -1
}

// Repeatable reports whether a request of this method may run again when it isn't known whether it ran: whether the
// method is idempotent (RFC 9110 §9.2.2).
func Repeatable(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}
