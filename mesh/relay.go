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

// RelayRoute is the Millrace-Route of requests that members make. They come from no edge, so nobody has checked their
// fields.
const RelayRoute = "api-call"

// maxRelay bounds the time of a member's request. It is also the time of a request without a deadline.
const maxRelay = time.Minute

// Relay makes a member's own request. payload is a request message as members receive it, and the result a reply
// message without a subject. Fields that belong to the mesh or to one connection are ignored. Errors are reported as
// members report them, by Millrace-Error.
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

// RelayRefusal returns the reply to a member's request that is refused.
func RelayRefusal(code node.Code, text string) *nats.Msg {
	return errorReply("", node.Errorf(code, nil, "%s", text))
}

// collect reads a streamed body into Body, if it fits one message.
func (r *Response) collect() error {
	if r.Stream == nil {
		return nil
	}
	defer r.Stream.Close()
	var b bytes.Buffer
	switch n, err := io.Copy(&b, io.LimitReader(NewReader(r.Stream), int64(MaxBody)+1)); {
	case err != nil:
		return err
	case n > int64(MaxBody):
		return node.Errorf(node.CodeTooLarge, nil, "the service answered more than one message carries")
	}
	r.Stream, r.Body = nil, b.Bytes()
	return nil
}
