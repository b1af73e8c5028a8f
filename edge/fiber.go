package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"time"
	"unsafe"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"millrace/mesh"
	"millrace/node"
)

// newApp sets every default of Fiber and fasthttp that isn't safe: bounded times and sizes, nothing normalised or
// parsed behind our back, no request bytes in error texts.
func (s *Server) newApp() *fiber.App {
	e := s.cfg.Edge
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true, DisableHeaderNormalizing: true, DisableDefaultContentType: true, DisablePreParseMultipartForm: true,
		ReadTimeout: e.ReadTimeout.Std(), WriteTimeout: e.WriteTimeout.Std(), IdleTimeout: e.IdleTimeout.Std(),
		DisableDefaultDate: true, ReadBufferSize: int(e.MaxHeader), BodyLimit: int(node.MaxMessageBody),
	})
	server := app.Server()
	server.SecureErrorLogMessage = true
	server.ErrorHandler = s.protocolError
	server.CloseOnShutdown = true
	server.Handler = func(rc *fasthttp.RequestCtx) { // our router stands in place of Fiber's, so methods that Fiber doesn't know are served too
		c := app.AcquireCtx(rc)
		defer app.ReleaseCtx(c)
		s.handle(c)
	}
	return app
}

// handle is the only code that touches Fiber's request and response.
func (s *Server) handle(c *fiber.Ctx) {
	defer s.recoverFront(c)
	if s.inFlight.Add(1) > int64(s.settings.Load().MaxRequests) {
		s.inFlight.Add(-1)
		s.write(c, s.refusal(node.Errorf(node.CodeBusy, nil, "the node has too many requests in flight")), false)
		return
	}
	defer s.inFlight.Add(-1)
	x := fromFiber(c)
	resp := s.Serve(context.Background(), x)
	s.write(c, resp, s.draining.Load() || malformed(x, resp))
}

// refusal is the response to what never reaches the policies; it is counted, and carries an id, as they would have it.
func (s *Server) refusal(err error) *mesh.Response {
	id := newID()
	resp := problemResponse(err, id)
	resp.Header.Add("X-Request-Id", id)
	s.settings.Load().unmatched.stats.record(resp.Status, 0)
	return resp
}

// malformed tells whether the request broke the protocol, so that nothing after it on the connection can be trusted.
func malformed(x *Exchange, resp *mesh.Response) bool { return x.refusal != nil && resp.Status == 400 }

// recoverFront is the last net: what the policies recover from never reaches it.
func (s *Server) recoverFront(c *fiber.Ctx) {
	if p := recover(); p != nil {
		s.log.Error("edge panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		s.write(c, s.refusal(node.Errorf(node.CodeInternal, nil, "the request failed inside the gateway")), true)
	}
}

// fromFiber copies the request out of Fiber's memory, all its bytes at once. The strings of the exchange alias the copy,
// which nobody writes to again. What the header block breaks becomes the exchange's refusal.
func fromFiber(c *fiber.Ctx) *Exchange {
	req := c.Request()
	method, target, fields, body := req.Header.Method(), req.Header.RequestURI(), req.Header.RawHeaders(), req.Body()
	buf := make([]byte, 0, len(method)+len(target)+len(fields)+len(body))
	buf = append(append(append(append(buf, method...), target...), fields...), body...)
	take := func(n int) []byte {
		part := buf[:n:n]
		buf = buf[n:]
		return part
	}
	x := &Exchange{
		Method: text(take(len(method))), Target: text(take(len(target))), Scheme: "http",
		HTTP10: string(req.Header.Protocol()) == "HTTP/1.0", Started: time.Now(), Peer: peer(c.Context().RemoteAddr()),
	}
	block := take(len(fields))
	if !x.HTTP10 && !req.Header.IsHTTP11() {
		x.refusal = node.Errorf(node.CodeInvalid, nil, "the request isn't HTTP/1.1 or HTTP/1.0")
		return x
	}
	x.Body = take(len(body))
	if c.Context().IsTLS() {
		x.Scheme = "https"
	}
	if len(block) > 0 {
		var err error
		if x.Header, _, err = mesh.ParseFields(block); err != nil {
			x.refusal = node.Errorf(node.CodeInvalid, err, "the request's header fields are malformed: %s", err)
		}
	}
	return x
}

func peer(addr net.Addr) netip.Addr {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// write gives the response to Fiber. Its body isn't copied: it belongs to the response alone.
func (s *Server) write(c *fiber.Ctx, resp *mesh.Response, closeAfter bool) {
	out := c.Response()
	out.SetStatusCode(resp.Status)
	s.writeHeader(&out.Header, resp.Header)
	if closeAfter {
		out.SetConnectionClose()
	}
	out.SetBodyRaw(resp.Body)
}

// writeHeader adds the fields, and the Date of this moment if the origin gave none (RFC 9110 §6.6.1).
func (s *Server) writeHeader(out *fasthttp.ResponseHeader, h mesh.Header) {
	dated := false
	for _, f := range h {
		switch {
		case equalFold(f.Name, "Date"):
			dated = true
			writeDate(out, f.Value)
		case equalFold(f.Name, "Content-Encoding") && len(out.ContentEncoding()) > 0: // fasthttp keeps one: a list says the same
			out.SetContentEncoding(string(out.ContentEncoding()) + ", " + f.Value)
		default:
			out.Add(f.Name, f.Value)
		}
	}
	if !dated {
		writeDate(out, s.date.now())
	}
}

// writeDate adds a Date field. fasthttp drops one that is added as others are, unless Date is announced as a trailer at
// that moment; the announcement is taken back before anything is written.
func writeDate(out *fasthttp.ResponseHeader, date string) {
	if out.AddTrailer("Date") == nil {
		out.Add("Date", date)
	}
	_ = out.SetTrailer("") // an empty list is always allowed
}

// protocolError answers what fasthttp itself refuses, before there is a request.
func (s *Server) protocolError(ctx *fasthttp.RequestCtx, err error) {
	e := node.Errorf(node.CodeInvalid, err, "the request breaks HTTP")
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		e = node.Errorf(node.CodeTooLarge, err, "the body is larger than the %s that one message carries", node.MaxMessageBody)
	case errors.As(err, &small):
		e = node.Errorf(node.CodeHeaderTooLarge, err, "the request head is larger than %s", s.cfg.Edge.MaxHeader)
	case errors.As(err, &timeout) && timeout.Timeout():
		e = node.Errorf(node.CodeSlowClient, err, "the request took too long to arrive")
	}
	resp := s.refusal(e)
	ctx.Response.Reset()
	ctx.SetStatusCode(resp.Status)
	s.writeHeader(&ctx.Response.Header, resp.Header)
	ctx.Response.SetBodyRaw(resp.Body)
	ctx.SetConnectionClose()
}

// text makes a string of bytes that nobody changes any more, without a copy.
func text(b []byte) string {
	return unsafe.String(unsafe.SliceData(b), len(b))
}
