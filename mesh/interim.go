package mesh

import (
	"errors"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// headerInterim marks a reply that holds an interim response. The response itself follows.
const headerInterim = "Millrace-Interim"

// maxInterimBytes bounds the total size of the interim responses before one response, in bytes. node.MaxInterim bounds
// their number.
const maxInterimBytes = 64 << 10

var errInterim = errors.New("an interim response has a status from 102 to 199 and no body")

// interimQuota counts the interim responses of one request that were forwarded. Those beyond the bounds are dropped;
// they are optional (RFC 9110 §15.2). The zero value is ready.
type interimQuota struct{ count, size int32 }

// admit reports whether another interim response of that size may be forwarded, and counts it if so.
func (q *interimQuota) admit(size int) bool {
	if q.count >= node.MaxInterim || size > maxInterimBytes-int(q.size) {
		return false
	}
	q.count++
	q.size += int32(size) //nolint:gosec // G115: at most maxInterimBytes
	return true
}

// forward passes the interim response in payload to the function, if that isn't nil, the response is valid and the
// quota admits it.
func (q *interimQuota) forward(interim func(int, Header), payload []byte) {
	if interim == nil {
		return
	}
	if resp, err := decodeInterim(payload); err == nil && q.admit(len(payload)) {
		interim(resp.Status, resp.Header)
	}
}

// isInterimStatus reports whether interim responses of this status are forwarded, known or not. A 100 is for the sender
// of a body, and a 101 isn't interim on the mesh.
func isInterimStatus(status int) bool { return status >= 102 && status <= 199 }

// forwardInterim forwards an interim response that a member sent.
func (r *Request) forwardInterim(quota *interimQuota, msg *nats.Msg) {
	quota.forward(r.Interim, msg.Data)
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
