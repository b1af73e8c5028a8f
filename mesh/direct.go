package mesh

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go"

	"millrace/node"
)

// direct answers a request by the handler of a member in this process, on the caller's goroutine, if the member allows
// that and may have the request in memory. What a message would check and leave out is checked and left out here too.
// Not done means that the request must be sent.
func (c *Conn) direct(ctx context.Context, to Destination, req *Request) (resp *Response, err error, done bool) { //nolint:revive // done says whether the others count
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

// direct runs the handler. The place under the limit was taken.
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
		told := memberError(e.Code, e.Text, e.Err)
		told.Unreached, told.Failure = e.Unreached, e.Failure
		return nil, told
	}
	if resp.Stream != nil {
		closeBody(s.log, resp.Stream) // there is no body
	}
	if err := resp.prepareDirect(own.Method, s.conn.nc); err != nil {
		return nil, unsendableError(err)
	}
	return resp, nil
}

// left gives back what enter took.
func (s *Service) endLocal() {
	s.releasePermit()
	s.work.Done()
}

// streamHere sends a response with a stream as any other: its head to the caller that waits here, the body over a link.
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

// check makes sure of what a message would: that the request is one, and that it has no fields that frame or control it
// but those of the struct.
func (r *Request) prepareDirect(nc *nats.Conn) error {
	if err := r.checkHead(); err != nil {
		return err
	}
	clean, size := true, len(r.Target)+len(r.Body)
	for _, f := range r.Header {
		if !ValidField(f) {
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

// directInterim passes interim responses on as messages would.
func directInterim(to func(int, Header)) func(int, Header) {
	if to == nil {
		return func(int, Header) {}
	}
	var passed interimQuota
	return func(status int, h Header) {
		if payload, err := appendHead(nil, &Response{Status: status, Header: h}); err == nil {
			passed.forward(to, payload)
		}
	}
}

// pass makes sure of what a message would, in the handler's own response.
func (r *Response) prepareDirect(method string, nc *nats.Conn) error {
	if err := r.checkHead(); err != nil {
		return err
	}
	switch {
	case len(r.Header)+1 > MaxFields:
		return ErrFieldCount
	case len(r.Body) > MaxBody:
		return ErrBodyTooLarge
	}
	clean, size := true, len(r.Body)
	for _, f := range r.Header {
		if !ValidField(f) {
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
