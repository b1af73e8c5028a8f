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

	Route    string    // name of the route that was taken, for logs
	Deadline time.Time // by when the answer must be there; Do needs it, a Handler finds it in its context too
	Nonce    string    // names this try of the request; set by the sender's Conn
}

// Response is an HTTP response on the mesh.
type Response struct {
	Status int // 200 to 599
	Header Header
	Body   []byte // empty for HEAD, 204 and 304
	Member string // who answered, if the member named itself
}

// Repeatable tells whether a request of this method may be run again when nobody knows whether it ran: the idempotent
// methods of RFC 9110 §9.2.2.
func Repeatable(method string) bool {
	switch method {
	case "GET", "HEAD", "OPTIONS", "PUT", "DELETE":
		return true
	}
	return false
}
