package mesh

import (
	"errors"

	"github.com/nats-io/nats.go"
)

// headerInterim marks a reply that holds an interim response: the response itself is still to come.
const headerInterim = "Millrace-Interim"

var errInterim = errors.New("an interim response is 102 or 103 without a body")

// inform passes on an interim response that a member sent, if anybody wants it and it is valid.
func (r *Request) inform(msg *nats.Msg) {
	if r.Interim == nil {
		return
	}
	resp, err := decodeInterim(msg.Data)
	if err == nil {
		r.Interim(resp.Status, resp.Header)
	}
}

// decodeInterim reads the payload of an interim response (RFC 9110 §15.2; 103 is RFC 8297).
func decodeInterim(payload []byte) (*Response, error) {
	r, err := decodeResponseHead(payload)
	if err != nil {
		return nil, err
	}
	if (r.Status != 102 && r.Status != 103) || len(r.Body) > 0 || r.Header.Has("Content-Length") || r.Header.Has("Transfer-Encoding") {
		return nil, errInterim
	}
	r.Header.DropHopByHop()
	return r, nil
}
