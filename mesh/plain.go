package mesh

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"millrace/node"
	"millrace/node/http1"
)

// DefaultForwardHeaders lists the header fields that a plain NATS request carries unless its route names others.
var DefaultForwardHeaders = []string{
	"Accept", "Accept-Language", "Content-Type", "Traceparent", "Tracestate",
	"X-Request-Id",
}

// plainLabel is the label of all plain NATS targets together, since their subjects hold request parameters.
const plainLabel = "nats"

// DoPlain sends the request's body to a plain NATS service, with the named header fields as NATS headers, and waits for
// its answer until req.Deadline. The reply's payload becomes the body. Its header Nats-Service-Error-Code becomes the
// status if it is 400 to 599, and 502 if it is anything else. The subject must come from node.Subject.Expand. The
// request is sent once. Errors are those of Do.
func (c *Conn) DoPlain(ctx context.Context, subject string, req *Request, forward []string) (*Response, error) {
	if len(req.Body) > MaxBody {
		return nil, node.Errorf(node.CodeTooLarge, nil, "the body is larger than one message carries")
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	t, ok := c.mux.begin()
	if !ok {
		return nil, node.Errorf(node.CodeBusy, nil, "too many requests wait for answers")
	}
	msg := &nats.Msg{
		Subject: c.cfg.Prefix + subject, Reply: c.mux.subject(t, plainLabel), Data: req.Body,
		Header: plainHeader(req.Header, forward),
	}
	if err := c.nc.PublishMsg(msg); err != nil {
		c.mux.abandon(t, plainLabel)
		return nil, node.Errorf(node.CodeUnavailable, err, "the mesh connection is away")
	}
	return c.awaitPlain(ctx, t, msg.Subject, req)
}

// awaitPlain waits for the answer to a request that was just published.
func (c *Conn) awaitPlain(ctx context.Context, t try, subject string, req *Request) (*Response, error) {
	sent := time.Now()
	timer := acquireTimer(min(req.Deadline.Sub(sent), waitingAfter))
	defer releaseTimer(timer)
	var w *waitingCall
	defer func() { w.remove() }() // before the timer is reused
	for {
		select {
		case reply := <-t.slot.reply:
			c.mux.release(t)
			return c.plainResponse(req.Method, subject, reply)
		case <-timer.C:
			left := time.Until(req.Deadline)
			if left <= 0 {
				c.mux.abandon(t, plainLabel)
				return nil, node.Errorf(node.CodeTimeout, nil, "no answer within the deadline")
			}
			if w == nil {
				w = c.waiting.add(Destination{subject: subject}, sent, timer)
			}
			if ds := w.takeDepartures(); len(ds) > 0 && c.plainLost(ds, w) && c.mux.abandonWaiting(t) {
				return nil, errMemberGone
			}
			w.resetTimer(left)
		case <-ctx.Done():
			c.mux.abandon(t, plainLabel)
			return nil, contextError(ctx)
		}
	}
}

// plainLost reports whether a request to a plain service won't be answered.
func (c *Conn) plainLost(departures []departure, w *waitingCall) bool {
	noSubscriber := c.noSubscriber(w.to.subject, "")
	return slices.ContainsFunc(departures, func(d departure) bool {
		return d.impactOn(&w.to, w.since, "", noSubscriber) == certainlyLost
	})
}

func plainHeader(h Header, forward []string) nats.Header {
	out := nats.Header{}
	for _, name := range forward {
		if v := h.Values(name); len(v) > 0 {
			out[name] = v
		}
	}
	return out
}

func (c *Conn) plainResponse(method, subject string, msg *nats.Msg) (*Response, error) {
	switch {
	case msg == nil:
		return nil, node.Errorf(node.CodeUnavailable, nil, "the mesh connection was lost")
	case len(msg.Data) == 0 && msg.Header.Get(headerStatus) == "503":
		return nil, node.Errorf(node.CodeNoMember, nil, "nobody answers this service")
	case len(msg.Data) > MaxBody:
		c.stats.countBadReply(plainLabel, subject, dropOversized, ErrBodyTooLarge, "")
		return nil, badReplyError(ErrBodyTooLarge)
	}
	resp := &Response{Status: 200, Body: msg.Data}
	if code := msg.Header.Get("Nats-Service-Error-Code"); code != "" {
		n, err := strconv.Atoi(code)
		if resp.Status = n; err != nil || n < 400 || n > 599 {
			return nil, node.Errorf(node.CodeBadReply, errors.New("service error code is not a status from 400 to 599"),
				"the service failed")
		}
	}
	contentType := Field{Name: "Content-Type", Value: msg.Header.Get("Content-Type")}
	if contentType.Value == "" || !http1.ValidField(contentType) {
		contentType.Value = sniff(msg.Data)
	}
	if len(msg.Data) > 0 {
		resp.Header = Header{contentType}
	}
	if method == "HEAD" {
		resp.Header.Set("Content-Length", strconv.Itoa(len(resp.Body)))
		resp.Body = nil
	}
	return resp, nil
}

// sniff returns the media type of a payload that came without one.
func sniff(b []byte) string {
	switch {
	case json.Valid(b):
		return "application/json"
	case utf8.Valid(b):
		return "text/plain; charset=utf-8"
	default:
		return "application/octet-stream"
	}
}
