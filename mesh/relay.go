package mesh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// RelayRoute is what Millrace-Route says of requests that members make: they come from no edge, and their fields are
// the members' word.
const RelayRoute = "api-call"

// maxRelay bounds how long a member's request may take. It has as long if it names no time.
const maxRelay = time.Minute

// Relay makes a request of a member's own, which is a message as members get them, and gives the reply, likewise,
// without subject. Fields of the mesh and of one connection count for nothing in it. Whatever fails is told as a
// member tells it: by Millrace-Error.
func (c *Conn) Relay(ctx context.Context, to Destination, payload []byte) *nats.Msg {
	req, err := decodeRequest(payload, time.Now())
	if err != nil {
		return errorReply("", node.Errorf(node.CodeInvalid, err, "the request is malformed: %s", err))
	}
	own := &Request{Method: req.Method, Target: req.Target, Host: req.Host, Header: req.Header, Body: req.Body}
	own.Route = RelayRoute
	own.Header.DropHopByHop()
	own.Deadline = time.Now().Add(min(time.Until(req.Deadline), maxRelay))
	ctx, cancel := context.WithDeadline(ctx, own.Deadline)
	defer cancel()
	resp, err := c.Do(ctx, to, own)
	if err == nil {
		err = resp.collect()
	}
	if err != nil {
		return relayError(err)
	}
	b, err := appendResponse(nil, resp, own.Method)
	if err != nil {
		return relayError(badReplyError(err))
	}
	msg := &nats.Msg{Data: b}
	if resp.Member != "" {
		msg.Header = nats.Header{headerMember: {resp.Member}}
	}
	return msg
}

func relayError(err error) *nats.Msg {
	if e, ok := errors.AsType[*node.Error](err); ok {
		return errorReply("", e)
	}
	return errorReply("", node.Errorf(node.CodeUpstream, err, "the service's answer broke off"))
}

// RelayRefusal is the answer to a member's request that isn't made.
func RelayRefusal(code node.Code, text string) *nats.Msg {
	return errorReply("", node.Errorf(code, nil, "%s", text))
}

// collect reads a body that streams, if it fits one message.
func (r *Response) collect() error {
	if r.Stream == nil {
		return nil
	}
	defer r.Stream.Close()
	var b bytes.Buffer
	switch n, err := io.Copy(&b, io.LimitReader(NewReader(r.Stream), int64(MaxBody)+1)); {
	case err != nil:
		return err //nolint:wrapcheck // the caller says what it was
	case n > int64(MaxBody):
		return node.Errorf(node.CodeTooLarge, nil, "the service answered more than one message carries")
	}
	r.Stream, r.Body = nil, b.Bytes()
	return nil
}
