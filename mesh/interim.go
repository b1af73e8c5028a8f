package mesh

import (
	"errors"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// headerInterim marks a reply that holds an interim response: the response itself is still to come.
const headerInterim = "Millrace-Interim"

// maxInterim bounds the heads of the interim responses before one response, in bytes. Their number is bounded by
// node.MaxInterim.
const maxInterim = 64 << 10

var errInterim = errors.New("an interim response has a status from 102 to 199 and no body")

// interims counts the interim responses of one request that were passed on. What is beyond the bounds is dropped: they
// are hints, and the response comes in any case (RFC 9110 §15.2). The zero value is ready.
type interims struct{ count, size int32 }

// take reports whether one more, of that many bytes, may pass, and counts it then.
func (i *interims) take(size int) bool {
	if i.count >= node.MaxInterim || size > maxInterim-int(i.size) {
		return false
	}
	i.count++
	i.size += int32(size) //nolint:gosec // G115: at most maxInterim
	return true
}

// pass gives the request an interim response in the form of a message, if anybody wants it, it is valid, and not too
// much.
func (i *interims) pass(to func(int, Header), payload []byte) {
	if to == nil {
		return
	}
	if resp, err := decodeInterim(payload); err == nil && i.take(len(payload)) {
		to(resp.Status, resp.Header)
	}
}

// mayBeInterim reports whether the status is that of an interim response which is passed on, whether it is known or
// not. A 100 is for whoever sends a body, and a 101 isn't interim here.
func mayBeInterim(status int) bool { return status >= 102 && status <= 199 }

// inform passes on an interim response that a member sent.
func (r *Request) inform(passed *interims, msg *nats.Msg) { passed.pass(r.Interim, msg.Data) }

// decodeInterim reads the payload of an interim response.
func decodeInterim(payload []byte) (*Response, error) {
	r, err := decodeResponseHead(payload)
	if err != nil {
		return nil, err
	}
	if !mayBeInterim(r.Status) || len(r.Body) > 0 || r.Header.Has("Content-Length") ||
		r.Header.Has("Transfer-Encoding") {
		return nil, errInterim
	}
	r.Header.DropHopByHop()
	return r, nil
}
