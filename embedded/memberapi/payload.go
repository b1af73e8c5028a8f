package memberapi

import (
	"bytes"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// refusal is the answer to what is wrong.
type refusal struct {
	Error string    `json:"error"`
	Code  node.Code `json:"code"`
}

// readPayload reads a request into v. What is wrong with it is told with an example of a right one; nil if nothing is.
func readPayload(payload []byte, v any, example string) (wrong *refusal) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return &refusal{"the payload is one JSON object, such as " + example + ": " + err.Error(), node.CodeInvalid}
	}
	return nil
}

func respond(msg *nats.Msg, reply any) {
	if whole, ok := reply.(*nats.Msg); ok { // of an API that speaks another language than JSON
		_ = msg.RespondMsg(whole) // as below
		return
	}
	b, err := json.Marshal(reply)
	if err != nil { // what isn't JSON was checked before
		b = []byte(`{"error": "the value isn't JSON", "code": "internal"}`)
	}
	if len(b) > int(node.MaxMessage) {
		b = []byte(`{"error": "the answer is longer than one message carries", "code": "body_too_large"}`)
	}
	_ = msg.Respond(b) // the caller asks again, or goes on without
}
