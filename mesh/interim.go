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
const maxInterimBytes = 64 << 10

var errInterim = errors.New("an interim response has a status from 102 to 199 and no body")

// interims counts the interim responses of one request that were passed on. What is beyond the bounds is dropped: they
// are hints, and the response comes in any case (RFC 9110 §15.2). The zero value is ready.
type interimQuota struct{ count, size int32 }

// take reports whether one more, of that many bytes, may pass, and counts it then.
func (q *interimQuota) admit(size int) bool {
	if q.count >= node.MaxInterim || size > maxInterimBytes-int(q.size) {
		return false
	}
	q.count++
	q.size += int32(size) //nolint:gosec // G115: at most maxInterim
	return true
}

// pass gives the request an interim response in the form of a message, if anybody wants it, it is valid, and not too
// much.
func (q *interimQuota) forward(to func(int, Header), payload []byte) {
	if to == nil {
		return
	}
	if resp, err := decodeInterim(payload); err == nil && q.admit(len(payload)) {
		to(resp.Status, resp.Header)
	}
}

// mayBeInterim reports whether the status is that of an interim response which is passed on, whether it is known or
// not. A 100 is for whoever sends a body, and a 101 isn't interim here.
func isInterimStatus(status int) bool { return status >= 102 && status <= 199 }

// inform passes on an interim response that a member sent.
func (r *Request) forwardInterim(passed *interimQuota, msg *nats.Msg) {
	passed.forward(r.Interim, msg.Data)
}

// decodeInterim reads the payload of an interim response.
func decodeInterim(payload []byte) (*Response, error) {
	r, err := decodeResponseHead(payload)
	if err != nil {
		return nil, err
	}
	if !isInterimStatus(r.Status) || len(r.Body) > 0 || r.Header.Has("Content-Length") ||
		r.Header.Has("Transfer-Encoding") {
		return nil, errInterim
	}
	r.Header.DropHopByHop()
	return r, nil
}
