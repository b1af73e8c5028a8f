package memberapi

import (
	"bytes"
	"encoding/json"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// refusal is the answer to a request that fails.
type refusal struct {
	Error string    `json:"error"`
	Code  node.Code `json:"code"`
}

// readPayload decodes a request into v. It returns a refusal with an example if the payload is malformed, else nil.
func readPayload(payload []byte, v any, example string) (wrong *refusal) {
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return &refusal{"the payload is one JSON object, such as " + example + ": " + err.Error(), node.CodeInvalid}
	}
	return nil
}

func respond(msg *nats.Msg, reply any) {
	if whole, ok := reply.(*nats.Msg); ok { // of api.call, which doesn't answer in JSON
		_ = msg.RespondMsg(whole) // see below
		return
	}
	b, err := json.Marshal(reply)
	if err != nil { // what isn't JSON was refused before
		b = []byte(`{"error": "the value isn't JSON", "code": "internal"}`)
	}
	if len(b) > int(node.MaxMessage) {
		b = []byte(`{"error": "the answer is longer than one message carries", "code": "body_too_large"}`)
	}
	_ = msg.Respond(b) // if it fails, the caller times out
}
