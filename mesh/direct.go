package mesh

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
	"millrace/node/http1"
)

// direct calls the handler of a member in this process on the caller's goroutine, if the member allows it and may get
// the request without NATS. It enforces the rules that a message would. If done is false, the request must be sent.
func (c *Conn) direct(ctx context.Context, to Destination, req *Request) (resp *Response, err error, done bool) { //nolint:revive // done says whether resp and err are set
	if !time.Now().Before(req.Deadline) {
		return nil, node.Errorf(node.CodeTimeout, nil, "no time left to send the request"), true
	}
	s, full := c.localMembers.acquire(to.subject, true)
	switch {
	case full:
		c.stats.forLabel(to.label).busy.Add(1)
		return nil, errAllBusy, true
	case s == nil:
		return nil, nil, false
	}
	c.stats.forLabel(to.label).local.Add(1)
	resp, err = s.callDirect(ctx, req)
	if err != nil && ctx.Err() != nil {
		err = contextError(ctx)
	}
	return resp, err, true
}

// callDirect runs the handler. The caller has acquired the member's permit.
func (s *Service) callDirect(ctx context.Context, req *Request) (*Response, error) {
	own := *req
	if err := own.prepareDirect(s.conn.nc); err != nil {
		s.endLocal()
		if errors.Is(err, nats.ErrMaxPayload) {
			return nil, publishError(err)
		}
		return nil, requestError(err)
	}
	resp, err := s.callHandler(ctx, &own)
	if err == nil && resp.Stream != nil && !Bodyless(own.Method, resp.Status) {
		return s.streamDirect(ctx, &own, resp)
	}
	s.endLocal()
	if err != nil {
		e := s.codedError(ctx, err)
		callerErr := memberError(e.Code, e.Text, e.Err)
		callerErr.Unreached, callerErr.Failure = e.Unreached, e.Failure
		return nil, callerErr
	}
	if resp.Stream != nil {
		closeBody(s.log, resp.Stream) // HTTP has no body here
	}
	if err := resp.prepareDirect(own.Method, s.conn.nc); err != nil {
		return nil, unsendableError(err)
	}
	return resp, nil
}

// endLocal undoes localMembers.acquire.
func (s *Service) endLocal() {
	s.releasePermit()
	s.work.Done()
}

// streamDirect sends a streamed response as usual: its head to the caller that waits here, its body over a stream.
func (s *Service) streamDirect(ctx context.Context, req *Request, resp *Response) (*Response, error) {
	head := make(chan *nats.Msg, 1)
	c := s.newCall("", req, s.releasePermit)
	c.localReply = head
	stop := context.AfterFunc(ctx, c.cancel)
	go func() {
		defer s.work.Done()
		defer c.releasePermit()
		defer c.cancel()
		defer stop()
		if err := c.respond(resp); err != nil {
			c.respondError(s.codedError(c.ctx, err))
		}
	}()
	msg := <-head
	out, err := s.conn.readReply(s.cfg.Destination.label, req, msg)
	if err == nil && msg.Header[headerStream] != nil {
		return s.conn.openReplyBody(ctx, req, msg, out)
	}
	return out, err
}

// prepareDirect enforces on the handler's copy of the request what a message would: that it is valid, small enough, and
// without fields that frame or control it. Those come from the struct.
func (r *Request) prepareDirect(nc *nats.Conn) error {
	if err := r.checkHead(); err != nil {
		return err
	}
	clean, size := true, len(r.Target)+len(r.Body)
	for _, f := range r.Header {
		if !http1.ValidField(f) {
			return errFieldContents
		}
		clean = clean && !isFraming(f.Name) && !node.MeshOwn(f.Name)
		size += len(f.Name) + len(f.Value) + len(": \r\n")
	}
	if size > MaxBody && int64(size) > nc.MaxPayload() {
		return nats.ErrMaxPayload
	}
	if !clean {
		r.Header = append(make(Header, 0, len(r.Header)), r.Header...)
		r.Header.Delete(func(f Field) bool { return isFraming(f.Name) || node.MeshOwn(f.Name) })
	}
	r.Interim = directInterim(r.Interim)
	return nil
}

// directInterim forwards interim responses under the rules for messages.
func directInterim(interim func(int, Header)) func(int, Header) {
	if interim == nil {
		return func(int, Header) {}
	}
	var quota interimQuota
	return func(status int, h Header) {
		if payload, err := appendHead(nil, &Response{Status: status, Header: h}); err == nil {
			quota.forward(interim, payload)
		}
	}
}

// prepareDirect enforces on the handler's response what a message would.
func (r *Response) prepareDirect(method string, nc *nats.Conn) error {
	if err := r.checkHead(); err != nil {
		return err
	}
	switch {
	case len(r.Header)+1 > http1.MaxFields:
		return http1.ErrFieldCount
	case len(r.Body) > MaxBody:
		return ErrBodyTooLarge
	}
	clean, size := true, len(r.Body)
	for _, f := range r.Header {
		if !http1.ValidField(f) {
			return errFieldContents
		}
		clean = clean && !isFraming(f.Name)
		size += len(f.Name) + len(f.Value) + len(": \r\n")
	}
	if size > MaxBody && int64(size) > nc.MaxPayload() {
		return nats.ErrMaxPayload
	}
	if !clean {
		length := r.Header.Get("Content-Length")
		r.Header.Delete(func(f Field) bool { return isFraming(f.Name) })
		if Bodyless(method, r.Status) && r.Status != 204 && isNumber(length) {
			r.Header.Set("Content-Length", length)
		}
	}
	r.Header.DropHopByHop()
	r.Member, r.Reason = clip(r.Member), validReason(r.Reason)
	if method == "HEAD" {
		r.Body = nil
	}
	return nil
}
